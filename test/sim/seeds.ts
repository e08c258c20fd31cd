/** Runs many seeds of one scenario, each worker thread one at a time. */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { SCENARIOS } from './scenarios.js';

export interface SeedOptions {
  scenario: string;
  peers: number;
}

/** What a worker says of one seed; `error` null when all went well. */
export interface SeedReport {
  seed: number;
  error: string | null;
}

/** The command that runs one seed again. */
export function replayOf({ scenario, peers }: SeedOptions, seed: number): string {
  const command = `npm run sim -- --scenario ${scenario} --seed ${seed}`;
  // The hostile scenario draws the number of peers from its seed.
  return scenario === 'hostile' ? command : `${command} --peers ${peers}`;
}

/** Runs `count` seeds from `first` on in `jobs` workers; resolves when all have been reported. */
export async function runSeeds(
  options: SeedOptions,
  { first, count, jobs }: { first: number; count: number; jobs: number },
  onReport: (report: SeedReport) => void,
): Promise<void> {
  const queue = Array.from({ length: count }, (_, i) => first + i).reverse();
  const workers = Math.min(count, Math.max(1, jobs));
  await Promise.all(Array.from({ length: workers }, () => drain(queue, options, onReport)));
}

/** Lets one worker run seeds from `queue` until none is left. */
function drain(
  queue: number[],
  options: SeedOptions,
  onReport: (report: SeedReport) => void,
): Promise<void> {
  const worker = new Worker(new URL(import.meta.url), { workerData: options });
  const next = (): void => {
    const seed = queue.pop();
    worker.postMessage(seed ?? null);
  };
  return new Promise((resolve, reject) => {
    worker.on('message', (report: SeedReport) => {
      onReport(report);
      next();
    });
    worker.on('error', reject);
    worker.on('exit', (code) =>
      code === 0 ? resolve() : reject(new Error(`a worker ended with ${code}`)),
    );
    next();
  });
}

function work({ scenario, peers }: SeedOptions): void {
  parentPort?.on('message', (seed: number | null) => {
    if (seed === null) {
      parentPort?.close();
      return;
    }
    const run = SCENARIOS[scenario]?.run(seed, peers) ?? Promise.reject(new RangeError(scenario));
    run.then(
      () => parentPort?.postMessage({ seed, error: null } satisfies SeedReport),
      (error: unknown) => {
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
        parentPort?.postMessage({ seed, error: text } satisfies SeedReport);
      },
    );
  });
}

if (!isMainThread) work(workerData as SeedOptions);
