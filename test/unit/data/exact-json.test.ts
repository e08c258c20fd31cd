import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { ExactNumber, parseExactly } from '../../../node/data/exact-json.js';
import { jsonOf } from '../../../node/data/jinja.js';

const written = (text: string): string => jsonOf(parseExactly(text));

describe('JSON is read as Python reads it', () => {
  it('keeps numbers as they are: floats that are whole, and whole numbers of any size', () => {
    const text =
      '{"a": 1.0, "b": [12345678901234567890, -0.0, 9007199254740993], "c": 1e-07, "d": 3, "e": 0.5}';
    assert.equal(written(text), text);
    assert.equal(written('[1E2, 1e16, 10e15]'), '[100.0, 1e+16, 1e+16]');
    assert.ok(parseExactly('1.0') instanceof ExactNumber);
    assert.deepEqual(parseExactly('[0.5, 7, 1e-7]'), [0.5, 7, 1e-7], 'others are plain numbers');
  });

  it('keeps keys in their order, numbers and __proto__ too', () => {
    const text = '{"b": 1, "10": 2, "9": {"2": 3, "1": 4}, "__proto__": 5}';
    assert.equal(written(text), text);
    assert.equal(written('{"a": 1, "a": 2}'), '{"a": 2}', 'the last of two counts');
  });

  it('reads any JSON as JSON.parse does, numbers by their value', () => {
    const plain = (value: unknown): unknown => {
      if (value instanceof ExactNumber) return Number(value);
      if (Array.isArray(value)) return value.map(plain);
      if (typeof value !== 'object' || value === null) return value;
      const entries: [string, unknown][] =
        value instanceof Map ? [...(value as Map<string, unknown>)] : Object.entries(value);
      const sorted = entries.sort(([a], [b]) => (a < b ? -1 : 1));
      return new Map(sorted.map(([key, one]) => [key, plain(one)]));
    };
    fc.assert(
      fc.property(fc.json(), (text) => {
        assert.deepEqual(plain(parseExactly(text)), plain(JSON.parse(text)));
      }),
    );
  });

  it('refuses what is no JSON', () => {
    for (const text of ['', '{', '[1.0', '{"1": }', '01.0', '[1.0,]']) {
      assert.throws(() => parseExactly(text), SyntaxError);
    }
  });
});
