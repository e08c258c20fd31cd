/** What bench/gpu runs, in order: what costs little and tells most comes first. */
import { join } from 'node:path';
import type { Device } from '../../node/engine/devices.js';
import type { WeightFormat } from '../../node/model/weight-format.js';
import type { Command } from './command.js';
import type { StepJob } from './step.js';

export interface Settings {
  readonly devices: readonly Device[];
  readonly threads: number;
  readonly layers: number;
  readonly python: string;
  readonly isSmall: boolean;
  /** A folder for models, caches and gradients. */
  readonly work: string;
}

export interface Part {
  readonly name: string;
  readonly command: Command;
  /** The most that it may take. */
  readonly seconds: number;
  /** Its last line is its result; else all that it prints. */
  readonly isJson: boolean;
}

const ROOT = join(import.meta.dirname, '..', '..', '..');
const RANK = 16;
const CASES = [
  'llama-gqa-tied',
  'gpt2',
  'qwen2',
  'qwen3-window',
  'gemma3',
  'phi3-longrope',
  'mistral',
];

/** A model of a well-known shape, and how it is trained. */
interface Workload {
  readonly what: string;
  readonly make: readonly string[];
  readonly batch: number;
  readonly length: number;
  readonly formats: readonly WeightFormat[];
  readonly precisions: readonly string[];
  /** The most that one step part may take. */
  readonly seconds: number;
}

function smollm2(isSmall: boolean): Workload {
  return {
    what: 'SmolLM2-135M',
    make: [
      '--shape',
      'SmolLM2-135M',
      ...(isSmall ? ['--layers', '2', '--vocabulary', '4096'] : []),
    ],
    ...(isSmall ? { batch: 1, length: 32 } : { batch: 4, length: 256 }),
    formats: ['fp32', 'int8', 'int4'],
    precisions: ['fp32', 'bf16'],
    seconds: 45,
  };
}

/** Where it need not be large, another one of the same family. */
function large({ isSmall, layers }: Settings): Workload {
  const known = { formats: ['int4', 'int8', 'bf16'], precisions: ['nf4', 'bf16'] } as const;
  if (isSmall) {
    const make = ['--shape', 'Qwen2.5-0.5B', '--layers', '1', '--vocabulary', '4096'];
    return { ...known, what: 'Qwen2.5-0.5B, 1 layer', make, batch: 1, length: 32, seconds: 45 };
  }
  return {
    ...known,
    what: `Qwen2.5-7B, ${layers} layers`,
    make: ['--shape', 'Qwen2.5-7B', '--layers', String(layers)],
    ...{ batch: 1, length: 512, seconds: 75 },
  };
}

export function parts(settings: Settings): Part[] {
  const { devices } = settings;
  const [small, big] = [smollm2(settings.isSmall), large(settings)];
  // Of a CPU the large shape says nothing about GPUs, and takes minutes.
  const onBig = settings.isSmall ? devices : devices.filter((device) => device !== 'cpu');
  return [
    ...devices.map((device) => trial(device, settings)),
    ...devices.map((device) => cases(device)),
    make(small, settings),
    // The CPU first: the gradients of the others are compared with its.
    ...devices.toReversed().flatMap((device) => steps(small, device, settings)),
    ...pytorch(small, settings),
    swarm(devices[0] ?? 'cpu'),
    make(big, settings),
    ...onBig.flatMap((device) => steps(big, device, settings)),
    ...pytorch(big, settings),
  ];
}

/** A compiled script of ours. */
function script(file: string, args: readonly string[]): Command {
  return { program: process.execPath, args: [join(ROOT, 'dist', file), ...args] };
}

function trial(device: Device, { threads }: Settings): Part {
  const command = script('bench/gpu/trial.js', [device, String(threads)]);
  return { name: `trial: ${device}`, command, seconds: 60, isJson: true };
}

function cases(device: Device): Part {
  const dirs = CASES.map((name) => join(ROOT, 'test', 'reference', 'cases', name));
  const command = script('test/reference/main.js', ['--device', device, ...dirs]);
  return { name: `reference cases: ${device}`, command, seconds: 60, isJson: false };
}

function modelOf({ what }: Workload, { work }: Settings): string {
  return join(work, what.replaceAll(/[^\w.-]/g, '-'));
}

function make(workload: Workload, settings: Settings): Part {
  const command = script('bench/make-model.js', [
    ...workload.make,
    '--out',
    modelOf(workload, settings),
  ]);
  return { name: `make model: ${workload.what}`, command, seconds: 120, isJson: false };
}

function steps(workload: Workload, device: Device, settings: Settings): Part[] {
  const { what, batch, length, formats, seconds } = workload;
  const { threads, work } = settings;
  return formats.map((format) => {
    const model = modelOf(workload, settings);
    const job: StepJob = {
      ...{ model, device, format, batch, length, rank: RANK, threads },
      ...{ ms: 5_000, cacheDir: join(work, 'cache'), gradientFile: `${model}.${format}.gradient` },
    };
    const command = script('bench/gpu/step.js', [JSON.stringify(job)]);
    return { name: `step: ${what}, ${device}, ${format}`, command, seconds, isJson: true };
  });
}

function pytorch(workload: Workload, settings: Settings): Part[] {
  const { what, batch, length, precisions, seconds } = workload;
  const { python, threads } = settings;
  const model = modelOf(workload, settings);
  return precisions.map((precision) => {
    const job = { model, precision, batch, length, rank: RANK, threads, ms: 5_000 };
    const file = join(ROOT, 'bench', 'gpu', 'pytorch.py');
    const command = { program: python, args: [file, JSON.stringify(job)] };
    return { name: `step: ${what}, PyTorch, ${precision}`, command, seconds, isJson: true };
  });
}

function swarm(device: Device): Part {
  const command = script('bench/gpu/swarm.js', [device, '4']);
  return { name: `swarm of 3 peers: ${device}`, command, seconds: 150, isJson: true };
}
