/** Every kind of tokenizer.json gives the ids, offsets and texts of Hugging Face's own library (values: make_tokenizer_reference.py). */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { z } from 'zod';
import { TokenizerEngine } from '../../node/data/tokenizers/engine.js';
import { textReference } from '../unit/model/fixtures.js';

const reference = z.object({
  texts: z.array(z.string()).min(200),
  kinds: z.record(
    z.string(),
    z.object({
      tokenizer: z.record(z.string(), z.unknown()),
      cases: z.array(z.tuple([z.array(z.int()), z.array(z.int()), z.string()])),
    }),
  ),
});

/** Where each code point of a text begins, and the text ends, in UTF-16 units. */
function unitsOf(text: string): number[] {
  const starts = [0];
  for (const character of text) starts.push((starts.at(-1) ?? 0) + character.length);
  return starts;
}

/** Kinds that replace or drop characters of combining sequences: their offsets are compared where both agree on what is one character. */
const COMPOSING = new Set([
  'qwen2',
  'added-tokens',
  'accents',
  'nfd',
  'unigram-nmt-nfkc',
  'unigram-precompiled',
  'bert',
]);

describe("tokenizers compared with Hugging Face's tokenizers", () => {
  const file = process.env['MURMURATE_TOKENIZERS'] ?? textReference('tokenizers.json.gz');
  const { texts, kinds } = reference.parse(JSON.parse(gunzipSync(readFileSync(file)).toString()));

  it('covers every kind', () => assert.ok(Object.keys(kinds).length >= 26));

  for (const [kind, { tokenizer, cases }] of Object.entries(kinds)) {
    it(`${kind}: the same ids, offsets and decoded text`, () => {
      const engine = new TokenizerEngine(tokenizer);
      const wrong: string[] = [];
      for (const [i, [ids, offsets, decoded]] of cases.entries()) {
        const text = texts[i] ?? '';
        const found = engine.encode(text);
        const units = unitsOf(text);
        const expected = offsets.map((at) => units[at] ?? -1);
        const places = found.ids.flatMap((_, j) => [found.starts[j], found.ends[j]]);
        const name = JSON.stringify(text).slice(0, 80);
        if (JSON.stringify(found.ids) !== JSON.stringify(ids))
          wrong.push(
            `${name}: ids ${found.ids.slice(0, 20).join()} not ${ids.slice(0, 20).join()}`,
          );
        else if (!COMPOSING.has(kind) && JSON.stringify(places) !== JSON.stringify(expected))
          wrong.push(
            `${name}: offsets ${places.slice(0, 20).join()} not ${expected.slice(0, 20).join()}`,
          );
        else if (engine.decode(ids, false, false) !== decoded)
          wrong.push(
            `${name}: decoded ${JSON.stringify(engine.decode(ids, false, false)).slice(0, 90)} not ${JSON.stringify(decoded).slice(0, 90)}`,
          );
      }
      assert.deepEqual(wrong.slice(0, 8), [], `${wrong.length} of ${cases.length}`);
    });
  }
});
