/**
 * A swarm of real processes under faults that a seed chooses:
 * `npm run chaos -- --minutes 10 --peers 8 --seed S`. Linux, as root, with iproute2,
 * nftables and Debian's libfaketime. Exit code 1 when something did not hold.
 */
import { parseArgs } from 'node:util';
import { EXIT_INTERRUPTED } from '../../node/errors.js';
import { summary } from './report.js';
import { runChaos } from './run.js';

const PEERS = { min: 3, max: 16 };
const MINUTES = { min: 1, max: 120 };
const SEED = { min: 0, max: Number.MAX_SAFE_INTEGER };

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    peers: { type: 'string', default: '8' },
    seed: { type: 'string' },
  },
});

/** Ends the program when `text` is no number within the bounds. */
function bounded(name: string, text: string, { min, max }: { min: number; max: number }): number {
  const value = Number(text);
  if (value >= min && value <= max) return value;
  console.error(`--${name} ${text}: give a number from ${min} to ${max}`);
  process.exit(2);
}

const peers = bounded('peers', values.peers, PEERS);
const durationMs = 60_000 * bounded('minutes', values.minutes, MINUTES);
// Any seed is as good as another: this one is told, so that the run can be had again.
const seed = values.seed === undefined ? Date.now() % 1e6 : bounded('seed', values.seed, SEED);

const interruption = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.once(name, () => interruption.abort(new DOMException('interrupted', 'AbortError')));
}

const command = `npm run chaos -- --minutes ${values.minutes} --peers ${peers} --seed ${seed}`;
console.log(command);
try {
  const { signal } = interruption;
  const say = (line: string): void => console.log(line);
  const outcome = await runChaos({ seed, peers, durationMs, say, signal });
  console.log(summary(outcome));
  for (const problem of outcome.problems) console.error(`failed: ${problem}`);
  if (outcome.problems.length > 0) {
    console.error(`again: ${command}`);
    process.exitCode = 1;
  }
} catch (error) {
  console.error(interruption.signal.aborted ? 'interrupted' : error);
  process.exitCode = interruption.signal.aborted ? EXIT_INTERRUPTED : 1;
}
