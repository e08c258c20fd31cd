/**
 * What murmurate doctor finds: checks in lanes beside each other, each under a deadline and all under one, none of which
 * stops the others.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { UserError } from '../errors.js';

/** All checks together have so long, in ms: a person waits for them. */
export const TOTAL_MS_MAX = 27_000;

/** What was told to stop may take so long to close what it has opened, in ms. */
export const GRACE_MS = 1_000;

/** fail: start or join would not work so; warn: they would, but worse than they could. */
export type Level = 'ok' | 'warn' | 'fail';

export interface Finding {
  level: Level;
  /** What is the case, with its figures. */
  text: string;
  /** What to do about it, a command where there is one; null where nothing need be done, or the text says it. */
  fix: string | null;
}

export interface Check {
  /** One or two words. */
  name: string;
  /** It has this long, in ms; less where the checks before it in its lane took most of TOTAL_MS_MAX. */
  deadlineMs: number;
  /** What to do when it gives no result in that time. */
  whenLate: string;
  /** Rejects with UserError for a failure that says itself what to do, `signal.reason`. */
  run: (signal: AbortSignal) => Promise<readonly Finding[]>;
}

/** A finding with the name of its check. */
export interface Named extends Finding {
  check: string;
}

/** What to do about a machine that is too busy to be looked at. */
export const AGAIN = 'murmurate doctor once more when this machine has less to do (top)';

export function ok(text: string): Finding {
  return { level: 'ok', text, fix: null };
}

export function warn(text: string, fix: string | null = null): Finding {
  return { level: 'warn', text, fix };
}

export function fail(text: string, fix: string | null = null): Finding {
  return { level: 'fail', text, fix };
}

/**
 * Runs each of `lanes` in its order, all lanes at the same time, and is over `totalMs` and a second of grace later at
 * most. In the order of the lanes; rejects with `signal.reason` only.
 */
export async function runChecks(
  lanes: readonly (readonly Check[])[],
  signal: AbortSignal,
  onDone: (check: string) => void = () => undefined,
  totalMs = TOTAL_MS_MAX,
): Promise<Named[]> {
  const endMs = performance.now() + totalMs;
  const findings = await Promise.all(
    lanes.map(async (lane) => {
      const found: Named[] = [];
      for (const check of lane) {
        found.push(...(await runCheck(check, endMs, totalMs, signal)));
        onDone(check.name);
      }
      return found;
    }),
  );
  return findings.flat();
}

async function runCheck(
  check: Check,
  endMs: number,
  totalMs: number,
  signal: AbortSignal,
): Promise<Named[]> {
  signal.throwIfAborted();
  const deadlineMs = Math.min(check.deadlineMs, endMs - performance.now());
  const inSeconds = (ms: number): string => `${Number((ms / 1000).toPrecision(2))} s`;
  if (deadlineMs <= 0) {
    const text = `not begun: the checks before it took the ${inSeconds(totalMs)} that all have`;
    return [{ check: check.name, ...warn(text, AGAIN) }];
  }
  const late = new AbortController();
  // A timer that keeps the process: AbortSignal.timeout() would let it end in silence.
  const timer = setTimeout(() => late.abort(), deadlineMs);
  const either = AbortSignal.any([signal, late.signal]);
  const named = (findings: readonly Finding[]): Named[] =>
    findings.map((finding) => ({ check: check.name, ...finding }));
  const work = check.run(either);
  try {
    return named(await untilAborted(work, either));
  } catch (error) {
    // What it has opened is closed meanwhile: a process, a temporary file.
    if (either.aborted) await Promise.race([work.then(ignore, ignore), delay(GRACE_MS)]);
    signal.throwIfAborted();
    if (late.signal.aborted) {
      const text = `no result within ${inSeconds(deadlineMs)}, so nothing is known`;
      return named([warn(text, check.whenLate)]);
    }
    if (error instanceof UserError) return named([fail(error.message)]);
    const reason = error instanceof Error ? error.message : String(error);
    return named([fail(`it could not be checked: ${reason}`)]);
  } finally {
    clearTimeout(timer);
  }
}

function ignore(): void {
  // Its outcome counts no more.
}

/** Settles as `work` does, or rejects when `signal` aborts: a check that hangs is left behind. */
async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const stop = (): void => reject(signal.reason as Error);
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    void work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}
