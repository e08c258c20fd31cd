/**
 * A peer with a large adapter over many epochs: memory, disk and the time of each part. The peer, its files and the
 * fold are the product's; training is a few random numbers, time is virtual, and one process answers for all other
 * members.   npm run bench:large-run -- --coordinates 40000000 --peers 8 --epochs 100
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type {
  FrameStream,
  Identity,
  Moments,
  Store,
  Trainer,
  TrainJob,
  TrainResult,
} from '../node/interfaces.js';
import { Peer } from '../node/peer.js';
import { VirtualClock, VirtualTime } from '../node/sim/clock.js';
import { NO_FAULTS, SimNetwork } from '../node/sim/network.js';
import { DataDirectory } from '../node/store/directory.js';
import { FileStore } from '../node/store/file-store.js';
import { adapterSha256, initialAdapter } from '../protocol/adapter.js';
import { toHalf } from '../protocol/half.js';
import { UpdateLog } from '../protocol/log.js';
import type { Run } from '../protocol/manifest.js';
import { Prng } from '../protocol/prng.js';
import { emptyBody, type Quantised } from '../protocol/quantise.js';
import { RowFormats } from '../protocol/row-format.js';
import { SyncSession } from '../protocol/sync.js';
import { createUpdate } from '../protocol/update.js';
import { adapterSize, testIdentity, testRun } from '../test/support/runs.js';

const { values } = parseArgs({
  options: {
    coordinates: { type: 'string', default: '40000000' },
    peers: { type: 'string', default: '8' },
    epochs: { type: 'string', default: '100' },
    /** Epochs between two lines of output. */
    every: { type: 'string', default: '5' },
  },
});
const PEERS = Number(values.peers);
const EPOCHS = Number(values.epochs);

const RANK = 16;

/** Of all blocks: about 1e-4. */
const SCALE = toHalf(1e-4);

/** Length of a virtual epoch: whatever a part takes, it ends in its epoch. */
const EPOCH_MS = 60_000;

/** Virtual time passes in steps of this length while the process is idle. */
const STEP_MS = 500;

/** Coordinates of a piece of moments. */
const PIECE = 1 << 16;

/** Whether the process does anything: a share of one core, looked at for so long. */
const IDLE_SHARE = 0.3;
const LOOK_MS = 8;

function largeRun(): Run {
  return testRun((manifest) => {
    const features = Math.round(Number(values.coordinates) / (2 * RANK) / 4);
    const modules = Array.from({ length: 4 }, (_, i) => ({
      name: `layers.${i}.up_proj`,
      inFeatures: features,
      outFeatures: features,
    }));
    const adapter = { ...manifest.adapter, rank: RANK, modules };
    const members = Array.from({ length: PEERS }, (_, i) => ({
      peerId: testIdentity(i).peerId,
      weight: 1,
    }));
    return {
      ...manifest,
      adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
      schedule: { ...manifest.schedule, epochMs: EPOCH_MS, epochsMax: EPOCHS },
      fold: { ...manifest.fold, sealEvery: 16, sealAfter: 4 },
      membership: { mode: 'allowlist', members },
    };
  });
}

/** Moments that lie in another process and come in pieces, as those of a real one do. */
class ProcessMoments implements Moments {
  readonly isThere = true;

  constructor(
    readonly step: number,
    readonly size: number,
  ) {}

  async *pieces(): AsyncGenerator<Float32Array> {
    for (let at = 0; at < 2 * this.size; at += PIECE) {
      yield new Float32Array(Math.min(PIECE, 2 * this.size - at)).fill(1);
    }
  }
}

/** Moves every coordinate a little. */
class RandomTrainer implements Trainer {
  readonly device = 'none';

  constructor(readonly time: VirtualTime) {}

  async train(job: TrainJob): Promise<TrainResult> {
    const theta = job.into ?? new Float32Array(job.theta.length);
    theta.set(job.theta);
    for (let i = 0, state = job.epoch + 1; i < theta.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      theta[i] = (theta[i] ?? 0) + state * 1e-13;
    }
    const optimiser = new ProcessMoments((job.optimiser?.step ?? 0) + job.steps, theta.length);
    return { theta, optimiser, steps: job.steps, tokens: 1, loss: 1, seconds: 1 };
  }

  async evaluate(): Promise<null> {
    return null;
  }
}

/** All other members in one: answers sync sessions with an update of each for every epoch that has begun. */
class Crowd {
  readonly log = new UpdateLog({
    bodies: { put: () => undefined, read: () => this.body },
  });
  readonly body: Quantised;
  readonly #formats: RowFormats;

  constructor(
    readonly run: Run,
    readonly identities: readonly Identity[],
  ) {
    this.#formats = new RowFormats(run);
    const body = emptyBody(this.#formats.at(0));
    for (let i = 0; i < body.codes.length; i++) body.codes[i] = (i * 97) & 0xff;
    for (let i = 0; i < body.scales.length; i += 2) {
      [body.scales[i], body.scales[i + 1]] = [SCALE & 0xff, SCALE >>> 8];
    }
    this.body = body;
  }

  add(epoch: number): void {
    const logDigest = new Uint8Array(32);
    for (const identity of this.identities) {
      const fields = { epoch, baseEpoch: epoch, steps: 8, logDigest, ...this.body };
      this.log.insert(createUpdate(this.run, identity, fields));
    }
  }

  async serve(stream: FrameStream): Promise<void> {
    const session = new SyncSession(this.run, this.log, new Set());
    await stream.send(session.hello(0));
    for await (const frame of stream.frames) {
      const { kind } = session.receive(frame);
      if (kind === 'differs') for (const part of session.vectors()) await stream.send(part);
      if (kind === 'have') for (const part of session.want(-1)) await stream.send(part);
      if (kind === 'want') {
        for (const part of session.reply()) await stream.send(part);
        await stream.close();
      }
      if (kind === 'end') return;
    }
  }
}

/** The store whose work virtual time waits for, with the seconds that each kind of write took. */
function timed(store: Store, time: VirtualTime, seconds: Map<string, number>): Store {
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        const start = performance.now();
        const result: unknown = Reflect.apply(value, target, args);
        const note = (): void => {
          const key = String(name);
          seconds.set(key, (seconds.get(key) ?? 0) + (performance.now() - start) / 1000);
        };
        if (!(result instanceof Promise)) {
          note();
          return result;
        }
        return time.hold(result.finally(note));
      };
    },
  });
}

function residentBytes(): { now: number; peak: number } {
  const status = readFileSync('/proc/self/status', 'utf8');
  const read = (name: string): number =>
    1024 * Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? NaN);
  return { now: read('VmRSS'), peak: read('VmHWM') };
}

/** Waits until this process does nothing for a moment. */
async function idle(): Promise<void> {
  for (let quiet = 0; quiet < 2;) {
    const start = process.cpuUsage();
    await delay(LOOK_MS);
    const { user, system } = process.cpuUsage(start);
    quiet = (user + system) / 1000 < IDLE_SHARE * LOOK_MS ? quiet + 1 : 0;
  }
}

const dir = mkdtempSync(join(tmpdir(), 'murmurate-large-'));
const run = largeRun();
const time = new VirtualTime(run.manifest.schedule.startMs - 1000);
const network = new SimNetwork(time, new Prng(new Uint8Array(32), 'network'), NO_FAULTS);
const seconds = new Map<string, number>();
const identities = Array.from({ length: PEERS }, (_, i) => testIdentity(i));
const [own, ...others] = identities;
if (own === undefined) throw new RangeError('--peers must be 1 or more');
try {
  const crowd = new Crowd(run, others);
  const transport = network.transport(testIdentity(1).peerId);
  await transport.start({
    onGossip: () => 'ignore',
    onStream: async (kind, stream) => {
      if (kind === 'sync') await crowd.serve(stream);
      else stream.abort(new Error('no blobs here'));
    },
    onConnect: () => undefined,
    onDisconnect: () => undefined,
    isMember: () => true,
  });
  const directory = new DataDirectory(dir);
  const silent = () => undefined;
  const peer = new Peer(
    {
      transport: network.transport(own.peerId),
      clock: new VirtualClock(time),
      store: timed(new FileStore(directory, run.id), time, seconds),
      trainer: new RandomTrainer(time),
      logger: { debug: silent, info: silent, warn: console.warn, error: console.error },
      identity: own,
    },
    { run, isNewKey: true, measuresPersonal: false },
  );
  await peer.start();
  // From here on: what the crowd took at its start is not the peer's.
  writeFileSync('/proc/self/clear_refs', '5');
  console.log(
    `${adapterSize(run)} coordinates, ${PEERS} peers, update ${crowd.body.codes.length} + ${crowd.body.scales.length} bytes`,
  );
  console.log(
    '| epoch | updates | resident now (MB) | most so far (MB) | disk (MB) | CPU s an epoch |',
  );
  console.log('|---|---|---|---|---|---|');
  let cpu = process.cpuUsage();
  for (let epoch = 0; epoch < EPOCHS; epoch++) {
    crowd.add(epoch);
    const endMs = run.manifest.schedule.startMs + (epoch + 1) * EPOCH_MS;
    while (time.nowMs < endMs) {
      await time.advanceTo(Math.min(endMs, time.nowMs + STEP_MS));
      await idle();
    }
    if ((epoch + 1) % Number(values.every) !== 0) continue;
    const { user, system } = process.cpuUsage(cpu);
    cpu = process.cpuUsage();
    const { now, peak } = residentBytes();
    const disk = readdirSync(dir).reduce((sum, name) => sum + statSync(join(dir, name)).size, 0);
    const figures = [now / 1e6, peak / 1e6, disk / 1e6].map((value) => value.toFixed(0));
    const each = (user + system) / 1e6 / Number(values.every);
    console.log(
      `| ${epoch} | ${peer.snapshot().adapter.updates} | ${figures.join(' | ')} | ${each.toFixed(1)} |`,
    );
  }
  await Promise.race([peer.stop(), time.advanceTo(time.nowMs + 60_000).then(() => delay(60_000))]);
  console.log(
    'seconds in the store:',
    Object.fromEntries([...seconds].map(([name, s]) => [name, Number(s.toFixed(1))])),
  );
} finally {
  rmSync(dir, { recursive: true, force: true });
}
process.exit(0);
