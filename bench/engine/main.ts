/**
 * Train steps against PyTorch + PEFT on this machine, in one run: LoRA on all linear layers, all sides taking turns.
 * Prints tokens a second of processor time (median, least, most), the ratios to each side of PyTorch, tokens a second of
 * the clock, and peak memory. Where other programs want the processor too, only its time compares.
 *   npm run bench:engine -- [--model DIR] [--batch 8] [--length 128] [--rank 8] [--rounds 5] [--steps 5] [--threads N]
 *     [--against fp32,bf16,qlora] [--ours fp32,int8] [--venv DIR]
 * Installs PyTorch and PEFT into the virtual environment of --venv when they are not there (about 5 GB).
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { EMBEDDED_MODEL_DIRECTORY } from '../../node/version.js';
import { trainingEnvironment } from '../../node/train/training-process.js';
import { ResidentWatch, total } from '../resident-watch.js';
import { startSide, type Side, type Workload } from './protocol.js';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: EMBEDDED_MODEL_DIRECTORY },
    batch: { type: 'string', default: '8' },
    length: { type: 'string', default: '128' },
    rank: { type: 'string', default: '8' },
    rounds: { type: 'string', default: '5' },
    /** Optimiser steps in one turn. */
    steps: { type: 'string', default: '5' },
    threads: { type: 'string', default: String(availableParallelism()) },
    /** Of PyTorch's frozen weights; bf16 is very slow on a CPU without instructions for it. */
    against: { type: 'string', default: 'fp32' },
    /** Formats of our frozen weights. */
    ours: { type: 'string', default: 'fp32,int8' },
    venv: { type: 'string', default: '.venv' },
  },
});

const PACKAGES = ['torch==2.11.0', 'transformers==5.23.0', 'peft==0.21.2'];
const QLORA = 'qlora';
const QLORA_PACKAGES = ['bitsandbytes==0.50.2', 'accelerate'];
/** The first steps read the weights, compile and fill the memory pools: nobody's time. */
const WARM_UP_STEPS = 2;

const [batch, length, rank, rounds, steps, threads] = [
  ...[values.batch, values.length, values.rank],
  ...[values.rounds, values.steps, values.threads],
].map(Number) as [number, number, number, number, number, number];
const against = values.against.split(',');

/** The interpreter of the virtual environment, with the packages in it. */
function python(): string {
  const program = join(resolve(values.venv), 'bin', 'python');
  const run = (command: string, args: readonly string[]): void => {
    execFileSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'] });
  };
  if (!existsSync(program)) run('python3', ['-m', 'venv', values.venv]);
  const packages = against.includes(QLORA) ? [...PACKAGES, ...QLORA_PACKAGES] : PACKAGES;
  run(program, ['-m', 'pip', 'install', '--quiet', ...packages]);
  return program;
}

function openSides(): Side[] {
  const workload = (format: string): Workload => ({
    ...{ model: resolve(values.model), batch, length, threads },
    ...{ rank, precision: format },
  });
  const interpreter = python();
  const script = resolve('bench/engine/pytorch_peft.py');
  // As a peer trains; PyTorch's is left as it is.
  const environment = trainingEnvironment('cpu');
  const ours = [process.execPath, join(import.meta.dirname, 'murmurate.js')];
  return [
    ...against.map((format) =>
      startSide(`PyTorch + PEFT, ${format}`, [interpreter, script], workload(format)),
    ),
    ...values.ours
      .split(',')
      .map((format) => startSide(`Murmurate, ${format}`, ours, workload(format), environment)),
  ];
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}

function range(numbers: readonly number[], digits: number): string {
  const [middle, least, most] = [median(numbers), Math.min(...numbers), Math.max(...numbers)];
  return `${middle.toFixed(digits)} (${least.toFixed(digits)} to ${most.toFixed(digits)})`;
}

interface Speeds {
  /** Tokens a second of the process's own time, and of the clock, round by round. */
  cpu: number[];
  clock: number[];
  /** Of the last step. */
  loss: number;
}

/** Memory at most, in bytes, over one more turn: while it is watched nothing is timed. */
async function peakBytes(side: Side): Promise<number> {
  const watch = new ResidentWatch(side.pid);
  await side.train(1);
  const peak = await watch.peak();
  await watch.end();
  return total(peak);
}

async function measure(sides: readonly Side[]): Promise<Map<Side, Speeds>> {
  const speeds = new Map<Side, Speeds>();
  for (const side of sides) {
    const { loss } = await side.train(WARM_UP_STEPS);
    speeds.set(side, { cpu: [], clock: [], loss });
  }
  for (let round = 1; round <= rounds; round++) {
    for (const side of sides) {
      const { ms, cpuMs, loss } = await side.train(steps);
      const own = speeds.get(side);
      if (own === undefined) continue;
      const tokens = 1000 * steps * batch * length;
      own.cpu.push(tokens / cpuMs);
      own.clock.push(tokens / ms);
      own.loss = loss;
    }
    process.stderr.write(`round ${round} of ${rounds}\n`);
  }
  return speeds;
}

async function report(sides: readonly Side[]): Promise<void> {
  const speeds = await measure(sides);
  const references = [...speeds].slice(0, against.length);
  const table = new Table({
    head: [
      ...['', 'tokens per CPU second'],
      ...references.map(([{ name }]) => `ratio to ${name}`),
      ...['tokens/s', 'loss', 'peak memory'],
    ],
    style: { head: [], border: [] },
  });
  for (const [side, { cpu, clock, loss }] of speeds) {
    const ratios = references.map(([, reference]) =>
      cpu.map((speed, round) => speed / (reference.cpu[round] ?? NaN)),
    );
    table.push([
      side.name,
      range(cpu, 1),
      ...ratios.map((ratio) => range(ratio, 2)),
      range(clock, 1),
      loss.toFixed(4),
      `${((await peakBytes(side)) / 1e6).toFixed(0)} MB`,
    ]);
  }
  process.stdout.write(
    `${values.model}, ${batch} x ${length} tokens, LoRA r = ${rank} on all linear layers, ${threads} threads, ${rounds} rounds of ${steps} steps: median (least to most)\n${table.toString()}\n`,
  );
}

const sides = openSides();
try {
  await report(sides);
} finally {
  for (const side of sides) side.kill();
}
