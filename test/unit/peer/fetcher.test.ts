import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BlobServer } from '../../../node/peer/blob-server.js';
import type { Fetcher } from '../../../node/peer/fetcher.js';
import { NO_FAULTS } from '../../../node/sim/network.js';
import { encodeBlobChunk, type BlobSource } from '../../../protocol/blob.js';
import {
  BLOB_BURST_BYTES,
  BLOB_BYTES_PER_SECOND,
  BLOB_CHUNK_BYTES,
  BLOB_STREAMS_PER_PEER_MAX,
  BLOB_TIMEOUT_MS,
  BLOBS_MAX,
  BLOBS_WAITING_MAX,
} from '../../../protocol/limits.js';
import * as wire from '../../../protocol/wire/messages.js';
import { breaks, donor, lies, RUN_ID, stalls, turning, World } from '../../support/blob-world.js';
import { blobOf, pattern } from '../../support/blobs.js';

const CHUNK = BLOB_CHUNK_BYTES;
const nothing = (): void => undefined;

describe('Fetcher', () => {
  const bytes = pattern(12 * CHUNK + 99);
  const { name, source } = blobOf(bytes);

  /** Counts how often each chunk is read from the source. */
  const counting = (of: BlobSource): { source: BlobSource; reads: Map<number, number> } => {
    const reads = new Map<number, number>();
    const chunk = (index: number): Uint8Array => {
      reads.set(index, (reads.get(index) ?? 0) + 1);
      return of.chunk(index);
    };
    return { source: { ...of, chunk }, reads };
  };

  it('draws each chunk once, from several donors at a time', async () => {
    const world = new World();
    const { source: counted, reads } = counting(source);
    const servers = [
      await world.server(1, () => counted),
      await world.server(2, () => counted),
      await world.server(3, () => undefined),
    ];
    const fetcher = await world.fetcher();
    const donors = [1, 2, 3].map((i) => world.id(i));
    const { value, tookMs } = await world.run(fetcher.fetch(name, { donors }));
    assert.deepEqual(value && Uint8Array.from(value), bytes);
    assert.ok(tookMs < 1000);
    assert.deepEqual([...new Set(reads.values())], [1]);
    assert.ok(servers[0]!.bytes > 2 * CHUNK && servers[1]!.bytes > 2 * CHUNK);
    assert.equal(servers[2]!.bytes, 0);
    assert.deepEqual(world.lies, []);
    await world.end();
  });

  for (const [what, after, patienceMs, isLie] of [
    ['breaks', breaks, 3_000, false],
    ['stalls', stalls, 10_000, false],
    ['lies', lies, 3_000, true],
  ] as const) {
    it(`goes on with another donor where one that ${what} stopped`, async () => {
      const world = new World();
      const { source: counted, reads } = counting(source);
      await world.member(1, turning(bytes, 5, after));
      await world.server(2, () => counted);
      const fetcher = await world.fetcher();
      const first = fetcher.fetch(name, { donors: [world.id(1)] });
      await world.pass(200);
      assert.equal(fetcher.addDonor(name, world.id(2)), !isLie, 'without a donor it ends');
      const second = fetcher.fetch(name, { donors: [world.id(2)] });
      const { value, tookMs } = await world.run(second);
      assert.equal((await first) === null, isLie);
      assert.deepEqual(value && Uint8Array.from(value), bytes);
      assert.ok(tookMs < patienceMs, `${tookMs} ms`);
      assert.equal(
        [...reads.values()].reduce((sum, n) => sum + n),
        13 - 5,
        'five were kept',
      );
      assert.deepEqual(world.lies, isLie ? [world.id(1)] : []);
      assert.equal(fetcher.isLiar(world.id(1)), isLie);
      await world.end();
    });
  }

  it('takes a slow donor’s place as soon as a free one can', async () => {
    const world = new World();
    await world.member(
      1,
      donor(bytes, async (stream, index, chunk) => {
        await world.clock.sleep(6_000);
        await stream.send(encodeBlobChunk(index, chunk));
      }),
    );
    await world.server(2, () => source);
    const fetcher = await world.fetcher();
    const donors = [world.id(1), world.id(2)];
    const { value, tookMs } = await world.run(fetcher.fetch(name, { donors }));
    assert.ok(value !== null && tookMs < 5_000, `${tookMs} ms`);
    await world.end();
  });

  it('bears with the only donor while chunks come, over streams that break', async () => {
    const world = new World();
    const { source: counted, reads } = counting(source);
    await world.server(1, () => counted);
    const fetcher = await world.fetcher();
    world.network.faults = { ...NO_FAULTS, reset: 0.03 };
    const { value } = await world.run(fetcher.fetch(name, { donors: [world.id(1)] }));
    assert.deepEqual(value && Uint8Array.from(value), bytes);
    const total = [...reads.values()].reduce((sum, n) => sum + n);
    assert.ok(total < 13 + 4 * 10, `${total} chunks read for 13`);
    await world.end();
  });

  it('ends without a donor that gives, keeps what came, and takes up from there', async () => {
    const world = new World();
    await world.member(1, turning(bytes, 7, breaks));
    const fetcher = await world.fetcher();
    const first = await world.run(fetcher.fetch(name, { donors: [world.id(1), world.id(9)] }));
    assert.equal(first.value, null);
    assert.equal(fetcher.addDonor(name, world.id(1)), false, 'nothing is being fetched');
    const kept = fetcher.source(name.root)!;
    assert.equal([...Array(13).keys()].filter((i) => kept.has(i)).length, 7);
    const { source: counted, reads } = counting(source);
    await world.server(2, () => counted);
    const second = await world.run(fetcher.fetch(name, { donors: [world.id(2)] }));
    assert.deepEqual(second.value && Uint8Array.from(second.value), bytes);
    assert.equal(reads.size, 6);
    assert.equal(fetcher.source(name.root), undefined);
    await world.end();
  });

  it('asks the reserve only when the donors do not get on', async () => {
    const world = new World();
    const author = await world.server(1, () => source);
    await world.server(2, () => source);
    const fetcher = await world.fetcher();
    const reserve = [world.id(1)];
    await world.run(fetcher.fetch(name, { donors: [world.id(2)], reserve }));
    assert.equal(author.bytes, 0);
    await world.member(3, donor(bytes, stalls));
    const other = await world.fetcher(4);
    const { value, tookMs } = await world.run(
      other.fetch(name, { donors: [world.id(3)], reserve }),
    );
    assert.ok(value !== null && tookMs > 2_000 && tookMs < 10_000, `${tookMs} ms`);
    await world.end();
  });

  it('passes chunks on while they come: a chain takes little longer than one link', async () => {
    const world = new World();
    const origin = await world.server(1, () => source);
    const fetchers: Fetcher[] = [];
    for (let i = 2; i <= 5; i++) {
      const find = (root: string): BlobSource | undefined => fetchers[i - 2]?.source(root);
      const server = new BlobServer({ clock: world.clock, runId: RUN_ID, find }, world.stop.signal);
      fetchers.push(await world.fetcher(i, (stream, from) => server.serve(stream, from)));
    }
    const results = fetchers.map((fetcher, i) =>
      fetcher.fetch(name, { donors: [world.id(i + 1)] }),
    );
    const { value } = await world.run(Promise.all(results));
    for (const each of value) assert.deepEqual(each && Uint8Array.from(each), bytes);
    assert.equal(origin.bytes, bytes.length, 'the origin uploads one copy');
    await world.end();
  });

  it('waits in turn beyond its bounds, refuses beyond those, and two calls share one download', async () => {
    const world = new World();
    await world.member(1, async () => undefined);
    const fetcher = await world.fetcher();
    const donors = [world.id(1)];
    const blob = (i: number) => ({ root: i.toString(16).padStart(64, '0'), size: CHUNK });
    const all = Array.from({ length: BLOBS_MAX + BLOBS_WAITING_MAX + 3 }, (_, i) =>
      fetcher.fetch(blob(i), { donors }),
    );
    const twice = fetcher.fetch(blob(0), { donors });
    let refused = 0;
    for (const each of all) void each.then(() => refused++);
    await world.pass(100);
    assert.equal(refused, 3);
    await world.end();
    await fetcher.ended();
    assert.equal(await twice, null);
    assert.deepEqual(
      await Promise.all(all),
      all.map(() => null),
    );
  });

  it('does not mix up blobs of one root and two sizes', async () => {
    const world = new World();
    await world.server(1, () => source);
    const fetcher = await world.fetcher();
    const wrong = fetcher.fetch({ ...name, size: name.size + CHUNK }, { donors: [world.id(1)] });
    const right = await world.run(fetcher.fetch(name, { donors: [world.id(1)] }));
    assert.deepEqual(right.value && Uint8Array.from(right.value), bytes);
    assert.equal((await world.run(wrong)).value, null);
    await world.end();
  });
});

describe('BlobServer', () => {
  const bytes = pattern(3 * CHUNK);
  const { name, source } = blobOf(bytes);
  const open = wire.BlobFrame.encode({
    open: { runId: Buffer.from(RUN_ID, 'hex'), root: Buffer.from(name.root, 'hex') },
  });
  const want = (index: number): Uint8Array => wire.BlobFrame.encode({ want: { index } });

  const askerOf = async (world: World, frames: Uint8Array[]) => {
    const asker = world.network.online(world.id(0))!;
    const { signal } = world.stop;
    const { value } = await world.run(asker.open('blob', world.id(1), signal));
    for (const frame of frames) await value.send(frame).catch(nothing);
    const seen = { frames: 0, error: null as unknown };
    const reading = async (): Promise<void> => {
      for await (const frame of value.frames) seen.frames += Math.sign(frame.length);
    };
    void reading().catch((error: unknown) => (seen.error = error ?? 'ended'));
    return seen;
  };

  it('drops whoever asks for what was not offered, or twice, or for nothing', async () => {
    const world = new World();
    await world.server(1, () => source);
    await world.fetcher();
    for (const frames of [[open, want(3)], [open, want(0), want(0)], [want(0)], [open, open]]) {
      const seen = await askerOf(world, frames);
      await world.pass(1000);
      assert.ok(seen.error !== null, `${frames.length} frames`);
    }
    const seen = await askerOf(world, [open, want(0), want(2)]);
    await world.pass(1000);
    assert.deepEqual([seen.frames, seen.error], [3, null]);
    await world.end();
  });

  it('serves a peer that many streams at a time, and cuts those that go on for too long', async () => {
    const world = new World();
    await world.server(1, () => source);
    await world.fetcher();
    const all = [];
    for (let i = 0; i < BLOB_STREAMS_PER_PEER_MAX + 2; i++) all.push(await askerOf(world, [open]));
    await world.pass(1000);
    assert.equal(all.filter(({ error }) => error !== null).length, 2);
    await world.pass(BLOB_TIMEOUT_MS);
    assert.ok(all.every(({ error }) => error !== null));
    const again = await askerOf(world, [open]);
    await world.pass(1000);
    assert.equal(again.error, null);
    await world.end();
  });

  it('gives a peer its burst at once and no more than its rate after that', async () => {
    const world = new World();
    // One chunk as large as it gets, many times over: nothing here is copied.
    const chunk = new Uint8Array(CHUNK);
    const endless: BlobSource = {
      ...source,
      hashes: null,
      chunkCount: 4096,
      has: () => true,
      chunk: () => chunk,
    };
    const server = await world.server(1, () => endless);
    await world.fetcher();
    const wishes = Array.from({ length: 1000 }, (_, index) => want(index));
    await askerOf(world, [open, ...wishes]);
    await world.pass(100);
    assert.ok(server.bytes <= BLOB_BURST_BYTES + 2 * CHUNK, `${server.bytes} bytes at once`);
    assert.ok(server.bytes > BLOB_BURST_BYTES - 2 * CHUNK);
    const before = server.bytes;
    await world.pass(10_000);
    const rate = (server.bytes - before) / 10;
    assert.ok(Math.abs(rate / BLOB_BYTES_PER_SECOND - 1) < 0.05, `${rate} bytes a second`);
    await world.end();
  });
});
