/**
 * What a GPU brings, in one go of at most eight minutes: each device is tried, agrees with PyTorch on the reference cases,
 * and trains models of two shapes (random weights) in each format; three peers train on one GPU together; PyTorch + PEFT,
 * with bitsandbytes where it is installed, does the same beside them. Writes OUT/gpu.json and OUT/gpu.txt. A part that
 * fails or takes too long is told with its error, and the rest goes on.
 *   npm run bench:gpu -- [--devices cuda,webgpu,cpu] [--out gpu-bench] [--seconds 480] [--layers 8] [--small]
 * Needs dist/, production node_modules and models/; not the network. PyTorch is that of --python.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { DEVICES, GPU_DEVICES, lackOf, type Device } from '../../node/engine/devices.js';
import { describeCard, CardMemory } from './card.js';
import { runCommand } from './command.js';
import { parts, type Part, type Settings } from './parts.js';
import { table, type PartResult } from './table.js';

const { values } = parseArgs({
  options: {
    devices: { type: 'string' },
    out: { type: 'string', default: 'gpu-bench' },
    seconds: { type: 'string', default: '480' },
    /** Of the 28 of the large shape. */
    layers: { type: 'string', default: '8' },
    python: { type: 'string', default: 'python3' },
    threads: { type: 'string', default: String(availableParallelism()) },
    /** Small shapes, to see that the script works. */
    small: { type: 'boolean', default: false },
  },
});

/** A part is not begun with less time left than this. */
const LEAST_SECONDS = 5;
/** Characters of the output of a part that failed. */
const TEXT_MAX = 4_000;

/** Those asked for in their order, or all that this machine may have; the first one has the swarm. */
function chosenDevices(): Device[] {
  if (values.devices === undefined) {
    return [...GPU_DEVICES.filter((device) => lackOf(device) === null), 'cpu'];
  }
  return values.devices.split(',').map((name) => {
    const device = DEVICES.find((one) => one === name);
    if (device !== undefined) return device;
    console.error(`unknown device "${name}": choose from ${DEVICES.join(', ')}`);
    process.exit(2);
  });
}

async function runPart(part: Part, secondsLeft: number): Promise<PartResult> {
  const { name, command, isJson } = part;
  if (secondsLeft < LEAST_SECONDS)
    return { name, seconds: 0, error: 'no time was left', cardMb: null };
  const memory = await CardMemory.start();
  const limit = Math.min(part.seconds, secondsLeft);
  const { seconds, stdout, error } = await runCommand(command, 1000 * limit);
  const cardMb = memory.stop();
  const known = { name, seconds, cardMb };
  if (error !== null) return { ...known, error, text: stdout.trim().slice(-TEXT_MAX) };
  const last = stdout.trim().split('\n').at(-1) ?? '';
  if (!isJson) return { ...known, error: null, text: stdout.trim() };
  try {
    return { ...known, error: null, result: JSON.parse(last) as Record<string, unknown> };
  } catch {
    return { ...known, error: `printed no result: ${last.slice(0, 200)}` };
  }
}

const started = performance.now();
const secondsLeft = (): number => Number(values.seconds) - (performance.now() - started) / 1000;
const out = resolve(values.out);
mkdirSync(out, { recursive: true });
const work = mkdtempSync(join(tmpdir(), 'murmurate-gpu-'));
const settings: Settings = {
  devices: chosenDevices(),
  threads: Number(values.threads),
  layers: Number(values.layers),
  python: values.python,
  isSmall: values.small,
  work,
};
const card = await describeCard();
const results: PartResult[] = [];

/** Written after each part, so that what was measured outlives whatever ends this process. */
function write(): string {
  const date = new Date().toISOString();
  const report = { date, card, settings, seconds: (performance.now() - started) / 1000, results };
  writeFileSync(join(out, 'gpu.json'), `${JSON.stringify(report, null, 2)}\n`);
  const text = table(card, results);
  writeFileSync(join(out, 'gpu.txt'), text);
  return text;
}

try {
  for (const part of parts(settings)) {
    process.stderr.write(`${part.name} ...\n`);
    results.push(await runPart(part, secondsLeft()));
    write();
  }
  process.stdout.write(write());
} finally {
  rmSync(work, { recursive: true, force: true });
}
