/**
 * Train steps against PyTorch + PEFT on this machine, in one run: LoRA r = 8 on all linear layers, both sides
 * taking turns. Prints tokens a second (median, least, most), the ratio to PyTorch in fp32, and peak memory.
 *   npm run bench:engine -- [--model DIR] [--batch 8] [--length 128] [--rounds 5] [--steps 5] [--threads N]
 *     [--against fp32,bf16] [--venv DIR]
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
import { startSide, type Side, type Workload } from './protocol.js';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: EMBEDDED_MODEL_DIRECTORY },
    batch: { type: 'string', default: '8' },
    length: { type: 'string', default: '128' },
    rounds: { type: 'string', default: '5' },
    /** Optimiser steps in one turn. */
    steps: { type: 'string', default: '5' },
    threads: { type: 'string', default: String(availableParallelism()) },
    /** Precisions of PyTorch; bf16 is very slow on a CPU without instructions for it. */
    against: { type: 'string', default: 'fp32' },
    venv: { type: 'string', default: '.venv' },
  },
});

const PACKAGES = ['torch==2.11.0', 'transformers==5.23.0', 'peft==0.21.2'];
/** The first steps read the weights, compile and fill the memory pools: nobody's time. */
const WARM_UP_STEPS = 2;
const RANK = 8;

const [batch, length, rounds, steps, threads] = [
  values.batch,
  values.length,
  values.rounds,
  values.steps,
  values.threads,
].map(Number) as [number, number, number, number, number];

/** The interpreter of the virtual environment, with the packages in it. */
function python(): string {
  const program = join(resolve(values.venv), 'bin', 'python');
  const run = (command: string, args: readonly string[]): void => {
    execFileSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'] });
  };
  if (!existsSync(program)) run('python3', ['-m', 'venv', values.venv]);
  run(program, ['-m', 'pip', 'install', '--quiet', ...PACKAGES]);
  return program;
}

function openSides(): Side[] {
  const workload = (precision: string): Workload => ({
    ...{ model: resolve(values.model), batch, length, threads },
    ...{ rank: RANK, precision },
  });
  const interpreter = python();
  const script = resolve('bench/engine/pytorch_peft.py');
  // As a peer trains; PyTorch's is left as it is.
  const environment = trainingEnvironment('cpu');
  const ours = [process.execPath, join(import.meta.dirname, 'murmurate.js')];
  return [
    ...values.against
      .split(',')
      .map((precision) =>
        startSide(`PyTorch + PEFT, ${precision}`, [interpreter, script], workload(precision)),
      ),
    startSide('Murmurate, fp32', ours, workload('fp32'), environment),
    startSide('Murmurate, int8', ours, workload('int8'), environment),
  ];
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}

async function measure(sides: readonly Side[]): Promise<void> {
  const speeds = new Map<Side, number[]>(sides.map((side) => [side, []]));
  for (const side of sides) await side.train(WARM_UP_STEPS);
  for (let round = 1; round <= rounds; round++) {
    for (const side of sides) {
      const { ms } = await side.train(steps);
      speeds.get(side)?.push((1000 * steps * batch * length) / ms);
    }
    process.stderr.write(`round ${round} of ${rounds}\n`);
  }
  const table = new Table({
    head: ['', 'tokens/s', 'least to most', 'ratio, least to most', 'peak memory'],
    style: { head: [], border: [] },
  });
  const [reference = []] = speeds.values();
  for (const [side, own] of speeds) {
    const ratios = own.map((speed, round) => speed / (reference[round] ?? NaN));
    table.push([
      side.name,
      median(own).toFixed(0),
      `${Math.min(...own).toFixed(0)} to ${Math.max(...own).toFixed(0)}`,
      `${median(ratios).toFixed(2)}, ${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`,
      `${((await side.end()) / 1e6).toFixed(0)} MB`,
    ]);
  }
  process.stdout.write(
    `${values.model}, ${batch} x ${length} tokens, LoRA r = ${RANK} on all linear layers, ${threads} threads\n${table.toString()}\n`,
  );
}

const sides = openSides();
try {
  await measure(sides);
} finally {
  for (const side of sides) side.kill();
}
