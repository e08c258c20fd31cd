/** Messages that cost a peer far more to take than to send, measured in CPU time of this process. */
import assert from 'node:assert/strict';
import type { TransportHandlers } from '../../../node/interfaces.js';
import { adapterSha256, initialAdapter } from '../../../protocol/adapter.js';
import { fromHex, sha256 } from '../../../protocol/bytes.js';
import { Fold } from '../../../protocol/fold.js';
import { encodeUpdateMessage } from '../../../protocol/gossip.js';
import { publicKeyFromPeerId } from '../../../protocol/identity.js';
import { UpdateLog } from '../../../protocol/log.js';
import type { Run } from '../../../protocol/manifest.js';
import { createUpdate, type Update } from '../../../protocol/update.js';
import * as wire from '../../../protocol/wire/messages.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';
import type { Scenario } from '../checkers.js';
import { Swarm } from '../swarm.js';

/** Authors and epochs of the run whose past is changed, and coordinates of its adapter. */
const AUTHORS = 8;
const EPOCHS = 80;
const FEATURES = 1000;
/** A late update may cost so many times what its epoch cost when it was new. */
const LATE_FACTOR_MAX = 8;

/** Authors in the log of the peer that is asked for too much, and bytes of each bitmap: 100,000 epochs. */
const ASKED_AUTHORS = 400;
const BITMAP_BYTES = 12_500;
/** CPU time for one received byte of a session, sending and decoding included. */
const NS_PER_BYTE_MAX = 100;

export const COST_FAULTS: Readonly<Record<string, Scenario>> = {
  'late-update-cost': {
    title: 'an update for an early epoch costs what its own epoch costs, however long ago that was',
    async run() {
      const run = wideRun();
      const ids = Array.from({ length: AUTHORS }, (_, i) => testIdentity(i));
      const bodies = ids.map((id) => testUpdate(run, id, 0));
      const make = (i: number, epoch: number): Update => {
        const { scales, codes } = bodies[i] ?? assert.fail();
        const fields = { epoch, baseEpoch: epoch, steps: 8, logDigest: new Uint8Array(32) };
        return createUpdate(run, ids[i] ?? assert.fail(), { ...fields, scales, codes });
      };
      const log = new UpdateLog();
      const fold = new Fold(run);
      const times: number[] = [];
      for (let epoch = 0; epoch < EPOCHS; epoch++) {
        for (let i = 1; i < AUTHORS; i++) log.insert(make(i, epoch));
        times.push(cpuMs(() => fold.compute(log)));
      }
      const normal = [...times].sort((a, b) => a - b)[EPOCHS >> 1] ?? 0;
      // The least of some: a busy machine can only make one of them longer.
      const late = [0, 1, 2, 3].map((epoch) => {
        log.insert(make(0, epoch));
        return cpuMs(() => {
          fold.invalidate(epoch);
          fold.compute(log);
        });
      });
      const factor = Math.min(...late) / normal;
      assert.ok(
        factor <= LATE_FACTOR_MAX,
        `a late update costs ${factor.toFixed(0)} epochs of CPU time, ${LATE_FACTOR_MAX} are allowed`,
      );
      return {
        sha256: adapterOf(fold, log),
        gap: 0,
        updates: log.size,
      };
    },
  },

  'wide-wishes': {
    title: 'wishes for a hundred thousand epochs of everybody cost no more than to read them',
    async run(seed) {
      const swarm = new Swarm({ seed, peers: 1 });
      const victim = swarm.node(0);
      await victim.start();
      await swarm.runToEpoch(3.5);
      const asker = swarm.network.transport(testIdentity(0, 'asker').peerId);
      await asker.start(SILENT_HANDLERS);
      const authors = Array.from({ length: ASKED_AUTHORS }, (_, i) => testIdentity(i, 'author'));
      for (const author of authors)
        await asker.publish(encodeUpdateMessage(testUpdate(swarm.run, author, 1)));
      await swarm.time.advanceTo(swarm.time.nowMs + 2000);
      assert.ok(victim.peer!.snapshot().adapter.updates >= ASKED_AUTHORS, 'they are in its log');
      const keys = authors.map(({ peerId }) => Uint8Array.from(publicKeyFromPeerId(peerId)));
      const opening = asker.open('sync', victim.peerId, new AbortController().signal);
      await swarm.time.advanceTo(swarm.time.nowMs + 50);
      const stream = await opening;
      const frames = wishes(swarm.run, keys);
      const bytes = frames.reduce((sum, frame) => sum + frame.length, 0);
      const before = process.cpuUsage();
      for (const frame of frames) await stream.send(frame);
      await swarm.time.advanceTo(swarm.time.nowMs + 200);
      const { user, system } = process.cpuUsage(before);
      const perByte = (1000 * (user + system)) / bytes;
      stream.abort(new Error('enough'));
      assert.ok(
        perByte <= NS_PER_BYTE_MAX,
        `${perByte.toFixed(0)} ns of CPU time for a received byte, ${NS_PER_BYTE_MAX} are allowed`,
      );
      const { sha256: adapter, updates } = victim.peer!.snapshot().adapter;
      return { sha256: adapter, updates, gap: 0 };
    },
  },
};

function adapterOf(fold: Fold, log: UpdateLog): string {
  fold.compute(log);
  return adapterSha256(fold.theta());
}

const SILENT_HANDLERS: TransportHandlers = {
  onGossip: () => 'ignore',
  onStream: async () => undefined,
  onConnect: () => undefined,
  onDisconnect: () => undefined,
  isMember: () => true,
};

/** An opening, an empty vector, and wishes for all but one of 100,000 epochs of each author. */
function wishes(run: Run, keys: readonly Uint8Array<ArrayBuffer>[]): Uint8Array[] {
  const none = new Uint8Array();
  const have = {
    runId: fromHex(run.id),
    authors: [],
    evicted: [],
    admissionsDigest: none,
    sealsDigest: none,
  };
  const logDigest = sha256(Uint8Array.of(1));
  const epochs = new Uint8Array(BITMAP_BYTES).fill(0xff);
  epochs[0] = 0xfd;
  const frames = [
    wire.SyncFrame.encode({ have: { ...have, clockMs: 1, last: false, logDigest } }),
    wire.SyncFrame.encode({ have: { ...have, clockMs: 0, last: true, logDigest: none } }),
  ];
  for (let i = 0; i < keys.length; i += 16) {
    const authors = keys.slice(i, i + 16).map((author) => ({ author, epochs }));
    frames.push(wire.SyncFrame.encode({ want: { authors, last: i + 16 >= keys.length } }));
  }
  return frames;
}

function cpuMs(work: () => unknown): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

/** An adapter of 32,000 coordinates at one bit each. */
function wideRun(): Run {
  const modules = [{ name: 'layers.0.up_proj', inFeatures: FEATURES, outFeatures: FEATURES }];
  return testRun((base) => {
    const adapter = { ...base.adapter, rank: 16, modules };
    return {
      ...base,
      adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
      schedule: { ...base.schedule, epochsMax: 2 * EPOCHS },
    };
  });
}
