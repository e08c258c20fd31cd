/** The wire format and the arithmetic of version 1, pinned byte for byte (docs/PROTOCOL.md). */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { fromHex, toHex } from '../../../protocol/bytes.js';
import { decodeGossip } from '../../../protocol/gossip.js';
import { decodeManifest } from '../../../protocol/manifest-codec.js';
import { RowFormats } from '../../../protocol/row-format.js';
import * as wire from '../../../protocol/wire/messages.js';
import { makeVectors, VECTORS_FILE } from '../../reference/protocol/vectors.js';

const BREAKS =
  'differs from test/reference/protocol/vectors.json: this breaks the protocol. Peers of two builds ' +
  'would no longer understand each other or hold one adapter. Take the change back, or give it a new ' +
  'protocol version with names and vectors of its own';

/** Every value of a tree of objects and arrays with its path, e.g. ["runs.plain.runId", "4f..."]. */
function leaves(value: unknown, path = ''): [string, unknown][] {
  if (typeof value !== 'object' || value === null) return [[path, value]];
  return Object.entries(value).flatMap(([key, child]) =>
    leaves(child, path === '' ? key : `${path}.${key}`),
  );
}

/** Field 99 with the value 1: nothing of version 1.0. */
const UNKNOWN_FIELD = fromHex('980601');

const GOSSIP = ['amendment', 'announcement', 'equivocation'];

/** Decodes the message `name` of vectors.json and encodes it again. */
function readAndWrite(name: string, bytes: Uint8Array): Uint8Array {
  const through = <T>(type: {
    decode: (bytes: Uint8Array) => T;
    encode: (message: T) => Uint8Array;
  }): Uint8Array => type.encode(type.decode(bytes));
  if (GOSSIP.includes(name)) return through(wire.Gossip);
  if (name.startsWith('blob')) return through(wire.BlobFrame);
  if (name === 'introduceRequest') return through(wire.IntroduceRequest);
  if (name === 'introduceResponse') return through(wire.IntroduceResponse);
  if (name === 'reachRequest') return through(wire.ReachRequest);
  if (name === 'reachResponse') return through(wire.ReachResponse);
  return through(wire.SyncFrame);
}

/** The vectors of this build; code that cannot even make them is another protocol too. */
function compute(): Record<string, unknown> {
  try {
    return makeVectors();
  } catch (cause) {
    throw new assert.AssertionError({ message: `${String(cause)}: making the vectors ${BREAKS}` });
  }
}

describe('golden vectors', async () => {
  const pinned = JSON.parse(await readFile(VECTORS_FILE, 'utf8')) as Record<string, unknown>;
  const computed = compute();

  for (const section of Object.keys(computed)) {
    it(`pins every byte of ${section}`, () => {
      const expected = new Map(leaves(pinned[section], section));
      assert.ok(expected.size > 1, `${section} is missing in vectors.json`);
      for (const [path, value] of leaves(computed[section], section)) {
        assert.strictEqual(value, expected.get(path), `${path} ${BREAKS}`);
        expected.delete(path);
      }
      assert.deepEqual(
        [...expected.keys()],
        [],
        `vectors.json holds what nothing computes: ${BREAKS}`,
      );
    });
  }

  it('pins each kind of message that two peers exchange', () => {
    const kinds = Object.keys(computed.messages as object).sort();
    assert.deepEqual(kinds, [
      'amendment',
      'announcement',
      'blobAbsent',
      'blobChunk',
      'blobOffer',
      'blobOpen',
      'blobWant',
      'chunk',
      'end',
      'equivocation',
      'have',
      'haveAmended',
      'haveEvicted',
      'introduceRequest',
      'introduceResponse',
      'lastChunk',
      'opening',
      'reachRequest',
      'reachResponse',
      'syncEquivocation',
      'want',
    ]);
    assert.deepEqual(Object.keys(pinned).sort(), Object.keys(computed).sort());
  });

  it('understands for ever what version 1.0 sent, as vectors.json has it, and as a later minor version may add to it', () => {
    const { runs, messages } = pinned as {
      runs: { plain: { manifest: string } };
      messages: Record<string, string>;
    };
    const run = decodeManifest(fromHex(runs.plain.manifest));
    const formats = new RowFormats(run);
    for (const [name, hex] of Object.entries(messages)) {
      const bytes = fromHex(hex);
      for (const sent of [bytes, Buffer.concat([bytes, UNKNOWN_FIELD])]) {
        assert.equal(toHex(readAndWrite(name, sent)), hex, name);
        if (GOSSIP.includes(name)) assert.equal(decodeGossip(run, formats, sent).kind, name);
      }
    }
  });
});
