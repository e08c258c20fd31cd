/**
 * Random seeds of swarms with all faults on, one worker a core: `npm run sim:nightly -- --seeds 1000 --peers 16`.
 * Each failing seed is printed with the command that replays it; exit code 1 when there was one.
 */
import { randomInt } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { SCENARIOS } from './scenarios.js';

/** Seeds between two lines of progress. */
const PROGRESS_SEEDS = 25;

/** Seeds are drawn below this: short enough to type. */
const SEED_BOUND = 2 ** 31;

interface Options {
  scenario: string;
  peers: number;
}

/** What a worker says of one seed; `error` null when all went well. */
interface Report {
  seed: number;
  error: string | null;
}

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
  const options: Options = { scenario: values.scenario, peers };
  console.log(`${seeds} seeds from ${first} on, ${peers} peers, scenario ${options.scenario}`);
  const queue = Array.from({ length: seeds }, (_, i) => (first ?? 0) + i).reverse();
  const startMs = performance.now();
  const failed: number[] = [];
  let done = 0;
  const onReport = ({ seed, error }: Report): void => {
    done += 1;
    if (error !== null) {
      failed.push(seed);
      const { scenario } = options;
      console.error(
        `failed: npm run sim -- --scenario ${scenario} --seed ${seed} --peers ${peers}`,
      );
      console.error(error);
    }
    if (done % PROGRESS_SEEDS !== 0 && done !== seeds) return;
    const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
    console.log(`${done} of ${seeds} seeds, ${failed.length} failed, ${seconds} s`);
  };
  const jobs = Math.min(seeds, Math.max(1, Number(values.jobs)));
  await Promise.all(Array.from({ length: jobs }, () => drain(queue, options, onReport)));
  if (failed.length > 0) process.exitCode = 1;
}

/** Lets one worker run seeds from `queue` until none is left. */
function drain(
  queue: number[],
  options: Options,
  onReport: (report: Report) => void,
): Promise<void> {
  const worker = new Worker(new URL(import.meta.url), { workerData: options });
  const next = (): void => {
    const seed = queue.pop();
    worker.postMessage(seed ?? null);
  };
  return new Promise((resolve, reject) => {
    worker.on('message', (report: Report) => {
      onReport(report);
      next();
    });
    worker.on('error', reject);
    worker.on('exit', () => resolve());
    next();
  });
}

function work({ scenario, peers }: Options): void {
  parentPort?.on('message', (seed: number | null) => {
    if (seed === null) {
      parentPort?.close();
      return;
    }
    const run = SCENARIOS[scenario]?.run(seed, peers) ?? Promise.reject(new RangeError(scenario));
    run.then(
      () => parentPort?.postMessage({ seed, error: null } satisfies Report),
      (error: unknown) => {
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
        parentPort?.postMessage({ seed, error: text } satisfies Report);
      },
    );
  });
}

if (isMainThread) await main();
else work(workerData as Options);
