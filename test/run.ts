/**
 * Runs the tests in tiers and prints node's own summary: `npm test` all, `npm test -- unit sim` some.
 * Tests with real processes and sockets come last.
 */
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { run } from 'node:test';
import { spec as Spec } from 'node:test/reporters';

/** What tiers of one kind have in common: their files run together, so many at a time. */
const CONCURRENCY = {
  computing: 2,
  /** Real processes and sockets: they wait more than they compute. */
  waiting: 2,
  /** Needs what not every machine has: runs when it is named, and then fails without. */
  onDemand: 1,
} as const;

/** Folders of dist/test, or single files, in the order in which they run. */
const TIERS: Readonly<Record<string, keyof typeof CONCURRENCY>> = {
  unit: 'computing',
  compliance: 'computing',
  reference: 'computing',
  sim: 'computing',
  tidy: 'computing',
  net: 'waiting',
  docs: 'waiting',
  // A Vulkan device, or scripts/webgpu-software.sh.
  webgpu: 'onDemand',
  // TensorFlow, as scripts/build-tfjs-native.sh builds it.
  tensorflow: 'onDemand',
  // Chromium, and the page as npm run build makes it.
  browser: 'onDemand',
  // The npm registry: the package in an empty project, and the image's steps.
  install: 'onDemand',
  // Linux, root, iproute2 and nftables: real routers between the peers.
  netns: 'onDemand',
};

/** Begin first, each half a minute and more, so that no core is idle at the end of the others. */
const SLOWEST = [
  ...[
    'docs/documents',
    'docs/guides',
    'net/device-lost',
    'net/cli',
    'net/private-run',
    'net/crash',
  ],
  ...['net/dialler', 'net/flood'],
  ...[
    'net/training-process',
    'unit/store/power-loss',
    'unit/store/peer-power-loss',
    'sim/seeds',
    'sim/hostile/hostile',
  ],
].map((name) => path.join(import.meta.dirname, `${name}.test.js`));

/** A file that takes longer hangs: the slowest needs about a quarter of this on two cores. */
const FILE_TIMEOUT_MS = { computing: 300_000, waiting: 300_000, onDemand: 1_200_000 } as const;

type TestEvent = { type: string; data: { nesting: number; message?: string } };

const root = import.meta.dirname;
const gone = SLOWEST.filter((file) => !existsSync(file));
if (gone.length > 0) throw new Error(`no ${gone.join(', ')}: is the build complete?`);
const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !(name in TIERS));
if (unknown.length > 0) {
  console.error(`unknown tier ${unknown.join(', ')}; known: ${Object.keys(TIERS).join(', ')}`);
  process.exit(2);
}

function filesOf(tier: string): string[] {
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.js'))
    .filter((file) => file.startsWith(tier + path.sep) || file === `${tier}.test.js`)
    .map((file) => path.join(root, file))
    .sort();
  if (files.length === 0) throw new Error(`tier ${tier} has no test file: is the build complete?`);
  return files;
}

/** Files that run together, how many of them at a time, and the longest that one may take. */
function* batches(
  tiers: readonly string[],
): Generator<{ files: string[]; concurrency: number; timeout: number }> {
  for (const kind of ['computing', 'waiting', 'onDemand'] as const) {
    const [concurrency, timeout] = [CONCURRENCY[kind], FILE_TIMEOUT_MS[kind]];
    const files = tiers.filter((tier) => TIERS[tier] === kind).flatMap(filesOf);
    const slow = SLOWEST.filter((file) => files.includes(file));
    if (files.length > 0) yield { files: [...new Set([...slow, ...files])], concurrency, timeout };
  }
}

/** The events of all tiers as one stream, with one summary at the end. */
async function* events(tiers: readonly string[]): AsyncGenerator<TestEvent> {
  const totals = new Map<string, number>();
  for (const options of batches(tiers)) {
    const stream = run(options);
    for await (const event of stream as AsyncIterable<TestEvent>) {
      const total = /^([a-z_]+) ([\d.]+)$/.exec(event.data.message ?? '');
      if (event.type === 'test:diagnostic' && event.data.nesting === 0 && total) {
        const [, name = '', value = '0'] = total;
        totals.set(name, (totals.get(name) ?? 0) + Number(value));
        continue;
      }
      if (event.type === 'test:fail') process.exitCode = 1;
      yield event;
    }
  }
  for (const [name, value] of totals) {
    yield { type: 'test:diagnostic', data: { nesting: 0, message: `${name} ${value}` } };
  }
}

const all = Object.keys(TIERS).filter((tier) => TIERS[tier] !== 'onDemand');
const tiers = wanted.length > 0 ? wanted : all;
Readable.from(events(tiers)).pipe(new Spec()).pipe(process.stdout);
