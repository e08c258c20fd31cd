import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FormatError } from '../../../../node/data/tokenizers/fields.js';
import {
  literalPattern,
  patternOf,
  regexPattern,
} from '../../../../node/data/tokenizers/pattern.js';

const matches = (pattern: string, text: string): string[] =>
  Array.from(text.matchAll(regexPattern(pattern)), ([match]) => match);

describe('patterns of tokenizer.json', () => {
  it("mean by their short classes what Oniguruma's do", () => {
    assert.deepEqual(matches('\\s', ' \u0085\ufeff\u3000'), [' ', '\u0085', '\u3000']);
    assert.deepEqual(matches('\\d', '1\u0663\u00b2'), ['1', '\u0663']);
    assert.deepEqual(matches('\\w+', 'naïve_1 é\u0301-x'), ['naïve_1', 'é\u0301', 'x']);
    assert.deepEqual(matches('[^\\s\\w]', 'a! \u2581'), ['!', '\u2581']);
    assert.deepEqual(matches('\\h+', 'xBEEFg'), ['BEEF']);
    assert.deepEqual(matches('.', 'a\r\n'), ['a', '\r']);
    assert.deepEqual(matches('\\bo', 'ob öo'), ['o']);
    assert.deepEqual(matches('[[:punct:]]', 'a$!'), ['$', '!']);
  });

  it('know lines, ends, properties and scripts', () => {
    assert.deepEqual(matches('^a', 'a\na'), ['a', 'a']);
    assert.deepEqual(matches('\\Aa', 'a\na'), ['a']);
    assert.deepEqual(matches('a\\Z', 'a\na\n'), ['a']);
    assert.deepEqual(matches('\\p{Han}+', 'ab漢字'), ['漢字']);
    assert.deepEqual(matches('\\p{^L}', 'a1'), ['1']);
    assert.deepEqual(matches('[\\p{L}&&[^\\p{Han}]]+', '漢ab字'), ['ab']);
    assert.deepEqual(matches('[a-c[x-z]]+', 'abxyq'), ['abxy']);
  });

  it('fold case within a group alone, with what Unicode folds to ASCII letters', () => {
    assert.deepEqual(matches("(?i:'s|'ll)|b", "'S 'lL B b '\u017f"), ["'S", "'lL", 'b', "'\u017f"]);
    assert.deepEqual(matches('a(?i)b|c', 'aB C aC'), ['aB', 'aC']);
    assert.deepEqual(matches('(?i:[a-c])', 'ABc'), ['A', 'B', 'c']);
  });

  it('give back nothing of a possessive match', () => {
    assert.deepEqual(matches('a++a', 'aaa'), []);
    assert.deepEqual(matches('a+a', 'aaa'), ['aaa']);
    assert.deepEqual(matches('(?>a|ab)c', 'abc ac'), ['ac']);
    assert.deepEqual(matches('a{2}+', 'aaaaa'), ['aaaa']);
  });

  it('take texts as they stand', () => {
    assert.deepEqual(
      Array.from('a.b*'.matchAll(literalPattern('.b*')), ([match]) => match),
      ['.b*'],
    );
    assert.deepEqual('a-b'.split(patternOf({ pattern: { String: '-' } })), ['a', 'b']);
    assert.deepEqual('a1b'.split(patternOf({ pattern: { Regex: '\\d' } })), ['a', 'b']);
  });

  it('are refused where they cannot be read', () => {
    const wrong = [
      '(',
      '[a',
      '\\p{Nothing}',
      '\\p{constructor}',
      '*a',
      '(?&x)',
      '\\q',
      '('.repeat(100),
      'a'.repeat(30_000),
    ];
    for (const pattern of wrong) assert.throws(() => regexPattern(pattern), FormatError, pattern);
    assert.throws(() => patternOf({ pattern: {} }), FormatError);
  });
});
