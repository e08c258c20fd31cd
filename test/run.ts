/**
 * Runs the tests in tiers and prints node's own summary: `npm test` all, `npm test -- unit sim` some.
 * Tests with real processes and sockets come last: they wait more than they compute, two files at a time.
 */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { run } from 'node:test';
import { spec as Spec } from 'node:test/reporters';

/**
 * Folders of dist/test (or single files), and how many files of one run at a time. A tier on demand needs
 * what not every machine has: it runs when it is named, and then fails without.
 */
const TIERS: Readonly<Record<string, { concurrency: number; onDemand?: boolean }>> = {
  unit: { concurrency: 2 },
  compliance: { concurrency: 2 },
  reference: { concurrency: 2 },
  sim: { concurrency: 2 },
  tidy: { concurrency: 1 },
  net: { concurrency: 2 },
  docs: { concurrency: 2 },
  // A Vulkan device, or scripts/webgpu-software.sh.
  webgpu: { concurrency: 1, onDemand: true },
  // TensorFlow, as scripts/build-tfjs-native.sh builds it.
  tensorflow: { concurrency: 1, onDemand: true },
  // Chromium, and the page as npm run build makes it.
  browser: { concurrency: 1, onDemand: true },
  // Linux, root, iproute2 and nftables: real routers between the peers.
  netns: { concurrency: 1, onDemand: true },
};

/** A file that takes longer hangs: the slowest needs about a quarter of this on two cores. */
const FILE_TIMEOUT_MS = 300_000;

type TestEvent = { type: string; data: { nesting: number; message?: string } };

const root = import.meta.dirname;
const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !(name in TIERS));
if (unknown.length > 0) {
  console.error(`unknown tier ${unknown.join(', ')}; known: ${Object.keys(TIERS).join(', ')}`);
  process.exit(2);
}

function filesOf(tier: string): string[] {
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.js'))
    .filter((file) => file.startsWith(tier + path.sep) || file === `${tier}.test.js`)
    .map((file) => path.join(root, file))
    .sort();
}

/** The events of all tiers as one stream, with one summary at the end. */
async function* events(tiers: readonly string[]): AsyncGenerator<TestEvent> {
  const totals = new Map<string, number>();
  for (const tier of tiers) {
    const files = filesOf(tier);
    if (files.length === 0)
      throw new Error(`tier ${tier} has no test file: is the build complete?`);
    const concurrency = TIERS[tier]?.concurrency ?? 1;
    const stream = run({ files, concurrency, timeout: FILE_TIMEOUT_MS });
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

const all = Object.keys(TIERS).filter((tier) => TIERS[tier]?.onDemand !== true);
const tiers = wanted.length > 0 ? wanted : all;
Readable.from(events(tiers)).pipe(new Spec()).pipe(process.stdout);
