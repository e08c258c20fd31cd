/** Replicas whose log on disk is an array: what they record is there at once, and their bodies are read from it. */
import { SimDisk, SimStore } from '../../node/sim/store.js';
import { VirtualTime } from '../../node/sim/clock.js';
import { Replica, type ReplicaHandlers, type ReplicaInit } from '../../node/peer/replica.js';
import { StoredBodies } from '../../node/peer/stored-bodies.js';
import type { Update } from '../../protocol/update.js';
import { encodeUpdateMessage } from '../../protocol/gossip.js';
import type { Run } from '../../protocol/manifest.js';

const ignore = (): void => undefined;

export interface TestReplica {
  replica: Replica;
  /** The log on disk. */
  readonly records: Uint8Array[];
}

/** A replica of `run` at the slot that `epochNow` gives; `handlers` hear of all but the records. */
export function testReplica(
  run: Run,
  epochNow: () => number = () => Infinity,
  {
    self = null,
    disk = { log: [] },
    ...handlers
  }: Partial<Omit<ReplicaHandlers, 'onRecord'>> &
    Pick<ReplicaInit, 'self'> & { disk?: { log: Uint8Array[] } } = {},
): TestReplica {
  const replica = new Replica({
    run,
    epochNow,
    self,
    handlers: {
      ...{ onAnnounced: ignore, onProof: ignore, ...handlers },
      onRecord: (record) => {
        const place = disk.log.push(record.encode()) - 1;
        record.onSaved?.(place);
      },
    },
    bodies: new StoredBodies((place) => disk.log[place] ?? new Uint8Array()),
  });
  return {
    replica,
    get records() {
      return disk.log;
    },
  };
}

/** Restores `records` as after a restart; returns what each was worth. */
export function restoreAll(
  { replica, records }: TestReplica,
  from: readonly Uint8Array[],
): boolean[] {
  return from.map((record) => replica.restore(record, records.push(record) - 1));
}

/** A replica that found `updates` on its disk. */
export function replicaWith(
  run: Run,
  updates: readonly Update[],
  epochNow?: () => number,
): Replica {
  const made = testReplica(run, epochNow);
  restoreAll(made, updates.map(encodeUpdateMessage));
  return made.replica;
}

/** A reader of what lies on a simulated disk; nothing is ever written. */
export function storeOf(disk: SimDisk): SimStore {
  return new SimStore(disk, new VirtualTime(0));
}

/** As storeOf, of a disk with these records. */
export function storeWith(log: readonly Uint8Array[]): SimStore {
  const disk = new SimDisk();
  disk.log.push(...log);
  return storeOf(disk);
}
