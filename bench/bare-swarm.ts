/** A swarm in one process and without a clock: real training, codec and fold, so that a run is a function of its seed. */
import { adapterLayout, adapterSha256, initialAdapter } from '../protocol/adapter.js';
import { publishesIn } from '../protocol/cohorts.js';
import { Fold } from '../protocol/fold.js';
import { encodeUpdateMessage } from '../protocol/gossip.js';
import { UpdateLog } from '../protocol/log.js';
import type { AlphaPhase, Compression, ListedMember, Run } from '../protocol/manifest.js';
import { encodeManifest } from '../protocol/manifest-codec.js';
import { accumulate, takeUpdate } from '../protocol/residual.js';
import { RowFormats } from '../protocol/row-format.js';
import { createUpdate } from '../protocol/update.js';
import type { OptimiserState, TrainJob } from '../node/interfaces.js';
import { openModelDirectory } from '../node/model/model-directory.js';
import { loraModules } from '../node/model/lora.js';
import type { TrainingSession } from '../node/train/session.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../node/version.js';
import { testIdentity, testRun } from '../test/support/runs.js';

export interface BareRunSettings {
  epochs: number;
  /** Steps of a peer in an epoch. */
  steps: number;
  batchSize: number;
  sequenceLength: number;
  learningRate: number;
  seed: Uint8Array;
  /** Default: 8. */
  rank?: number;
  /** Each of `members` peers publishes in every `count`-th epoch, and an epoch counts `alpha` times; default: 1 and 1. */
  cohorts?: { count: number; members: number; alpha: number };
  /** Default: the embedded base. */
  modelDir?: string;
}

const never = new AbortController().signal;
/** Beyond every clock, and a number that a message to a training process may hold. */
const NO_DEADLINE_MS = Number.MAX_SAFE_INTEGER;
const ignore = (): void => undefined;

/** With an adapter on all linear layers, alpha twice the rank: as `start` creates it. */
export async function bareRun(settings: BareRunSettings): Promise<Run> {
  const { epochs, steps, seed, batchSize, sequenceLength, learningRate, rank = 8 } = settings;
  const { cohorts } = settings;
  const { config } = await openModelDirectory(settings.modelDir ?? EMBEDDED_MODEL_DIRECTORY);
  const modules = loraModules(config, ['all-linear']);
  const targetModules = [...new Set(modules.map(({ name }) => name.split('.').at(-1) ?? ''))];
  const adapter = { rank, alpha: 2 * rank, seed, targetModules, modules };
  return testRun((manifest) => ({
    ...manifest,
    adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
    schedule: {
      ...manifest.schedule,
      epochsMax: epochs,
      stepsRef: steps,
      cohorts: cohorts?.count ?? 1,
    },
    training: { ...manifest.training, sequenceLength, batchSize, learningRate },
    ...(cohorts && {
      fold: { ...manifest.fold, alpha: [alphaPhase(cohorts.alpha)] },
      membership: { mode: 'allowlist', members: membersOf(cohorts.members) },
    }),
  }));
}

/** In thousandths. */
function alphaPhase(alpha: number): AlphaPhase {
  return { fromEpoch: 0, numerator: Math.round(1000 * alpha), denominator: 1000 };
}

function membersOf(count: number): ListedMember[] {
  return Array.from({ length: count }, (_, i) => ({ peerId: testIdentity(i).peerId, weight: 1 }));
}

/** What an epoch's deltas make of the adapter. */
interface Averaging {
  theta(): Float32Array;
  /** Bytes of the last update, as gossip carries it or as bare float32; 0 before there is any. */
  readonly bytes: number;
  /** Takes in what `peer` moved in `epoch`. */
  add(peer: number, epoch: number, from: Float32Array, to: Float32Array): void;
}

/** The mean of the deltas in float64, uncompressed. */
function denseAveraging(run: Run, peers: number): Averaging {
  const sum = Float64Array.from(initialAdapter(run.manifest.adapter));
  return {
    theta: () => Float32Array.from(sum),
    bytes: 4 * sum.length,
    add: (_peer, _epoch, from, to) => {
      for (let i = 0; i < sum.length; i++)
        sum[i] = (sum[i] ?? 0) - ((from[i] ?? 0) - (to[i] ?? 0)) / peers;
    },
  };
}

/** The codec and the fold of the product. */
function swarmAveraging(run: Run): Averaging {
  const [formats, fold, log] = [new RowFormats(run), new Fold(run), new UpdateLog()];
  const { size } = adapterLayout(run.manifest.adapter);
  const residuals = new Map<number, Float32Array>();
  let bytes = 0;
  return {
    theta: () => {
      fold.compute(log);
      return fold.theta();
    },
    get bytes() {
      return bytes;
    },
    add: (peer, epoch, from, to) => {
      const residual = residuals.get(peer) ?? new Float32Array(size);
      residuals.set(peer, residual);
      accumulate(residual, { from, to, scale: 1 });
      if (!publishesIn(run, testIdentity(peer).peerId, epoch)) return;
      const body = takeUpdate(residual, formats.at(epoch));
      const { stepsRef: steps } = run.manifest.schedule;
      const header = { epoch, baseEpoch: epoch, steps, logDigest: new Uint8Array(32) };
      const update = createUpdate(run, testIdentity(peer), { ...header, ...body });
      bytes = encodeUpdateMessage(update).length;
      log.insert(update);
    },
  };
}

/** A trainer in this process or in another one, each with its own kind of moments. */
export interface Learner<M> {
  train(
    job: Omit<TrainJob, 'optimiser'> & { optimiser: M | null },
    onProgress: () => void,
    signal: AbortSignal,
  ): Promise<{ theta: Float32Array; optimiser: M }>;
}

/** Called after each epoch, from 0, with what gives the adapter as it is then; waited for. */
export type OnEpoch = (epoch: number, theta: () => Float32Array) => void | Promise<void>;

/** All epochs of all peers: the swarm's adapter after them, [adapterSize] float32, and bytes of an update. */
export async function trainTogether<M>(
  run: Run,
  peers: readonly Learner<M>[],
  onEpoch: OnEpoch,
  codec: Compression['codec'] | 'dense' = 'rot1',
): Promise<{ theta: Float32Array; bytes: number }> {
  const { schedule } = run.manifest;
  const averaging =
    codec === 'dense'
      ? denseAveraging(run, peers.length)
      : swarmAveraging(encodeManifest({ ...run.manifest, compression: { codec } }));
  const optimisers: (M | null)[] = peers.map(() => null);
  for (let epoch = 0; epoch < schedule.epochsMax; epoch++) {
    const theta = averaging.theta();
    for (const [i, peer] of peers.entries()) {
      const optimiser = optimisers[i] ?? null;
      const job = { epoch, theta, optimiser, steps: schedule.stepsRef, deadlineMs: NO_DEADLINE_MS };
      const result = await peer.train(job, ignore, never);
      optimisers[i] = result.optimiser;
      averaging.add(i, epoch, theta, result.theta);
    }
    await onEpoch(epoch, () => averaging.theta());
  }
  return { theta: averaging.theta(), bytes: averaging.bytes };
}

/** As many steps by itself, without averaging and compression: [adapterSize] float32. */
export async function trainAlone(
  run: Run,
  peer: Pick<TrainingSession, 'train'>,
  onEpoch: OnEpoch = ignore,
): Promise<Float32Array> {
  const { epochsMax, stepsRef: steps } = run.manifest.schedule;
  let theta = initialAdapter(run.manifest.adapter);
  let optimiser: OptimiserState | null = null;
  for (let epoch = 0; epoch < epochsMax; epoch++) {
    const job = { epoch, theta, optimiser, steps, deadlineMs: NO_DEADLINE_MS };
    const result = await peer.train(job, ignore, never);
    ({ theta, optimiser } = result);
    await onEpoch(epoch, () => result.theta);
  }
  return theta;
}
