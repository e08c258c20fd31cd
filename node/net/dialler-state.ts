/** What the dialler is waiting for, as data and as sentences. */

/** An address that the user named. */
export interface Contact {
  address: string;
  /** Failed attempts in a row. */
  failures: number;
  /** Milliseconds since 1970. */
  nextAttemptMs: number;
  /** Why the last attempt failed; null after one that succeeded. */
  lastError: string | null;
  /** An attempt is under way. */
  busy: boolean;
}

export interface DiallerState {
  /** Connected members. */
  members: number;
  contacts: Contact[];
  /** Members known, connected or not. */
  candidates: number;
  /** Known members whose last dial failed. */
  unreachable: { peerId: string; reason: string; nextAttemptMs: number }[];
}

/** Sentences for `status`: what cannot be reached, and when it is tried again. Empty when all is well. */
export function attentionOf(state: DiallerState, nowMs: number): string[] {
  const { members } = state;
  const meanwhile =
    members === 0
      ? 'nobody is connected'
      : `going on with ${members} connected ${members === 1 ? 'peer' : 'peers'}`;
  const sentences = state.contacts
    .filter(({ lastError }) => lastError !== null)
    .map(({ address, lastError, nextAttemptMs, busy }) => {
      const next = busy
        ? 'trying again now'
        : `next attempt in ${secondsTo(nextAttemptMs, nowMs)} s`;
      return `cannot reach ${address} (${lastError ?? ''}): ${meanwhile}, ${next}`;
    });
  const [first] = [...state.unreachable].sort((a, b) => a.nextAttemptMs - b.nextAttemptMs);
  if (members === 0 && first !== undefined) {
    const count = state.unreachable.length;
    const whom = count === 1 ? 'the one known member' : `any of the ${count} known members`;
    sentences.push(
      `cannot reach ${whom} (${first.reason}): next attempt in ${secondsTo(first.nextAttemptMs, nowMs)} s`,
    );
  }
  return sentences;
}

function secondsTo(timeMs: number, nowMs: number): number {
  return Math.max(0, Math.ceil((timeMs - nowMs) / 1_000));
}
