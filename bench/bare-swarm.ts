/** A swarm in one process and without a clock: real training, codec and fold, so that a run is a function of its seed. */
import { adapterSha256, initialAdapter } from '../protocol/adapter.js';
import { Fold } from '../protocol/fold.js';
import { UpdateLog } from '../protocol/log.js';
import type { Run } from '../protocol/manifest.js';
import { Prng } from '../protocol/prng.js';
import { accumulate, takeSlice } from '../protocol/residual.js';
import { Slicer } from '../protocol/slice.js';
import { createUpdate } from '../protocol/update.js';
import type { OptimiserState, Trainer } from '../node/interfaces.js';
import { openModelDirectory } from '../node/model/model-directory.js';
import { loraModules } from '../node/model/lora.js';
import type { TrainingSession } from '../node/train/session.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../node/version.js';
import { testIdentity, testRun } from '../test/support/runs.js';

export interface BareRunSettings {
  /** Default: the embedded base. */
  modelDir?: string;
  epochs: number;
  /** Steps of a peer in an epoch. */
  steps: number;
  batchSize: number;
  sequenceLength: number;
  learningRate: number;
  seed: Uint8Array;
}

const never = new AbortController().signal;
const ignore = (): void => undefined;

/** With rank 8 on all linear layers, 1 bit a coordinate and 4 in the last tenth: as start founds it. */
export async function bareRun(settings: BareRunSettings): Promise<Run> {
  const { epochs, steps, seed, batchSize, sequenceLength, learningRate } = settings;
  const { config } = await openModelDirectory(settings.modelDir ?? EMBEDDED_MODEL_DIRECTORY);
  const modules = loraModules(config, ['all-linear']);
  const targetModules = [...new Set(modules.map(({ name }) => name.split('.').at(-1) ?? ''))];
  const adapter = { rank: 8, alpha: 16, seed, targetModules, modules };
  const tail = { fromEpoch: Math.round(0.9 * epochs), slices: 1, bits: 4 as const };
  return testRun((manifest) => ({
    ...manifest,
    adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
    schedule: { ...manifest.schedule, epochsMax: epochs, stepsRef: steps },
    training: { ...manifest.training, sequenceLength, batchSize, learningRate },
    compression: {
      ...manifest.compression,
      phases: [{ fromEpoch: 0, slices: 1, bits: 1 }, tail],
    },
  }));
}

/** All epochs of all peers; the swarm's adapter after them, [adapterSize] float32. */
export async function trainTogether(
  run: Run,
  peers: readonly Pick<Trainer, 'train'>[],
  seed: Uint8Array,
  onEpoch: (epoch: number) => void,
): Promise<Float32Array> {
  const { schedule, compression } = run.manifest;
  const [slicer, fold, log] = [new Slicer(run), new Fold(run), new UpdateLog()];
  const random = new Prng(seed, 'rounding');
  const { length } = initialAdapter(run.manifest.adapter);
  const residuals = peers.map(() => new Float64Array(length));
  const optimisers: (OptimiserState | null)[] = peers.map(() => null);
  const steps = schedule.stepsRef;
  for (let epoch = 0; epoch < schedule.epochsMax; epoch++) {
    fold.compute(log);
    const theta = fold.theta();
    for (const [i, peer] of peers.entries()) {
      const optimiser = optimisers[i] ?? null;
      const job = { epoch, theta, optimiser, steps, deadlineMs: Number.MAX_SAFE_INTEGER };
      const result = await peer.train(job, ignore, never);
      optimisers[i] = result.optimiser;
      const delta = Float64Array.from(theta, (value, j) => value - (result.theta[j] ?? 0));
      const residual = residuals[i] ?? new Float64Array(length);
      accumulate(residual, delta, compression.beta);
      const quantised = takeSlice(residual, slicer.slice(epoch), random);
      const header = { epoch, baseEpoch: epoch, steps, logDigest: new Uint8Array(32) };
      log.insert(createUpdate(run, testIdentity(i), { ...header, ...quantised }));
    }
    onEpoch(epoch);
  }
  fold.compute(log);
  return fold.theta();
}

/** As many steps by itself, without averaging and compression: [adapterSize] float32. */
export async function trainAlone(run: Run, peer: TrainingSession): Promise<Float32Array> {
  const { epochsMax, stepsRef: steps } = run.manifest.schedule;
  let theta = initialAdapter(run.manifest.adapter);
  let optimiser: OptimiserState | null = null;
  for (let epoch = 0; epoch < epochsMax; epoch++) {
    const job = { epoch, theta, optimiser, steps, deadlineMs: Number.MAX_SAFE_INTEGER };
    ({ theta, optimiser } = await peer.train(job, ignore, never));
  }
  return theta;
}
