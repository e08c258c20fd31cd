/**
 * What averaging costs in loss: three offices train the embedded base as a swarm would, epoch by epoch on
 * the real engine, codec and fold, but in one process and without a clock, so that a run is a function of
 * its options.   npm run bench:averaging -- --steps 10,10,2 --scale 2
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cacheDirectoryOf } from '../node/hub/endpoint.js';
import { openModelDirectory } from '../node/model/model-directory.js';
import { loraModules } from '../node/model/lora.js';
import type { OptimiserState } from '../node/interfaces.js';
import { epsilonOf } from '../node/train/accountant.js';
import type { SessionOptions } from '../node/train/messages.js';
import { TrainingSession } from '../node/train/session.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../node/version.js';
import { adapterLayout, adapterSha256, initialAdapter } from '../protocol/adapter.js';
import { Fold } from '../protocol/fold.js';
import { UpdateLog } from '../protocol/log.js';
import { CODECS, type Run } from '../protocol/manifest.js';
import { Prng } from '../protocol/prng.js';
import { accumulate, takeUpdate } from '../protocol/residual.js';
import { RowFormats } from '../protocol/row-format.js';
import { createUpdate } from '../protocol/update.js';
import { testIdentity, testRun } from '../test/support/runs.js';

const { values } = parseArgs({
  options: {
    /** "rot1", "rec20" or "rec10", or "dense" for the mean of float64 deltas. */
    codec: { type: 'string', default: 'rot1' },
    /** Steps that each peer takes in an epoch, or "1-3": drawn anew each epoch. */
    steps: { type: 'string', default: '10,10,10' },
    /** The most by which fewer steps than ten are scaled up. */
    scale: { type: 'string', default: '2' },
    epochs: { type: 'string', default: '24' },
    rate: { type: 'string', default: '0.01' },
    seed: { type: 'string', default: '1' },
    /** Noise multiplier of private training, or "off"; records in a step, and the norm that each is cut to. */
    noise: { type: 'string', default: 'off' },
    records: { type: 'string', default: '64' },
    clip: { type: 'string', default: '1' },
  },
});

const OFFICES = ['clinic', 'machine-shop', 'law-office'];
const STEPS_REF = 10;
/** Below one in the 290 records of an office. */
const DELTA = 1e-3;
const DATA = new URL('../../examples/three-offices/data/', import.meta.url);

const seed = new Uint8Array(32).fill(Number(values.seed));
const random = new Prng(seed, 'bench');
const never = new AbortController().signal;
const epochs = Number(values.epochs);

async function makeRun(): Promise<Run> {
  const { config } = await openModelDirectory(EMBEDDED_MODEL_DIRECTORY);
  const modules = loraModules(config, ['all-linear']);
  const targetModules = [...new Set(modules.map(({ name }) => name.split('.').at(-1) ?? ''))];
  const adapter = { rank: 8, alpha: 16, seed, targetModules, modules };
  return testRun((manifest) => ({
    ...manifest,
    adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
    schedule: { ...manifest.schedule, epochsMax: epochs, stepsRef: STEPS_REF },
    compression: { codec: CODECS.find((codec) => codec === values.codec) ?? 'rot1' },
    training: {
      ...manifest.training,
      sequenceLength: 64,
      batchSize: 8,
      learningRate: Number(values.rate),
    },
  }));
}

function openSessions({ manifest }: Run): Promise<TrainingSession[]> {
  const { adapter, training } = manifest;
  return Promise.all(
    OFFICES.map((office) =>
      TrainingSession.open({
        modelDir: EMBEDDED_MODEL_DIRECTORY,
        dataFiles: [fileURLToPath(new URL(`${office}.jsonl`, DATA))],
        adapter,
        training,
        microBatch: 'auto',
        memory: 'auto',
        refuseTooLarge: true,
        run: { epochsMax: epochs, stepsRef: STEPS_REF },
        device: 'cpu',
        threads: 1,
        cacheDir: cacheDirectoryOf(process.env),
        weights: 'fp32',
        heldOutShare: 0.1,
        dataSeed: seed,
        ...(values.noise !== 'off' && { privacy: privacySettings() }),
      }),
    ),
  );
}

function privacySettings(): NonNullable<SessionOptions['privacy']> {
  const [noise, batchSize, clip] = [values.noise, values.records, values.clip].map(Number);
  return { noise: noise ?? NaN, batchSize: batchSize ?? NaN, clip: clip ?? NaN, sampleRate: null };
}

/** Epsilon of each peer at delta 1e-3 after as many steps as the run has. */
function reportPrivacy(peers: TrainingSession[]): void {
  for (const [i, { privacy }] of peers.entries()) {
    if (privacy === null) continue;
    const taken = [{ ...privacy, steps: epochs * STEPS_REF }];
    const epsilon = epsilonOf(taken, DELTA).toFixed(2);
    console.log(`${OFFICES[i]}: epsilon ${epsilon} at delta ${DELTA}`);
  }
}

function stepsOf(peer: number): number {
  const range = /^(\d+)-(\d+)$/.exec(values.steps);
  if (!range) return Number(values.steps.split(',')[peer]);
  const [low, high] = [Number(range[1]), Number(range[2])];
  return low + random.nextBelow(high - low + 1);
}

/** Mean held-out loss over the offices, printed with its parts. */
async function report(label: string, peers: TrainingSession[], theta: Float32Array): Promise<void> {
  const losses: number[] = [];
  for (const peer of peers) losses.push((await peer.evaluate(theta, never)) ?? NaN);
  const mean = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
  const parts = losses.map((loss) => loss.toFixed(3)).join(' ');
  console.log(`${label.padEnd(9)} mean ${mean.toFixed(4)}   ${OFFICES.join(', ')}: ${parts}`);
}

/** One epoch at one peer: the delta that it contributes, [adapterSize] float64. */
async function trainDelta(
  session: TrainingSession,
  job: { epoch: number; theta: Float32Array; optimiser: OptimiserState | null; steps: number },
): Promise<{ delta: Float64Array; optimiser: OptimiserState }> {
  const result = await session.train({ ...job, deadlineMs: Infinity }, () => undefined, never);
  const scale = Math.min(STEPS_REF / result.steps, Number(values.scale));
  const delta = new Float64Array(job.theta.length);
  for (const [i, value] of job.theta.entries()) delta[i] = (value - (result.theta[i] ?? 0)) * scale;
  return { delta, optimiser: result.optimiser };
}

const run = await makeRun();
const peers = await openSessions(run);
const { size } = adapterLayout(run.manifest.adapter);
const [formats, fold, log] = [new RowFormats(run), new Fold(run), new UpdateLog()];
const residuals = peers.map(() => new Float64Array(size));
const optimisers: (OptimiserState | null)[] = peers.map(() => null);
const dense = Float64Array.from(initialAdapter(run.manifest.adapter));
let bytes = 0;

console.log(JSON.stringify(values));
reportPrivacy(peers);
await report('base', peers, Float32Array.from(dense));
for (let epoch = 0; epoch < epochs; epoch++) {
  const isDense = values.codec === 'dense';
  fold.compute(log);
  const theta = isDense ? Float32Array.from(dense) : fold.theta();
  for (const [i, peer] of peers.entries()) {
    const job = { epoch, theta, optimiser: optimisers[i] ?? null, steps: stepsOf(i) };
    const { delta, optimiser } = await trainDelta(peer, job);
    optimisers[i] = optimiser;
    if (isDense) {
      bytes += 4 * size;
      for (let j = 0; j < size; j++) dense[j] = (dense[j] ?? 0) - (delta[j] ?? 0) / peers.length;
      continue;
    }
    const residual = residuals[i] ?? new Float64Array(size);
    accumulate(residual, { from: delta, to: null, scale: 1 });
    const quantised = takeUpdate(residual, formats.at(epoch));
    bytes += quantised.scales.length + quantised.codes.length;
    const fields = { epoch, baseEpoch: epoch, steps: job.steps, logDigest: new Uint8Array(32) };
    log.insert(createUpdate(run, testIdentity(i), { ...fields, ...quantised }));
  }
  if (epoch % 6 === 5 || epoch === epochs - 1) {
    fold.compute(log);
    const now = isDense ? Float32Array.from(dense) : fold.theta();
    await report(`epoch ${epoch}`, peers, now);
  }
}
console.log(`bytes of updates a peer and epoch: ${Math.round(bytes / peers.length / epochs)}`);
process.exit(0);
