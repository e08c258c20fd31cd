import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  BlobAsker,
  BlobGiver,
  blobRoot,
  chunkCount,
  chunkHashes,
  decodeBlobOpen,
  encodeBlobAbsent,
  encodeBlobChunk,
  PartialBlob,
  sliceOf,
  wholeBlob,
} from '../../../protocol/blob.js';
import { fromHex, sha256, toHex } from '../../../protocol/bytes.js';
import { BlobProtocolError } from '../../../protocol/errors.js';
import {
  ADAPTER_SIZE_MAX,
  BLOB_BYTES_MAX,
  BLOB_CHUNK_BYTES,
  SYNC_FRAME_BYTES_MAX,
  UPDATE_BYTES_MAX,
} from '../../../protocol/limits.js';
import * as wire from '../../../protocol/wire/messages.js';
import { pattern, blobOf } from '../../support/blobs.js';

const RUN_ID = 'c3'.repeat(32);
const CHUNK = BLOB_CHUNK_BYTES;

/** An asker of `bytes` that has heard an offer of all chunks. */
function offered(bytes: Uint8Array) {
  const { name, source, hashes } = blobOf(bytes);
  const blob = new PartialBlob(name);
  const asker = new BlobAsker(blob);
  asker.receive(new BlobGiver(source).offer()!);
  return { blob, asker, hashes, name, source };
}

const offer = (hashes: Uint8Array, held: number[]): Uint8Array =>
  wire.BlobFrame.encode({ offer: { hashes: hashes.slice(), held: Uint8Array.from(held) } });

const isLie = (error: unknown): boolean => error instanceof BlobProtocolError;

describe('a blob', () => {
  it('has a root over the hashes of its chunks, however its bytes are cut into parts', () => {
    for (const size of [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5]) {
      const bytes = pattern(size);
      const list: Uint8Array[] = [];
      for (let i = 0; i < size; i += CHUNK) list.push(sha256(bytes.subarray(i, i + CHUNK)));
      const hashes = Buffer.concat(list);
      assert.equal(chunkCount(size), list.length);
      for (const cut of [0, 1, size >> 1, size]) {
        const parts = [bytes.subarray(0, cut), bytes.subarray(cut)];
        assert.deepEqual(Buffer.from(chunkHashes(parts)), hashes);
      }
      assert.equal(toHex(blobRoot(hashes)), toHex(sha256(hashes)));
    }
  });

  it('is cut anywhere across its parts', () => {
    const bytes = pattern(100);
    const parts = [bytes.subarray(0, 7), bytes.subarray(7, 7), bytes.subarray(7, 60)];
    parts.push(bytes.subarray(60));
    for (const [start, end] of [
      [0, 100],
      [0, 7],
      [6, 8],
      [7, 60],
      [50, 99],
      [100, 120],
      [5, 5],
    ]) {
      assert.deepEqual(
        Uint8Array.from(sliceOf(parts, start!, end!)),
        Uint8Array.from(bytes.subarray(start, end)),
      );
    }
  });

  it('goes across chunk by chunk in any order, and each chunk is one frame within the bound', () => {
    for (const size of [1, CHUNK, 2 * CHUNK + 17]) {
      const bytes = pattern(size);
      const { name, source } = blobOf(bytes);
      const blob = new PartialBlob(name);
      const asker = new BlobAsker(blob);
      const giver = new BlobGiver(source);
      assert.equal(decodeBlobOpen(RUN_ID, asker.hello(RUN_ID)), name.root);
      assert.deepEqual(asker.receive(giver.offer()!), { kind: 'offer' });
      assert.equal(giver.offer(), null);
      for (let i = blob.chunkCount - 1; i >= 0; i--) {
        assert.equal(blob.bytes, null);
        assert.ok(asker.canAsk(i));
        const given = giver.receive(asker.ask(i));
        assert.equal(asker.asked, 1);
        const frame = encodeBlobChunk(given.index, given.bytes);
        assert.ok(frame.length <= SYNC_FRAME_BYTES_MAX, `${frame.length} bytes`);
        assert.deepEqual(asker.receive(frame), { kind: 'chunk', index: i });
      }
      assert.deepEqual(Uint8Array.from(blob.bytes!), bytes);
    }
  });

  it('is passed on while it comes: each gain can be offered, with the hashes once', () => {
    const bytes = pattern(2 * CHUNK + 1);
    const { source, name, hashes } = blobOf(bytes);
    const blob = new PartialBlob(name);
    const giver = new BlobGiver(blob);
    const far = new BlobAsker(new PartialBlob(name));
    let gains = 0;
    const end = blob.onMore(() => gains++);
    far.receive(giver.offer()!);
    assert.equal(far.canAsk(0), false);
    assert.throws(() => giver.receive(far.ask(0)), isLie);
    blob.takeHashes(hashes);
    assert.equal(giver.offer(), null);
    for (const i of [2, 0, 1]) {
      blob.takeChunk(i, source.chunk(i));
      blob.takeChunk(i, source.chunk(i));
      far.receive(giver.offer()!);
    }
    assert.equal(gains, 3);
    end();
    assert.deepEqual(
      [1, 2].map((i) => far.canAsk(i)),
      [true, true],
    );
  });

  it('is bounded, and hashes of the largest fit into one frame, as does any update', () => {
    assert.throws(() => new PartialBlob({ root: '', size: BLOB_BYTES_MAX + 1 }), RangeError);
    assert.throws(() => new PartialBlob({ root: '', size: -1 }), RangeError);
    assert.throws(() => new PartialBlob({ root: '', size: NaN }), RangeError);
    assert.ok(8 * ADAPTER_SIZE_MAX <= BLOB_BYTES_MAX && UPDATE_BYTES_MAX <= BLOB_BYTES_MAX);
    const count = chunkCount(BLOB_BYTES_MAX);
    const frame = offer(new Uint8Array(32 * count), new Array<number>(count / 8).fill(255));
    assert.ok(frame.length <= SYNC_FRAME_BYTES_MAX, `${frame.length} bytes`);
    assert.equal(new PartialBlob({ root: toHex(sha256()), size: 0 }).bytes?.length, 0);
  });
});

describe('the asker of a blob', () => {
  it('takes no hashes that the root does not name', () => {
    const { name, hashes } = blobOf(pattern(2 * CHUNK));
    const wrong = [
      hashes.subarray(32),
      Buffer.concat([hashes, hashes.subarray(0, 32)]),
      hashes.map((byte, i) => (i === 40 ? byte ^ 1 : byte)),
      hashes.subarray(1),
    ];
    for (const bad of wrong) {
      const asker = new BlobAsker(new PartialBlob(name));
      assert.throws(() => asker.receive(offer(bad, [3])), isLie);
      assert.equal(asker.canAsk(0), false);
    }
  });

  it('takes no hashes for another size, also under the right root', () => {
    const { name, hashes } = blobOf(pattern(2 * CHUNK));
    const asker = new BlobAsker(new PartialBlob({ ...name, size: 3 * CHUNK }));
    assert.throws(() => asker.receive(offer(hashes, [3])), isLie);
  });

  it('takes no chunk that is wrong, short, long, not asked for or sent twice', () => {
    const bytes = pattern(2 * CHUNK + 9);
    const right = bytes.subarray(CHUNK, 2 * CHUNK);
    const flipped = right.map((byte, i) => (i === 1000 ? byte ^ 128 : byte));
    for (const bad of [flipped, right.subarray(1), new Uint8Array(), bytes.subarray(0, CHUNK)]) {
      const { asker, blob } = offered(bytes);
      asker.ask(1);
      assert.throws(() => asker.receive(encodeBlobChunk(1, bad)), isLie);
      assert.equal(blob.held, 0);
    }
    const { asker, blob } = offered(bytes);
    assert.throws(() => asker.receive(encodeBlobChunk(1, right)), isLie);
    asker.ask(1);
    asker.receive(encodeBlobChunk(1, right));
    assert.throws(() => asker.receive(encodeBlobChunk(1, right)), isLie);
    assert.throws(() => asker.receive(encodeBlobChunk(4_000_000_000, right)), isLie);
    assert.equal(blob.held, 1);
  });

  it('takes no offer of nothing new, of chunks beyond the end or of chunks without hashes', () => {
    const bytes = pattern(2 * CHUNK);
    const { asker, hashes, name } = offered(bytes);
    assert.throws(() => asker.receive(offer(new Uint8Array(), [3])), isLie);
    assert.throws(() => asker.receive(offer(new Uint8Array(), [1])), isLie);
    const fresh = (): BlobAsker => new BlobAsker(new PartialBlob(name));
    assert.throws(() => fresh().receive(offer(hashes, [3, 0])), isLie);
    assert.throws(() => fresh().receive(offer(new Uint8Array(), [1])), isLie);
    const empty = fresh();
    empty.receive(offer(new Uint8Array(), []));
    assert.throws(() => empty.receive(offer(new Uint8Array(), [])), isLie);
  });

  it('takes absent as the first answer only, and no frame of its own side', () => {
    const { name } = blobOf(pattern(CHUNK));
    const fresh = (): BlobAsker => new BlobAsker(new PartialBlob(name));
    assert.deepEqual(fresh().receive(encodeBlobAbsent()), { kind: 'absent' });
    assert.throws(() => offered(pattern(CHUNK)).asker.receive(encodeBlobAbsent()), isLie);
    const own = [
      wire.BlobFrame.encode({ want: { index: 0 } }),
      fresh().hello(RUN_ID),
      new Uint8Array(),
      Uint8Array.of(0xff, 0xff),
      wire.BlobFrame.encode({
        absent: {},
        offer: { hashes: new Uint8Array(), held: new Uint8Array() },
      }),
    ];
    for (const frame of own) assert.throws(() => fresh().receive(frame), isLie);
  });
});

describe('the giver of a blob', () => {
  it('gives each chunk once, and none that it has not offered', () => {
    const { source } = blobOf(pattern(2 * CHUNK));
    const giver = new BlobGiver(source);
    const want = (index: number): Uint8Array => wire.BlobFrame.encode({ want: { index } });
    giver.receive(want(1));
    assert.throws(() => giver.receive(want(1)), isLie);
    assert.throws(() => giver.receive(want(2)), isLie);
    assert.throws(() => giver.receive(want(4_294_967_295)), isLie);
    assert.throws(() => giver.receive(encodeBlobAbsent()), isLie);
    assert.throws(() => giver.receive(Uint8Array.of(1, 2, 3)), isLie);
  });

  it('opens for its own run and a whole root only', () => {
    const open = (runId: Uint8Array, root: Uint8Array): Uint8Array =>
      wire.BlobFrame.encode({ open: { runId: runId.slice(), root: root.slice() } });
    const run = fromHex(RUN_ID);
    assert.equal(decodeBlobOpen(RUN_ID, open(run, run)), RUN_ID);
    for (const bad of [
      open(sha256(), run),
      open(run, run.subarray(1)),
      open(run, new Uint8Array(33)),
      open(new Uint8Array(), run),
      wire.BlobFrame.encode({ want: { index: 0 } }),
      new Uint8Array(),
    ])
      assert.throws(() => decodeBlobOpen(RUN_ID, bad), isLie);
  });

  it('serves a whole blob from its parts', () => {
    const bytes = pattern(CHUNK + 3);
    const source = wholeBlob([bytes.subarray(0, 5), bytes.subarray(5)], chunkHashes([bytes]));
    assert.deepEqual(Uint8Array.from(source.chunk(0)), bytes.slice(0, CHUNK));
    assert.deepEqual(Uint8Array.from(source.chunk(1)), bytes.slice(CHUNK));
    assert.equal(source.chunkCount, 2);
  });
});
