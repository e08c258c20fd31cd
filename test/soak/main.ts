/**
 * Whether a peer leaks: `npm run soak -- --hours 2 --peers 4`. Exit code 1 when memory, handles or streams grow
 * faster than allowed, or when the soak was too short to tell.
 */
import { parseArgs } from 'node:util';
import { EXIT_INTERRUPTED, EXIT_USAGE } from '../../node/errors.js';
import { createLogger } from '../../node/log.js';
import type { Sample } from './sample.js';
import { soak } from './run.js';
import { verdict, type TimedSample } from './verdict.js';

const PEERS = { min: 2, max: 8 };
const HOURS = { min: 0.05, max: 48 };
const SEED = { min: 0, max: Number.MAX_SAFE_INTEGER };

const HOUR_MS = 3_600_000;

/** Between two samples in ms: a minute, or less so that a short soak has as many. */
const INTERVAL_MS = { min: 5_000, max: 60_000 };
const SAMPLES = 120;

const { values } = parseArgs({
  options: {
    hours: { type: 'string', default: '2' },
    peers: { type: 'string', default: '4' },
    seed: { type: 'string', default: '1' },
  },
});

/** Ends the program when `text` is no number within the bounds. */
function bounded(name: string, text: string, { min, max }: { min: number; max: number }): number {
  const value = Number(text);
  if (value >= min && value <= max) return value;
  console.error(`--${name} ${text}: give a number from ${min} to ${max}`);
  process.exit(EXIT_USAGE);
}

const peers = Math.round(bounded('peers', values.peers, PEERS));
const durationMs = HOUR_MS * bounded('hours', values.hours, HOURS);
const seed = bounded('seed', values.seed, SEED);
const intervalMs = Math.min(INTERVAL_MS.max, Math.max(INTERVAL_MS.min, durationMs / SAMPLES));

const interruption = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.once(name, () => interruption.abort(new DOMException('interrupted', 'AbortError')));
}

const columns = ['minute', 'memory MB', 'resident MB', 'handles', 'connections', 'streams'];
const row = (cells: readonly string[]): string =>
  cells.map((cell, i) => cell.padStart(columns[i]?.length ?? 0)).join('  ');

const samples: TimedSample[] = [];
function onSample(atMs: number, sample: Sample, note: string): void {
  samples.push({ atMs, ...sample });
  const { memoryMb, residentMb, handles, connections, streams } = sample;
  const figures = [memoryMb.toFixed(2), residentMb.toFixed(0), handles, connections, streams];
  console.log(`${row([(atMs / 60_000).toFixed(1), ...figures.map(String)])}  ${note}`);
}

console.log(row(columns));
try {
  const { signal } = interruption;
  const logger = createLogger({ level: 'error', format: 'text' });
  await soak({ peers, durationMs, intervalMs, seed, onSample, logger, signal });
  const { table, problems } = verdict(samples, peers);
  console.log(table);
  for (const problem of problems) console.error(`failed: ${problem}`);
  if (problems.length > 0) process.exitCode = 1;
} catch (error) {
  console.error(interruption.signal.aborted ? 'interrupted' : error);
  process.exitCode = interruption.signal.aborted ? EXIT_INTERRUPTED : 1;
}
