import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { TokenizerEngine } from '../../../../node/data/tokenizers/engine.js';
import { FormatError, type Fields } from '../../../../node/data/tokenizers/fields.js';
import { TINY_BASE } from '../../model/fixtures.js';

const tinyBase = JSON.parse(readFileSync(join(TINY_BASE, 'tokenizer.json'), 'utf8')) as Fields;

/** Whole words, with what `fields` say. */
function words(fields: Fields, tokens: readonly string[]): TokenizerEngine {
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  const model = { type: 'WordLevel', vocab, unk_token: tokens[0] };
  return new TokenizerEngine({ pre_tokenizer: { type: 'WhitespaceSplit' }, ...fields, model });
}

describe('TokenizerEngine', () => {
  it('says of every token where it came from: the stretches cover the text in order', () => {
    const engine = new TokenizerEngine(tinyBase);
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (text) => {
        const { ids, starts, ends } = engine.encode(text);
        assert.deepEqual([starts.length, ends.length], [ids.length, ids.length]);
        let covered = 0;
        for (const [i, start] of starts.entries()) {
          const end = ends[i] ?? 0;
          // Bytes of one character share its place.
          assert.ok(start <= covered && end > start && end >= covered, text);
          covered = end;
        }
        assert.equal(covered, text.length);
      }),
    );
  });

  it('takes a lone surrogate for U+FFFD, and keeps its place', () => {
    const engine = new TokenizerEngine(tinyBase);
    const [lone, replaced] = [engine.encode('a\ud800b'), engine.encode('a\ufffdb')];
    assert.deepEqual(lone, replaced);
  });

  it('tokenises a word of a million characters in time that grows with its length', () => {
    const engine = new TokenizerEngine(tinyBase);
    const timeOf = (length: number): number => {
      const startMs = performance.now();
      assert.ok(engine.encode('ab'.repeat(length / 2)).ids.length > 0);
      return performance.now() - startMs;
    };
    timeOf(50_000);
    const [short, long] = [timeOf(100_000), timeOf(800_000)];
    assert.ok(long < 40 * (short + 50), `${short} ms, and ${long} ms for eight times as much`);
  });

  it('finds added tokens, the longest first, with white space and word borders as they ask', () => {
    const added = [
      { id: 10, content: '<a>', lstrip: true, rstrip: true, special: true },
      { id: 11, content: '<a><b>', special: true },
      { id: 12, content: 'key', single_word: true, normalized: false },
    ];
    const engine = words({ added_tokens: added }, ['?', 'x', 'keys']);
    const { ids, starts, ends } = engine.encode('x  <a>  keys <a><b> key');
    assert.deepEqual(ids, [1, 10, 2, 11, 12]);
    assert.deepEqual([starts[1], ends[1]], [1, 8]);
  });

  it('keeps places through normalization', () => {
    const engine = words({ normalizer: { type: 'NFKC' } }, ['?', 'fine', 'é']);
    const { ids, starts, ends } = engine.encode('ﬁne e\u0301');
    assert.deepEqual(ids, [1, 2]);
    assert.deepEqual([starts[0], ends[0], starts[1]], [0, 3, 4]);
  });

  it('decodes special tokens or leaves them out', () => {
    const engine = new TokenizerEngine(tinyBase);
    const { ids } = engine.encode('<|im_start|>user');
    assert.equal(engine.decode(ids, false, false), '<|im_start|>user');
    assert.equal(engine.decode(ids, true, false), 'user');
    assert.equal(engine.decode([999_999], true, false), '');
  });

  it('refuses what it does not know, and a text that nothing stands for', () => {
    const wrong: Fields[] = [
      { model: { type: 'Magic' } },
      { ...tinyBase, normalizer: { type: 'Magic' } },
      { ...tinyBase, pre_tokenizer: { type: 'Magic' } },
      { ...tinyBase, decoder: { type: 'Magic' } },
      {
        ...tinyBase,
        pre_tokenizer: { type: 'Split', pattern: { Regex: '(' }, behavior: 'Isolated' },
      },
      { ...tinyBase, added_tokens: [{ id: -1, content: 'a' }] },
      { model: { type: 'BPE', vocab: { a: 0 }, merges: ['a b'] } },
      { model: { type: 'Unigram', vocab: [['a', 0]], unk_id: 5 } },
    ];
    for (const config of wrong) assert.throws(() => new TokenizerEngine(config), FormatError);
    const letters = { type: 'Unigram', vocab: [['a', 0]], unk_id: null };
    assert.throws(() => new TokenizerEngine({ model: letters }).encode('b'), FormatError);
  });
});
