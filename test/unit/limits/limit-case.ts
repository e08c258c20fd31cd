/** A case for a bound of protocol/limits.ts: what it bounds is made at the bound and just beyond, and handed to what enforces it. */
import type * as limits from '../../../protocol/limits.js';

export type LimitName = keyof typeof limits;

export interface LimitCase {
  /** Whether something of this size (number, time) is taken by the code that enforces the bound. */
  takes: (value: number) => boolean | Promise<boolean>;
  /** The least that is beyond the bound: 1 unless said otherwise, -1 for a smallest value. */
  step?: number;
}

/** The bounds whose cases need libp2p: test/net/limits.test.ts has them. */
export const OVER_SOCKETS = [
  'SYNC_FRAME_BYTES_MAX',
  'GOSSIP_MESSAGES_BURST',
  'GOSSIP_MESSAGES_PER_SECOND',
  'GOSSIP_BURST_BYTES',
  'GOSSIP_BYTES_PER_SECOND',
  'INTRODUCTIONS_BURST',
  'INTRODUCTIONS_PER_SECOND',
  'REACH_CHECKS_BURST',
  'REACH_CHECKS_PER_MINUTE',
  'REACH_PORTS_MAX',
] as const satisfies readonly LimitName[];

/** True when `work` is done; false when it throws an error that says `sentence`. Any other error is the test's. */
export function isTaken(sentence: RegExp, work: () => unknown): boolean {
  try {
    work();
    return true;
  } catch (error) {
    if (error instanceof Error && sentence.test(error.message)) return false;
    throw error;
  }
}

/** The same for what cannot be made valid at that size: every other error comes after the check of the bound. */
export function isWithin(sentence: RegExp, work: () => unknown): boolean {
  try {
    work();
    return true;
  } catch (error) {
    return !(error instanceof Error && sentence.test(error.message));
  }
}
