/**
 * Random seeds of swarms with all faults on, one worker a core: `npm run sim:nightly -- --seeds 1000 --peers 16`.
 * Each failing seed is printed with the command that replays it; exit code 1 when there was one.
 */
import { randomInt } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { SCENARIOS } from './scenarios.js';
import { replayOf, runSeeds, type SeedReport } from './seeds.js';

/** Seeds between two lines of progress. */
const PROGRESS_SEEDS = 25;

/** Seeds are drawn below this: short enough to type. */
const SEED_BOUND = 2 ** 31;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      scenario: { type: 'string', default: 'everything' },
      seeds: { type: 'string', default: '1000' },
      peers: { type: 'string', default: '16' },
      /** The first seed; random by default. */
      seed: { type: 'string', default: String(randomInt(SEED_BOUND)) },
      jobs: { type: 'string', default: String(availableParallelism()) },
    },
  });
  const [seeds, peers, first] = [values.seeds, values.peers, values.seed].map(Number);
  if (!(values.scenario in SCENARIOS) || !seeds || !peers || !Number.isSafeInteger(first)) {
    console.error(
      'usage: npm run sim:nightly -- [--scenario NAME] [--seeds N] [--peers N] [--seed N]',
    );
    process.exit(2);
  }
  const options = { scenario: values.scenario, peers };
  console.log(`${seeds} seeds from ${first} on, ${peers} peers, scenario ${options.scenario}`);
  const startMs = performance.now();
  const failed: number[] = [];
  let done = 0;
  const onReport = ({ seed, error }: SeedReport): void => {
    done += 1;
    if (error !== null) {
      failed.push(seed);
      console.error(`failed: ${replayOf(options, seed)}`);
      console.error(error);
    }
    if (done % PROGRESS_SEEDS !== 0 && done !== seeds) return;
    const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
    console.log(`${done} of ${seeds} seeds, ${failed.length} failed, ${seconds} s`);
  };
  const jobs = Number(values.jobs);
  await runSeeds(options, { first: first ?? 0, count: seeds, jobs }, onReport);
  if (failed.length > 0) process.exitCode = 1;
}

await main();
