/**
 * How well the memory that training will take is predicted: opens real training processes (LoRA r = 8 on all
 * linear layers), lets each train and evaluate, and prints the prediction beside the most that the process
 * had resident. Linux only.   npm run bench:memory -- MODEL_DIR 1x64 8x128 8x512:int8 8x128:low
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openModelDirectory } from '../node/model/model-directory.js';
import { loraModules } from '../node/model/lora.js';
import { MEMORY_MODES } from '../node/model/memory-mode.js';
import { WEIGHT_FORMATS } from '../node/model/weight-format.js';
import { TrainerHost } from '../node/train/host.js';
import type { MemoryPlan } from '../node/train/memory-plan.js';
import { initialAdapter } from '../protocol/adapter.js';
import { testRun } from '../test/support/runs.js';

const [modelDir = '', ...shapes] = process.argv.slice(2);
const never = new AbortController().signal;
const ignore = (): void => undefined;
const MB = 1e6;

const dir = mkdtempSync(join(tmpdir(), 'murmurate-memory-'));
const data = join(dir, 'data.jsonl');
const line = (i: number): string =>
  JSON.stringify({ text: `Line ${i} of ${i % 7} words. `.repeat(60) });
writeFileSync(data, Array.from({ length: 400 }, (_, i) => `${line(i)}\n`).join(''));

async function measure(shape: string): Promise<void> {
  const [size = '', ...options] = shape.split(':');
  const [batchSize = 1, sequenceLength = 64] = size.split('x').map(Number);
  const { config } = await openModelDirectory(modelDir);
  const modules = loraModules(config, ['all-linear']);
  const adapter = { rank: 8, alpha: 16, seed: new Uint8Array(32), targetModules: [], modules };
  let plan: MemoryPlan | null = null;
  const host = await TrainerHost.open({
    ...{ modelDir, dataFiles: [data], adapter },
    training: { ...testRun().manifest.training, batchSize, sequenceLength },
    microBatch: batchSize,
    run: { epochsMax: 1, stepsRef: 3 },
    device: 'cpu',
    threads: 1,
    weights: WEIGHT_FORMATS.find((format) => options.includes(format)) ?? 'fp32',
    memory: MEMORY_MODES.find((mode) => options.includes(mode)) ?? 'normal',
    heldOutShare: 0.1,
    dataSeed: new Uint8Array(32),
    logger: { debug: ignore, info: ignore, warn: console.error, error: console.error },
    onPlan: (one) => (plan = one),
  });
  try {
    const theta = initialAdapter(adapter);
    const job = { epoch: 0, theta, optimiser: null, steps: 3, deadlineMs: Number.MAX_SAFE_INTEGER };
    const { optimiser } = await host.train(job, ignore, never);
    await host.evaluate(theta, never);
    await host.train({ ...job, optimiser }, ignore, never);
    print(shape, plan, peakOf(host.pid ?? 0));
  } finally {
    await host.close();
  }
}

/** Bytes that the process `pid` had resident at most. */
function peakOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return 1024 * Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]);
}

function print(shape: string, plan: MemoryPlan | null, measured: number): void {
  if (plan === null) throw new TypeError('no plan was made');
  const { weights, activations, adapter, process } = plan;
  const predicted = weights + activations + adapter + process;
  const numbers = [weights, activations, adapter, process, predicted, measured];
  const cells = numbers.map((bytes) => (bytes / MB).toFixed(0).padStart(8));
  console.log(shape.padEnd(12), ...cells, (predicted / measured).toFixed(2).padStart(8));
}

console.log(
  'shape       ',
  ...['weights', 'activ.', 'adapter', 'process', 'predict.', 'measured', 'ratio'].map((head) =>
    head.padStart(8),
  ),
  '  (MB)',
);
try {
  for (const shape of shapes) await measure(shape);
} finally {
  rmSync(dir, { recursive: true });
}
