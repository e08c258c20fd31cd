import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import type { Tokenizer } from '../../../node/data/tokenizer.js';
import { TextStream } from '../../../node/train/text-stream.js';

/** A token a byte, as a byte-level tokenizer falls back to. */
const bytes: Tokenizer = {
  encode: (text) => [...new TextEncoder().encode(text)],
  encodeWithOffsets: () => assert.fail('nobody asks'),
  encodeContinuation: () => assert.fail('nobody asks'),
  decode: (ids) => new TextDecoder().decode(Uint8Array.from(ids)),
  decodeContinuation: (ids) => new TextDecoder().decode(Uint8Array.from(ids)),
  specialTokens: new Map(),
  ...{ vocabSize: 256, prefixIds: [], eosTokenId: 0, padTokenId: 0 },
};

function stream(text: string, stops: string[]): { pieces: string[]; stopped: boolean } {
  const pieces: string[] = [];
  const writer = new TextStream(bytes, stops, (piece) => pieces.push(piece));
  for (const id of bytes.encode(text)) writer.push(id);
  writer.end();
  assert.equal(writer.text, pieces.join(''));
  return { pieces, stopped: writer.stopped };
}

describe('TextStream', () => {
  it('hands out whole characters, whatever their bytes', () => {
    const { pieces } = stream('Zoë 🔧 Ångström', []);
    assert.equal(pieces.join(''), 'Zoë 🔧 Ångström');
    assert.ok(!pieces.some((piece) => piece.includes('\uFFFD')));
    assert.ok(pieces.includes('🔧'));
  });

  it('ends before the first stop text, of which it shows nothing on the way', () => {
    assert.deepEqual(stream('one\nQ: two', ['\nQ:', 'tw']), {
      pieces: ['o', 'n', 'e'],
      stopped: true,
    });
  });

  it('hands out what only looked like a stop text', () => {
    const { pieces, stopped } = stream('a\nQ', ['\nQ:']);
    assert.deepEqual([pieces, stopped], [['a', '\nQ'], false]);
  });

  it('shows of any text what comes before the first of any stops', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'é'), maxLength: 20 });
    const stops = fc.array(
      fc.string({ unit: fc.constantFrom('a', 'b', 'é'), minLength: 1, maxLength: 4 }),
      { maxLength: 3 },
    );
    fc.assert(
      fc.property(letters, stops, (text, some) => {
        // The stop whose end comes first is seen first.
        let end = text.length;
        for (let i = 1; i <= text.length && end === text.length; i++) {
          const found = some.map((stop) => text.slice(0, i).indexOf(stop)).filter((at) => at >= 0);
          if (found.length > 0) end = Math.min(...found);
        }
        assert.equal(stream(text, some).pieces.join(''), text.slice(0, end));
      }),
    );
  });
});
