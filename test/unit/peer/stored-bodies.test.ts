/** Bodies of updates: always there for who holds the header, and in memory no more than the bound. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { StoreUnavailableError } from '../../../node/interfaces.js';
import { StoredBodies } from '../../../node/peer/stored-bodies.js';
import { UpdateRejectedError } from '../../../protocol/errors.js';
import { encodeUpdateMessage } from '../../../protocol/gossip.js';
import { headerOf, type Update } from '../../../protocol/update.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';

const run = testRun();
const updates = Array.from({ length: 8 }, (_, epoch) => testUpdate(run, testIdentity(1), epoch));
const [first, second] = [updates[0] ?? assert.fail(), updates[1] ?? assert.fail()];
/** All bodies have the same size. */
const BODY_BYTES = first.scales.length + first.codes.length;

function bodyOf({ scales, codes }: Update): object {
  return { scales, codes };
}

/** A disk with all updates, that of epoch e at place 10 e; counts what is read. */
function setUp(cached: number) {
  const reads: number[] = [];
  const bodies = new StoredBodies(
    (place) => {
      reads.push(place);
      return encodeUpdateMessage(updates[place / 10] ?? assert.fail());
    },
    { cacheBytesMax: cached * BODY_BYTES },
  );
  return { bodies, reads };
}

describe('StoredBodies', () => {
  it('keeps what is not on disk yet, however small the cache, and reads nothing for it', () => {
    const { bodies, reads } = setUp(0);
    for (const update of updates) bodies.put(update);
    for (const update of updates) assert.deepEqual(bodies.read(headerOf(update)), bodyOf(update));
    assert.deepEqual(reads, []);
  });

  it('reads from the disk what left the cache, the least recently used first', () => {
    const { bodies, reads } = setUp(3);
    for (const [i, update] of updates.entries()) {
      bodies.put(update);
      bodies.saved(update.id, 10 * i);
    }
    for (const i of [5, 6, 7]) bodies.read(updates[i] ?? assert.fail());
    assert.deepEqual(reads, [], 'the last three are still there');
    assert.deepEqual(bodies.read(headerOf(first)), bodyOf(first));
    for (const i of [6, 7, 0]) bodies.read(updates[i] ?? assert.fail());
    assert.deepEqual(reads, [0]);
    bodies.read(updates[5] ?? assert.fail());
    bodies.read(updates[6] ?? assert.fail());
    assert.deepEqual(reads, [0, 50, 60]);
  });

  it('gives one that is larger than the whole cache', () => {
    const { bodies, reads } = setUp(0.5);
    bodies.put(first);
    bodies.saved(first.id, 0);
    for (let i = 0; i < 3; i++) assert.deepEqual(bodies.read(first), bodyOf(first));
    assert.ok(reads.length <= 3);
  });

  it('leaves on disk what was there at the start, and reads it where it lies, also after it moved', () => {
    const { bodies, reads } = setUp(0);
    bodies.saved(second.id, 10);
    bodies.put(second);
    assert.equal(bodies.placeOf(second.id), 10);
    assert.deepEqual(bodies.read(second), bodyOf(second));
    assert.deepEqual(reads, [10]);
    bodies.saved(first.id, 70);
    bodies.saved(first.id, 0);
    assert.deepEqual(bodies.read(first), bodyOf(first));
    assert.equal(bodies.placeOf(first.id), 0);
  });

  it('has no room once too much waits for the disk, and has it again when that is there or not wanted', () => {
    const { bodies } = setUp(8);
    const large = { scales: new Uint8Array(), codes: new Uint8Array(128 * 1024 * 1024) };
    const [a, b] = [first, second].map((update) => ({ ...update, ...large }));
    bodies.put(a ?? assert.fail());
    bodies.put(a ?? assert.fail());
    assert.ok(bodies.hasRoom, 'one that is put twice waits once');
    bodies.put(b ?? assert.fail());
    assert.ok(!bodies.hasRoom);
    bodies.forget(second.id);
    assert.ok(bodies.hasRoom);
    bodies.put(b ?? assert.fail());
    assert.ok(!bodies.hasRoom);
    bodies.saved(second.id, 10);
    assert.ok(bodies.hasRoom);
  });

  it('forgets for good', () => {
    const { bodies } = setUp(8);
    for (const update of [first, second]) bodies.put(update);
    bodies.saved(second.id, 10);
    for (const update of [first, second]) {
      bodies.forget(update.id);
      assert.equal(bodies.placeOf(update.id), undefined);
      assert.throws(() => bodies.read(update), RangeError);
    }
  });

  it('never gives the body of another update, nor hides that the disk refuses', () => {
    const { bodies } = setUp(8);
    bodies.saved(first.id, 10);
    assert.throws(() => bodies.read(first), UpdateRejectedError);
    const refusing = new StoredBodies(() => {
      throw new StoreUnavailableError('gone');
    });
    refusing.saved(first.id, 0);
    assert.throws(() => refusing.read(first), StoreUnavailableError);
  });
});
