/**
 * How well the memory that training takes is predicted: opens real training processes (LoRA on all linear layers), lets
 * each train and evaluate, and prints the prediction beside what the process held at most: anonymous memory and pages
 * of files, each page once. Linux only.
 *   npm run bench:memory -- MODEL_DIR 1x64 8x128:fast 8x512:int8 1x2048:int8:low 1x512:auto [--rank 8] [--steps 3] [--threads 1]
 *     [--once]
 *     [--limit BYTES]   in a memory control group of that size (as root), from which the model's pages are dropped first
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { EXIT_USAGE, UserError } from '../node/errors.js';
import { cacheDirectoryOf } from '../node/hub/endpoint.js';
import { openModelDirectory } from '../node/model/model-directory.js';
import { loraModules } from '../node/model/lora.js';
import { MEMORY_MODES, type MemoryMode } from '../node/model/memory-mode.js';
import { WEIGHT_FORMATS, type WeightFormat } from '../node/model/weight-format.js';
import { TrainerHost } from '../node/train/host.js';
import type { MemoryPlan } from '../node/train/memory-plan.js';
import { initialAdapter } from '../protocol/adapter.js';
import { testRun } from '../test/support/runs.js';
import { bytesReadFromDisk, cpuSeconds, dropFromCache, MemoryGroup } from './memory-group.js';
import { ResidentWatch, total, type Resident } from './resident-watch.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rank: { type: 'string', default: '8' },
    /** Optimiser steps before the evaluation. */
    steps: { type: 'string', default: '3' },
    threads: { type: 'string', default: '1' },
    /** Only --steps steps, without a second epoch and an evaluation: for models whose steps take minutes. */
    once: { type: 'boolean', default: false },
    limit: { type: 'string' },
  },
});
const [rank, steps, threads] = [values.rank, values.steps, values.threads].map(Number) as [
  number,
  number,
  number,
];
const never = new AbortController().signal;
const ignore = (): void => undefined;

interface Shape {
  batchSize: number;
  sequenceLength: number;
  weights: WeightFormat | 'auto';
  memory: MemoryMode | 'auto';
}

/** Throws UserError. */
function parseShape(text: string): Shape {
  const [size = '', ...options] = text.split(':');
  const [batchSize, sequenceLength] = size.split('x').map(Number);
  const known: readonly string[] = [...WEIGHT_FORMATS, ...MEMORY_MODES, 'auto'];
  if (!batchSize || !sequenceLength || options.some((option) => !known.includes(option))) {
    throw new UserError(
      `"${text}" is not a shape: write SEQUENCESxTOKENS and after it, each behind a colon, what is wanted of ${known.join(', ')}`,
      EXIT_USAGE,
    );
  }
  const isOpen = options.includes('auto');
  return {
    ...{ batchSize, sequenceLength },
    weights: WEIGHT_FORMATS.find((one) => options.includes(one)) ?? (isOpen ? 'auto' : 'fp32'),
    memory: MEMORY_MODES.find((one) => options.includes(one)) ?? (isOpen ? 'auto' : 'normal'),
  };
}

interface Measurement {
  plan: MemoryPlan;
  /** Until the model is loaded, and while it trains and evaluates. */
  opening: Resident;
  training: Resident;
  seconds: number;
  /** Of a step, by all threads of the process. */
  cpu: number;
  loss: number;
  bytesRead: number;
}

async function measure(modelDir: string, data: string, shape: Shape): Promise<Measurement> {
  const { batchSize, sequenceLength } = shape;
  const { config } = await openModelDirectory(modelDir);
  const modules = loraModules(config, ['all-linear']);
  const seed = new Uint8Array(32);
  const adapter = { rank, alpha: 2 * rank, seed, targetModules: [], modules };
  const plans: MemoryPlan[] = [];
  const watch = new ResidentWatch(process.pid);
  let host: TrainerHost | null = null;
  try {
    host = await TrainerHost.open({
      ...{ modelDir, dataFiles: [data], adapter, threads, device: 'cpu' },
      training: { ...testRun().manifest.training, batchSize, sequenceLength },
      microBatch: batchSize,
      run: { epochsMax: 1, stepsRef: steps },
      cacheDir: cacheDirectoryOf(process.env),
      ...{ weights: shape.weights, memory: shape.memory },
      heldOutShare: 0.1,
      dataSeed: seed,
      logger: { debug: ignore, info: ignore, warn: console.error, error: console.error },
      onPlan: (one) => plans.push(one),
    });
    const opening = await watch.peak();
    const theta = initialAdapter(adapter);
    const job = { epoch: 0, theta, optimiser: null, steps, deadlineMs: Number.MAX_SAFE_INTEGER };
    const pid = host.pid ?? process.pid;
    const before = cpuSeconds(pid);
    const { optimiser, loss, seconds } = await host.train(job, ignore, never);
    const cpu = (cpuSeconds(pid) - before) / steps;
    if (!values.once) {
      // As in the second epoch: with the moments of the first.
      await host.train({ ...job, optimiser, steps: 1 }, ignore, never);
      await host.evaluate(theta, never);
    }
    const training = await watch.peak();
    const [plan] = plans;
    if (plan === undefined) throw new TypeError('no plan was made');
    const bytesRead = bytesReadFromDisk(pid);
    return { plan, opening, training, seconds: seconds / steps, cpu, loss, bytesRead };
  } finally {
    await host?.close();
    await watch.end();
  }
}

const HEAD = [
  ...['shape', 'weights', 'mapped', 'activ.', 'adapter', 'process', 'predicted'],
  ...[
    'anonymous',
    'mapped',
    'code',
    'ratio',
    'opening',
    'with parent',
    's/step',
    'CPU s/step',
    'loss',
    'read',
  ],
];

function row(name: string, measured: Measurement): string[] {
  const { plan, opening, training, seconds, cpu, loss, bytesRead } = measured;
  const parts = [plan.weights, plan.evictable, plan.activations, plan.adapter, plan.process];
  const predicted = parts.reduce((sum, bytes) => sum + bytes, 0);
  const { childAnonymous, childFiles, childWeights } = training;
  const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);
  const chosen = [plan.format, plan.memory].filter((part) => !name.includes(part));
  return [
    [name, ...chosen].join(' '),
    ...[...parts, predicted].map(megabytes),
    ...[childAnonymous, childWeights, childFiles - childWeights].map(megabytes),
    (predicted / (childAnonymous + childFiles)).toFixed(2),
    megabytes(opening.childAnonymous + opening.childFiles),
    megabytes(total(training)),
    seconds.toFixed(2),
    cpu.toFixed(2),
    loss.toFixed(4),
    megabytes(bytesRead),
  ];
}

async function main(): Promise<void> {
  const [modelDir, ...shapes] = positionals;
  if (modelDir === undefined || shapes.length === 0) {
    throw new UserError('a model directory and one shape or more are needed', EXIT_USAGE);
  }
  const wanted = shapes.map((text) => ({ text, shape: parseShape(text) }));
  const dir = mkdtempSync(join(tmpdir(), 'murmurate-memory-'));
  const group = values.limit === undefined ? null : new MemoryGroup(Number(values.limit));
  try {
    const data = join(dir, 'data.jsonl');
    const line = (i: number): string =>
      JSON.stringify({ text: `Line ${i} of ${i % 7} words. `.repeat(60) });
    writeFileSync(data, Array.from({ length: 400 }, (_, i) => `${line(i)}\n`).join(''));
    const table = new Table({ head: HEAD, style: { head: [], border: [] } });
    for (const { text, shape } of wanted) {
      if (group !== null) dropFromCache(resolve(modelDir));
      const faultsBefore = group?.majorFaults() ?? 0;
      table.push(row(text, await measure(resolve(modelDir), data, shape)));
      if (group === null) continue;
      const faults = group.majorFaults() - faultsBefore;
      console.log(`${text}: ${faults} page faults read from the disk`);
    }
    console.log(`${modelDir}, LoRA r = ${rank} on all linear layers, ${threads} threads; MB`);
    console.log(table.toString());
  } finally {
    group?.end();
    rmSync(dir, { recursive: true });
  }
}

try {
  await main();
} catch (error) {
  if (!(error instanceof UserError)) throw error;
  console.error(error.message);
  process.exitCode = error.exitCode;
}
