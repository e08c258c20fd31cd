/**
 * Fuzzes the decoders: `npm run fuzz -- --target gossip --seconds 60`, or `--target all` for each in turn. An input that
 * breaks the oracle is kept under test/fuzz/regressions/, where the unit tests replay it; exit code 1 then. The names of
 * session scripts are targets too: a session over its bounds is named by its seed.
 */
import { randomInt } from 'node:crypto';
import { relative } from 'node:path';
import { parseArgs } from 'node:util';
import { EXIT_FAILURE, EXIT_USAGE } from '../../node/errors.js';
import type { FuzzFigures } from './fuzzer.js';
import { checkCost } from './cost.js';
import { FuzzFindingError } from './oracle.js';
import { SCRIPTS } from './scripts.js';
import { TARGETS } from './targets.js';
import { watchFuzzing } from './watch.js';

/** Seeds are drawn below this: short enough to type. */
const SEED_BOUND = 2 ** 31;

/** Decoders, and scripts of whole sessions. */
const NAMES = [...Object.keys(TARGETS), ...Object.keys(SCRIPTS)];

/** Bytes of the largest session. */
const SESSION_BYTES_MAX = 16 * 1024 * 1024;

/** Between two lines of progress, in s. */
const PROGRESS_SECONDS = 30;

function row(name: string, figures: FuzzFigures): string {
  const { executions, seconds, functions, characters, corpus } = figures;
  const perSecond = Math.round(executions / seconds);
  return (
    `${name.padEnd(18)} ${executions} inputs in ${seconds.toFixed(0)} s (${perSecond}/s), ` +
    `${functions} functions, ${(characters / 1000).toFixed(1)} thousand characters of code, ${corpus} kept`
  );
}

function usage(): never {
  console.error(
    'usage: npm run fuzz -- --target NAME,...|all [--seconds S] [--runs N] [--seed N]\n' +
      `targets: ${NAMES.join(', ')}`,
  );
  process.exit(EXIT_USAGE);
}

async function fuzzOne(
  name: string,
  seconds: number,
  executions: number,
  seed: number,
): Promise<void> {
  let nextSeconds = PROGRESS_SECONDS;
  const report = await watchFuzzing(name, { seconds, executions, seed }, (figures) => {
    if (figures.seconds < nextSeconds) return;
    nextSeconds += PROGRESS_SECONDS;
    console.error(row(name, figures));
  });
  console.log(row(name, report.figures));
  if (report.finding === null) return;
  const { message, file } = report.finding;
  console.log(`${name}: FOUND ${message}\n  input: ${relative(process.cwd(), file)}`);
  process.exitCode = EXIT_FAILURE;
}

/** Sessions of one script, of up to SESSION_BYTES_MAX. */
async function fuzzSessions(
  name: string,
  seconds: number,
  executions: number,
  seed: number,
): Promise<void> {
  const endMs = performance.now() + 1_000 * seconds;
  let [sessions, bytes] = [0, 0];
  try {
    for (; sessions < executions && performance.now() < endMs; sessions++) {
      const bytesMax = SESSION_BYTES_MAX >> (2 * (sessions % 3));
      bytes += (await checkCost(SCRIPTS[name]!, `${seed}/${sessions}`, bytesMax)).bytes;
    }
  } catch (error) {
    if (!(error instanceof FuzzFindingError)) throw error;
    console.log(`${name}: FOUND ${error.message}`);
    process.exitCode = EXIT_FAILURE;
  }
  const mib = (bytes / 2 ** 20).toFixed(1);
  console.log(`${name.padEnd(18)} ${sessions} sessions within their bounds, ${mib} MiB taken`);
}

const { values } = parseArgs({
  options: {
    target: { type: 'string', default: '' },
    seconds: { type: 'string', default: '60' },
    runs: { type: 'string', default: '10000000' },
    /** Random by default. */
    seed: { type: 'string', default: String(randomInt(1, SEED_BOUND)) },
  },
});
const names = values.target === 'all' ? NAMES : values.target.split(',');
const [seconds = 0, runs = 0, seed = 0] = [values.seconds, values.runs, values.seed].map(Number);
if (names.some((name) => !NAMES.includes(name))) usage();
if (![seconds, runs, seed].every((value) => Number.isSafeInteger(value) && value > 0)) usage();
console.log(`seed ${seed}`);
for (const name of names) {
  const fuzz = Object.hasOwn(TARGETS, name) ? fuzzOne : fuzzSessions;
  await fuzz(name, seconds, runs, seed);
}
