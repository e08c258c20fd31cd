/** Which run to join: asks the address until it answers, and has the user choose where there are several. */
import { setTimeout as delay } from 'node:timers/promises';
import { EXIT_USAGE, UserError } from '../errors.js';
import { NewerProtocolError } from '../net/errors.js';
import type { Host } from '../net/host.js';
import { askRuns } from '../net/introduce.js';
import type { KnownRun } from '../net/run-registry.js';
import { InvalidManifestError } from '../../protocol/errors.js';
import type { Run } from '../../protocol/manifest.js';
import type { VerbIo } from './verb.js';

/** One attempt may take this long, in ms. */
const ATTEMPT_MS_MAX = 10_000;
/** Pauses between attempts double from the first to the last, in ms. */
const PAUSE_MS_MIN = 1_000;
const PAUSE_MS_MAX = 30_000;

export interface FindRunOptions {
  /** Multiaddrs of bootstrap nodes or members, asked in turn. */
  addresses: readonly string[];
  /** Id, first digits of it, or name; null takes the only run there is. */
  wanted: string | null;
  /** Give up after so long, in ms. */
  timeoutMs: number;
}

/**
 * Asks until there is a run. Each failure is said on stderr.
 * Throws UserError (several runs, not the wanted one, malformed address, out of time), `io.signal.reason`.
 */
export async function findRun(host: Host, options: FindRunOptions, io: VerbIo): Promise<KnownRun> {
  const endMs = performance.now() + options.timeoutMs;
  for (let pauseMs = PAUSE_MS_MIN; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MS_MAX)) {
    let problem = '';
    for (const address of options.addresses) {
      const found = await attempt(host, { address, wanted: options.wanted }, io.signal);
      if (typeof found !== 'string') return found;
      problem ||= found;
    }
    if (performance.now() + pauseMs > endMs) {
      throw new UserError(`${problem}; gave up after ${options.timeoutMs / 1000} s (--timeout)`);
    }
    io.stderr.write(`${problem}; trying again in ${pauseMs / 1000} s\n`);
    await delay(pauseMs, undefined, { signal: io.signal });
  }
}

/** A run, or why there is none yet. */
async function attempt(
  host: Host,
  { address, wanted }: { address: string; wanted: string | null },
  signal: AbortSignal,
): Promise<KnownRun | string> {
  let runs: KnownRun[];
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(ATTEMPT_MS_MAX)]);
  try {
    // Of one run more is told than of each of many.
    const id = wanted !== null && /^[0-9a-f]{64}$/.test(wanted) ? wanted : null;
    runs = id === null ? [] : await askRuns(host, address, deadline, id);
    if (runs.length === 0) runs = await askRuns(host, address, deadline);
  } catch (error) {
    signal.throwIfAborted();
    if (deadline.aborted) return `${address} did not answer within ${ATTEMPT_MS_MAX / 1000} s`;
    const isFinal =
      !(error instanceof UserError) ||
      error.exitCode === EXIT_USAGE ||
      error.cause instanceof InvalidManifestError ||
      error.cause instanceof NewerProtocolError;
    if (isFinal) throw error;
    return error.message;
  }
  if (runs.length === 0) return `${address} knows of no run yet`;
  return chooseRun(runs, wanted, address);
}

/** Throws UserError when it is not clear which run is meant. */
export function chooseRun(
  runs: readonly KnownRun[],
  wanted: string | null,
  address: string,
): KnownRun {
  const matching = runs.filter(({ run }) => wanted === null || isRun(run, wanted));
  const [only] = matching;
  if (only !== undefined && matching.length === 1) return only;
  const list = (matching.length > 0 ? matching : runs).map(({ run, peers }) => {
    const { name, model } = run.manifest;
    const count = `${peers.length} ${peers.length === 1 ? 'peer' : 'peers'}`;
    return `${run.id.slice(0, 12)} "${name}" (${model.name}, ${count})`;
  });
  throw new UserError(
    matching.length === 0
      ? `${address} knows no run "${wanted ?? ''}"; it knows ${list.join(', ')}; choose one with --run ID`
      : `${address} knows ${list.length} runs: ${list.join(', ')}; choose one with --run ID`,
    EXIT_USAGE,
  );
}

/** Whether `wanted` is the run's name or begins its id. */
export function isRun(run: Run, wanted: string): boolean {
  return (
    run.manifest.name === wanted || (/^[0-9a-f]{6,64}$/.test(wanted) && run.id.startsWith(wanted))
  );
}
