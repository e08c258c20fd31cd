/**
 * What a session costs its victim: how long it blocks the processor, and what it retains, for each byte that a hostile
 * remote sends. A decoder that is cheap by itself can still be one of a million calls, or keep all of them.
 */
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Prng } from '../../protocol/prng.js';
import { FuzzFindingError, type FuzzTarget } from './oracle.js';

/** What a script may cost. Fixed parts are what a session has at its emptiest, and the noise of measuring. */
export interface CostBounds {
  /** Processor time in all: so much, and so much for each received byte. */
  fixedMs: number;
  usPerByte: number;
  /** The longest stretch of work between two waits, in processor time: whatever was sent, others wait for it. */
  stretchMs: number;
  /** Retained while the session goes on: heap after garbage collection, and buffers. */
  fixedBytes: number;
  bytesPerByte: number;
}

export interface Session {
  /**
   * Takes one frame as the product does, sends its answers to nobody, and yields wherever the product waits. Throws
   * what the product throws.
   */
  take(frame: Uint8Array): Iterable<unknown> | Promise<void>;
  /** What is kept may be let go of. */
  end?(): void | Promise<void>;
}

export interface SessionScript extends Pick<FuzzTarget, 'refusals'> {
  readonly bounds: CostBounds;
  /** Whether the next frame is taken after one that was refused: each is a message by itself. */
  readonly goesOn: boolean;
  /** Frames of a hostile remote, of `bytesMax` in all at most (or one more). */
  frames(random: Prng, bytesMax: number): Iterable<Uint8Array>;
  /** A new session with an empty memory. */
  start(): Session | Promise<Session>;
}

export interface Cost {
  frames: number;
  bytes: number;
  ms: number;
  stretchMs: number;
  retainedBytes: number;
}

/**
 * A session over its bounds by the clock is measured again by the time of the processor: a busy machine is no fault, and
 * code that was not compiled yet is none either.
 */
const STOPWATCHES: readonly Stopwatch[] = [wallMs, processorMs, processorMs];

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Collected twice, and with a pause: buffers are freed in the background after the first. */
async function heldBytes(): Promise<number> {
  collectGarbage();
  await setImmediate();
  collectGarbage();
  // "external" holds the bytes of buffers too.
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

type Stopwatch = () => number;

/** Asking for it costs more than many a frame. */
function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

function wallMs(): number {
  return performance.now();
}

/** Runs one session of `script` with the frames that `seed` names. Throws what it does not document. */
export async function costOf(
  script: SessionScript,
  seed: string,
  bytesMax: number,
  nowMs: Stopwatch = processorMs,
): Promise<Cost> {
  const cost: Cost = { frames: 0, bytes: 0, ms: 0, stretchMs: 0, retainedBytes: 0 };
  const session = await script.start();
  const before = await heldBytes();
  for (const frame of script.frames(new Prng(new Uint8Array(32), seed), bytesMax)) {
    cost.frames += 1;
    cost.bytes += frame.length;
    const startMs = nowMs();
    const isTaken = await takes(script, session, frame, cost, nowMs);
    cost.ms += nowMs() - startMs;
    if (!isTaken && !script.goesOn) break;
  }
  cost.retainedBytes = (await heldBytes()) - before;
  await session.end?.();
  return cost;
}

async function takes(
  script: SessionScript,
  session: Session,
  frame: Uint8Array,
  cost: Cost,
  nowMs: Stopwatch,
): Promise<boolean> {
  let startMs = nowMs();
  const note = (): void => {
    const endMs = nowMs();
    cost.stretchMs = Math.max(cost.stretchMs, endMs - startMs);
    startMs = endMs;
  };
  try {
    const work = session.take(frame);
    if (work instanceof Promise) await work;
    else {
      const steps = work[Symbol.iterator]();
      while (steps.next().done !== true) note();
      note();
    }
    return true;
  } catch (error) {
    if (script.refusals.some((kind) => error instanceof kind)) return false;
    throw new FuzzFindingError(`an error that is not documented: ${String(error)}`, {
      cause: error,
    });
  }
}

/** What of `cost` is over the bounds; null for nothing. */
export function excessOf({ bounds }: SessionScript, cost: Cost): string | null {
  const { bytes, frames, ms, stretchMs, retainedBytes } = cost;
  const sent = `${bytes} bytes in ${frames} frames`;
  const msMax = bounds.fixedMs + (bounds.usPerByte * bytes) / 1_000;
  const retainedMax = bounds.fixedBytes + bounds.bytesPerByte * bytes;
  if (ms > msMax) return `${sent} took ${ms.toFixed(0)} ms; ${msMax.toFixed(0)} are allowed`;
  if (stretchMs > bounds.stretchMs) {
    return `${sent}: blocked for ${stretchMs.toFixed(0)} ms; ${bounds.stretchMs} are allowed`;
  }
  if (retainedBytes <= retainedMax) return null;
  return `${sent}: ${retainedBytes} bytes are retained; ${Math.floor(retainedMax)} are allowed`;
}

/** Throws FuzzFindingError when the session that `seed` names is over its bounds each time. */
export async function checkCost(
  script: SessionScript,
  seed: string,
  bytesMax: number,
): Promise<Cost> {
  let excess: string | null = null;
  for (const stopwatch of STOPWATCHES) {
    const cost = await costOf(script, seed, bytesMax, stopwatch);
    excess = excessOf(script, cost);
    if (excess === null) return cost;
  }
  throw new FuzzFindingError(`session "${seed}": ${excess}`);
}
