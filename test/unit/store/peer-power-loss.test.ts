import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { Logger, Transport } from '../../../node/interfaces.js';
import { Peer } from '../../../node/peer.js';
import { DataDirectory } from '../../../node/store/directory.js';
import { FileStore } from '../../../node/store/file-store.js';
import { decodeGossip } from '../../../protocol/gossip.js';
import { RowFormats } from '../../../protocol/row-format.js';
import type { Update } from '../../../protocol/update.js';
import { VirtualClock, VirtualTime } from '../../../node/sim/clock.js';
import { makeProblem, SyntheticTrainer } from '../../../node/sim/synthetic-trainer.js';
import { recordsOf } from '../../compliance/store.js';
import { cutPower } from '../../support/power-loss.js';
import { RecordingDisk, type Operation } from '../../support/recording-disk.js';
import { adapterSize, TEST_START_MS, testIdentity, testRun } from '../../support/runs.js';

/** Long enough that a peer which restarts at once still trains in the same slot. */
const EPOCH_MS = 60_000;
/** Virtual time goes on by so much between two looks at the disk. */
const TICK_MS = 500;

const run = testRun((manifest) => ({
  ...manifest,
  schedule: { ...manifest.schedule, epochMs: EPOCH_MS },
}));
const identity = testIdentity(0);
const formats = new RowFormats(run);
const silent: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
const scratch = await mkdtemp(
  join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'murmurate-power-'),
);
after(() => rm(scratch, { recursive: true, force: true }));

/** What left the machine before the power went, and when that was. */
interface Note {
  published: { epoch: number; id: string }[];
  nowMs: number;
}

function updateOf(record: Uint8Array): Update | null {
  const message = decodeGossip(run, formats, record, 'disk');
  return message.kind === 'update' ? message.update : null;
}

/**
 * One life of a peer that is alone, on the disk at `path`, over virtual time. Each `seed` trains something
 * else, so that an epoch trained twice gives two updates.
 */
async function live(
  path: string,
  recorder: RecordingDisk,
  { fromMs = 0, untilMs = 0, seed = 0, isNewKey = false },
): Promise<Note['published']> {
  const time = new VirtualTime(fromMs);
  const clock = new VirtualClock(time);
  const published: Note['published'] = [];
  const transport: Transport = {
    start: async () => undefined,
    stop: async () => undefined,
    publish: async (message) => {
      const update = updateOf(message);
      if (update) published.push({ epoch: update.epoch, id: update.id });
      recorder.note({ published: [...published], nowMs: time.nowMs } satisfies Note);
      return 0;
    },
    open: () => Promise.reject(new Error('nobody is there')),
    connections: () => [],
  };
  const trainer = new SyntheticTrainer(
    makeProblem(Uint8Array.of(1), 1, adapterSize(run)),
    0,
    clock,
    { stepMs: 100, learningRate: 0.02, seed: Uint8Array.of(seed) },
  );
  const directory = new DataDirectory(path);
  await directory.create();
  const store = new FileStore(directory, run.id);
  const peer = new Peer(
    { transport, clock, store, trainer, logger: silent, identity },
    { run, isNewKey },
  );
  await peer.start();
  for (let nowMs = fromMs; nowMs <= untilMs; nowMs += TICK_MS) {
    await time.advanceTo(nowMs);
    await recorder.idle();
  }
  await peer.stop();
  return published;
}

/** Restarts the peer on the disk at `path` and lives on; says which promise it broke, null for none. */
async function fault(path: string, { published, nowMs }: Note): Promise<string | null> {
  const recorder = new RecordingDisk();
  try {
    const later = await live(path, recorder, {
      fromMs: nowMs,
      untilMs: nowMs + 2.5 * EPOCH_MS,
      seed: 1,
    });
    for (const { epoch, id } of later) {
      const before = published.find((update) => update.epoch === epoch);
      if (before && before.id !== id) return `two updates for epoch ${epoch}`;
    }
    const records = await recordsOf(new FileStore(new DataDirectory(path), run.id));
    const ids = records.map(({ bytes }) => updateOf(bytes)?.id);
    const lost = [...published, ...later].filter(({ id }) => !ids.includes(id));
    if (lost.length > 0) return `published, but not on disk: epoch ${lost[0]?.epoch}`;
    return later.length > 0 ? null : 'it does not go on';
  } catch (error) {
    return String(error);
  } finally {
    recorder.close();
  }
}

async function firstLife(): Promise<{ path: string; trace: readonly Operation[] }> {
  const path = join(scratch, 'first', 'peer');
  await rm(join(scratch, 'first'), { recursive: true, force: true });
  const recorder = new RecordingDisk();
  try {
    const published = await live(path, recorder, {
      fromMs: TEST_START_MS,
      untilMs: TEST_START_MS + 2.5 * EPOCH_MS,
      isNewKey: true,
    });
    assert.equal(published.length, 3);
    return { path, trace: recorder.trace };
  } finally {
    recorder.close();
  }
}

describe('a peer whose machine loses power after any operation on the disk', () => {
  const nothing: Note = { published: [], nowMs: TEST_START_MS + 900 };
  const place = join(scratch, 'rebuilt', 'peer');

  it('never signs two updates for one slot, and still has what it published', async (t) => {
    const { path, trace } = await firstLife();
    const { states, faults } = await cutPower(trace, { from: path, to: place }, nothing, (note) =>
      fault(place, note),
    );
    t.diagnostic(`${trace.length} operations, ${states} disks`);
    assert.ok(states > 100);
    assert.deepEqual(faults, []);
  });

  for (const [what, kind, end] of [
    ['the sync of a directory', 'sync-directory', ''],
    ['the sync of a file before its renaming', 'sync', '.tmp'],
  ] as const) {
    it(`would be found broken without ${what}`, async () => {
      const { path, trace } = await firstLife();
      const { faults } = await cutPower(
        trace.filter((op) => !(op.kind === kind && op.path.endsWith(end))),
        { from: path, to: place },
        nothing,
        (note) => fault(place, note),
        { faultsMax: 1 },
      );
      assert.equal(faults.length, 1);
    });
  }
});
