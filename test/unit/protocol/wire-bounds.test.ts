/** Every field of the wire format has a bound, and no decoder takes or allocates more. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { getHeapStatistics } from 'node:v8';
import { fromHex } from '../../../protocol/bytes.js';
import { WireFormatError } from '../../../protocol/errors.js';
import * as limits from '../../../protocol/limits.js';
import * as generated from '../../../protocol/wire/bounds.js';
import type { MessageBounds } from '../../../protocol/wire/guard.js';
import * as wire from '../../../protocol/wire/messages.js';
import { boundCases, delimited } from '../../wire/encodings.js';
import { faultOf, isScalar, parseSchema, readSchema, valueOf } from '../../wire/schema.js';

const schema = readSchema();
const boundsOf: Readonly<Record<string, MessageBounds>> = generated;
const codecs: Readonly<Record<string, { decode: (bytes: Uint8Array) => unknown }>> = wire;

/** What a refusal may leave on the heap, in bytes: the error, and what a decoder makes before it comes to the fault. */
const REFUSAL_BYTES_MAX = 512 * 1024;

function heldBytes(): number {
  const { used_heap_size: heap, external_memory: external } = getHeapStatistics();
  return heap + external;
}

/**
 * What a call allocates, in bytes: the least of several calls, because the compiler of JavaScript allocates beside
 * some of them, and without those in which garbage was collected.
 */
function allocatedBytes(call: () => void): number {
  const grown: number[] = [];
  for (let attempt = 0; attempt < 50 && grown.length < 4; attempt++) {
    const before = heldBytes();
    call();
    const growth = heldBytes() - before;
    if (growth >= 0) grown.push(growth);
  }
  assert.ok(grown.length > 0, 'garbage was collected in every call');
  return Math.min(...grown);
}

function refused(name: string, bytes: Uint8Array, what: string): void {
  assert.throws(() => codecs[name]?.decode(bytes), WireFormatError, what);
}

describe('the schema', () => {
  it('bounds every bytes, string and repeated field', () => {
    const faults = schema.flatMap(({ name, fields }) =>
      fields.map((field) => `${name}.${field.name} ${faultOf(field)}`),
    );
    assert.ok(faults.length > 150);
    assert.deepEqual(
      faults.filter((fault) => !fault.endsWith(' null')),
      [],
    );
  });

  it('is found wanting where a field has no bound, or one that nobody knows', () => {
    const faults = (field: string): string | null => {
      const [message] = parseSchema(`message X {\n  ${field};\n}`);
      return faultOf(message!.fields[0]!);
    };
    assert.match(faults('bytes a = 1') ?? '', /needs \(bytes\) or \(length\)/);
    assert.match(faults('string a = 1') ?? '', /needs \(bytes\) or \(length\)/);
    assert.match(faults('repeated bytes a = 1 [(length) = 32]') ?? '', /needs \(count\)/);
    assert.match(faults('repeated uint32 a = 1 [packed = false]') ?? '', /needs \(count\)/);
    assert.match(faults('bytes a = 1 [(bytes) = NO_SUCH_LIMIT]') ?? '', /does not know/);
    assert.match(faults('bytes a = 40 [(bytes) = 1]') ?? '', /above 31/);
    assert.equal(faults('bytes a = 1 [(bytes) = ADDRESS_BYTES_MAX]'), null);
    assert.throws(() => parseSchema('message X {\n  map<string, bytes> a = 1;\n}'), /cannot read/);
  });

  it('is what the decoders are bounded by', () => {
    assert.deepEqual(Object.keys(boundsOf).sort(), schema.map(({ name }) => name).sort());
    for (const { name, fields } of schema) {
      const expected = fields.map((field) => ({
        ...{ number: field.number, name: field.name },
        kind: isScalar(field.type) ? field.type : boundsOf[field.type],
        ...Object.fromEntries(
          Object.entries(field.bounds).map(([bound, value]) => [bound, valueOf(value)]),
        ),
      }));
      const listed = boundsOf[name]!.fields.filter((field) => field !== undefined);
      assert.deepEqual(listed, expected, `${name}: run npm run generate:wire`);
    }
  });

  it('has numbers that follow from the limits', () => {
    const { Held, Wanted, BlobOffer, ModelFile, RunInfo } = generated;
    for (const { fields } of [Held, Wanted]) assert.equal(fields[2]?.bytes, limits.EPOCHS_MAX / 8);
    const chunks = limits.BLOB_BYTES_MAX / limits.BLOB_CHUNK_BYTES;
    assert.equal(BlobOffer.fields[1]?.bytes, 32 * chunks);
    assert.equal(BlobOffer.fields[2]?.bytes, chunks / 8);
    assert.equal(ModelFile.fields[3]?.count, limits.MODEL_BYTES_MAX / limits.MODEL_PART_BYTES);
    assert.equal(RunInfo.fields[2]?.count, limits.RUN_PEERS_MAX + 1);
  });
});

describe('every decoder', () => {
  for (const message of schema) {
    it(`of ${message.name} takes each field at its bound, and refuses more without allocating it`, () => {
      for (const { what, bytes, isWithin } of boundCases(message, schema)) {
        const decode = (): unknown => codecs[message.name]!.decode(bytes);
        if (isWithin) assert.doesNotThrow(decode, what);
        else {
          const allocated = allocatedBytes(() => assert.throws(decode, WireFormatError, what));
          assert.ok(allocated < REFUSAL_BYTES_MAX, `${what}: ${allocated} bytes`);
        }
      }
    });
  }

  it('refuses what protons would read differently than it is meant', () => {
    const cases: [string, string, string][] = [
      ['Schedule', '0801' + '0802', 'a singular field twice'],
      ['SyncFrame', '2a00' + '2a00', 'a singular message twice'],
      ['Schedule', '8800' + '01', 'a tag in more bytes than it needs'],
      ['Schedule', '108100', 'a value in more bytes than it needs'],
      ['Schedule', '0881808080808000', 'a uint64 in more bytes than it needs'],
      ['Schedule', '1080808080' + '10', 'a uint32 above 32 bits'],
      ['Schedule', '08ffffffffffffffff7f', 'a uint64 above what a number can hold'],
      ['Schedule', '08' + 'ff'.repeat(12) + '01', 'a varint of 13 bytes'],
      ['Training', '5802', 'a bool that is 2'],
      ['Schedule', '1201' + '01', 'a number as bytes'],
      ['Schedule', '1501000000', 'a number as fixed32'],
      ['Chunk', '0801', 'bytes as a number'],
      ['ReachRequest', '0a020102', 'a packed field where the schema has none'],
      ['Schedule', '0b0801' + '0c', 'a known field as a group'],
      ['Schedule', '7b0801' + '7c', 'an unknown group'],
      ['Schedule', '7e', 'wire type 6'],
      ['Schedule', '0001', 'field number 0'],
      ['Schedule', '08', 'no value'],
      ['Schedule', '80', 'half a tag'],
      ['Training', '19000000', 'half a double'],
      ['Schedule', '7a05' + '0102', 'an unknown field that goes on beyond the end'],
      ['SyncFrame', '0a04' + '0a20' + '0000', 'an inner field that goes on beyond its message'],
      ['SyncFrame', '0a02' + '0a20' + '00'.repeat(32), 'one that goes on where the outer has room'],
    ];
    for (const [name, hex, what] of cases) refused(name, fromHex(hex), what);
  });

  it('steps over unknown fields of any number, at once and whatever is in them', () => {
    // Number 15: a varint, fixed64, fixed32, bytes of any kind, and a message in a message, 2,000 deep.
    let nested: Uint8Array = new Uint8Array();
    for (let i = 0; i < 2_000; i++) nested = delimited(15, nested);
    const unknown = [
      ...[fromHex('7801'), fromHex('79' + '00'.repeat(8)), fromHex('7d' + '00'.repeat(4))],
      ...[delimited(15, new Uint8Array(60_000).fill(0x7a)), nested],
    ];
    const known = fromHex('1001');
    const bytes = Buffer.concat([...unknown, known, ...unknown]);
    assert.equal(wire.Schedule.decode(bytes).epochMs, 1);
    const many = fromHex('7801'.repeat(100_000));
    const allocated = allocatedBytes(() => assert.equal(wire.Schedule.decode(many).epochMs, 0));
    assert.ok(allocated < REFUSAL_BYTES_MAX, `${allocated} bytes`);
  });

  it('counts anew in each message of a repeated one', () => {
    const { ADDRESSES_MAX } = limits;
    const address = delimited(2, new Uint8Array(1));
    const full = Buffer.concat(Array<Uint8Array>(ADDRESSES_MAX).fill(address));
    const two = Buffer.concat([delimited(2, full), delimited(2, full)]);
    assert.equal(wire.RunInfo.decode(two).peers[1]?.addresses.length, ADDRESSES_MAX);
    refused('RunInfo', Buffer.concat([two, delimited(2, Buffer.concat([full, address]))]), 'third');
  });
});
