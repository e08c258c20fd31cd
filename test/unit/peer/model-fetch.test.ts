/** The base model from members, whoever of them lies, leaves or comes later. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ModelSource } from '../../../node/interfaces.js';
import { ModelFetch, type Shelf } from '../../../node/peer/model-fetch.js';
import { decodeBlobOpen, type BlobSource } from '../../../protocol/blob.js';
import { BLOB_CHUNK_BYTES } from '../../../protocol/limits.js';
import type { ModelPart } from '../../../protocol/model-files.js';
import { breaks, lies, RUN_ID, turning, World, type Serve } from '../../support/blob-world.js';
import { blobOf, pattern } from '../../support/blobs.js';

const CHUNK = BLOB_CHUNK_BYTES;
const catalogue = blobOf(pattern(700));
const bodies = Array.from({ length: 5 }, (_, i) =>
  Uint8Array.from(Buffer.alloc(6 * CHUNK + 9, pattern(1000 + i))),
);
const parts: ModelPart[] = bodies.map((bytes, i) => ({
  ...{ file: 'model.safetensors', offset: i * bytes.length },
  ...blobOf(bytes).name,
}));

const blobs = new Map<string, BlobSource>(
  [pattern(700), ...bodies].map((bytes) => {
    const { name, source: whole } = blobOf(bytes);
    return [name.root, whole];
  }),
);

/** Everything of the model, read after a moment as from a disk. */
function source(world: World): ModelSource {
  return {
    find: async (root) => {
      await world.clock.sleep(5);
      const blob = blobs.get(root);
      return blob && { ...blob, chunk: (i) => world.clock.sleep(5).then(() => blob.chunk(i)) };
    },
  };
}

/** A member that has the catalogue, and gives each part as `give` says. */
function having(give: (bytes: Uint8Array) => Serve): Serve {
  return async (stream, from) => {
    const frames = stream.frames[Symbol.asyncIterator]();
    const first = await frames.next();
    if (first.done === true) return;
    const root = decodeBlobOpen(RUN_ID, first.value);
    const body = bodies[parts.findIndex((part) => part.root === root)];
    const all = async function* (): AsyncGenerator<Uint8Array> {
      yield first.value;
      for (let next = await frames.next(); next.done !== true; next = await frames.next())
        yield next.value;
    };
    const serve = body === undefined ? turning(pattern(700), 99, lies) : give(body);
    const whole = {
      frames: all(),
      send: (frame: Uint8Array) => stream.send(frame),
      close: () => stream.close(),
      abort: (error: Error) => stream.abort(error),
    };
    await serve(whole, from);
  };
}

class MemoryShelf implements Shelf {
  missing: ModelPart[] = [...parts];
  readonly taken: ModelPart[] = [];

  async put(part: ModelPart, bytes: Uint8Array): Promise<void> {
    assert.ok(Buffer.from(bytes).equals(bodies[parts.indexOf(part)]!));
    this.missing = this.missing.filter((other) => other !== part);
    this.taken.push(part);
    await Promise.resolve();
  }
}

const nothing = (): undefined => undefined;

async function fetchIn(world: World, index = 0): Promise<ModelFetch> {
  return new ModelFetch(await world.parts(index), world.stop.signal);
}

/** Ends the world, and with it all that waits. */
async function end(world: World, ...fetches: ModelFetch[]): Promise<void> {
  await world.end();
  for (const fetch of fetches) await fetch.ended();
}

describe('ModelFetch', () => {
  it('takes parts from all who gave the catalogue, and asks nobody else', async () => {
    const world = new World();
    const servers = [
      await world.server(1, nothing, source(world)),
      await world.server(2, nothing, source(world)),
      await world.server(3, nothing, null),
    ];
    const fetch = await fetchIn(world);
    for (const [index, gives] of [true, true, false].entries()) {
      const { value } = await world.run(fetch.ask(world.id(index + 1), catalogue.name));
      assert.deepEqual(value && Uint8Array.from(value), gives ? pattern(700) : null);
    }
    const shelf = new MemoryShelf();
    await world.run(fetch.fill(shelf));
    assert.deepEqual(shelf.missing, []);
    const [first, second, third] = servers.map(({ modelBytes }) => modelBytes);
    assert.equal(first! + second!, 2 * 700 + bodies.length * bodies[0]!.length);
    assert.ok(first! > 4 * CHUNK && second! > 4 * CHUNK, `${first} and ${second}`);
    assert.equal(third, 0);
    assert.equal(fetch.bytesUnderWay, 0);
    await end(world, fetch);
  });

  it('begins at different parts at different newcomers', async () => {
    const world = new World();
    await world.server(1, nothing, source(world));
    const shelves = [new MemoryShelf(), new MemoryShelf()];
    const fetches: ModelFetch[] = [];
    for (const [i, shelf] of shelves.entries()) {
      const fetch = await fetchIn(world, 10 + i);
      fetches.push(fetch);
      await world.run(fetch.ask(world.id(1), catalogue.name));
      await world.run(fetch.fill(shelf));
    }
    assert.notDeepEqual(shelves[0]!.taken, shelves[1]!.taken);
    await end(world, ...fetches);
  });

  it('never asks again who lied, in the catalogue or in a part, and loses nothing by it', async () => {
    const world = new World();
    const honest = source(world);
    await world.member(
      1,
      having((bytes) => turning(bytes, 1, lies)),
    );
    await world.member(2, turning(pattern(700), 0, lies));
    await world.server(3, nothing, honest);
    const fetch = await fetchIn(world);
    for (const index of [1, 2, 3]) await world.run(fetch.ask(world.id(index), catalogue.name));
    assert.deepEqual([...fetch.donors].sort(), [world.id(1), world.id(3)].sort());
    const shelf = new MemoryShelf();
    await world.run(fetch.fill(shelf));
    assert.deepEqual(shelf.missing, []);
    assert.deepEqual([...fetch.donors], [world.id(3)]);
    assert.deepEqual([...world.lies].sort(), [world.id(1), world.id(2)].sort());
    assert.ok(fetch.isLiar(world.id(1)) && fetch.isLiar(world.id(2)));
    assert.equal((await world.run(fetch.ask(world.id(1), catalogue.name))).value, null);
    await end(world, fetch);
  });

  it('waits while nobody shares, goes on with whoever comes, and keeps what it has', async () => {
    const world = new World();
    let streams = 0;
    await world.member(
      1,
      having((bytes) => turning(bytes, streams++ < 3 ? 2 : 0, breaks)),
    );
    const fetch = await fetchIn(world);
    const shelf = new MemoryShelf();
    const filling = fetch.fill(shelf);
    await world.pass(60_000);
    assert.deepEqual(shelf.taken, []);
    await world.run(fetch.ask(world.id(1), catalogue.name));
    await world.pass(120_000);
    assert.equal(fetch.donors.size, 0, 'it is asked again before it is taken for one that shares');
    const half = await world.server(2, nothing, source(world));
    await world.run(fetch.ask(world.id(2), catalogue.name));
    await world.run(filling);
    assert.deepEqual(shelf.missing, []);
    const all = bodies.length * bodies[0]!.length;
    assert.ok(half.modelBytes - 700 < all, 'chunks that came before were kept');
    await end(world, fetch);
  });

  it('ends at once with what the shelf throws, and with the signal', async () => {
    const world = new World();
    await world.server(1, nothing, source(world));
    const fetch = await fetchIn(world);
    await world.run(fetch.ask(world.id(1), catalogue.name));
    const full = { missing: parts, put: () => Promise.reject(new RangeError('full')) };
    await assert.rejects(world.run(fetch.fill(full)), /full/);
    const other = await fetchIn(world, 5);
    const waiting = assert.rejects(other.fill(new MemoryShelf()), /the test is over/);
    await end(world, fetch, other);
    await waiting;
  });
});
