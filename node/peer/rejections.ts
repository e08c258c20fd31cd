/** What came from (or by) each peer and was not used, by reason. */
import type { RejectionCode } from '../../protocol/errors.js';
import { AUTHORS_MAX } from '../../protocol/limits.js';

export class RejectionTally {
  readonly #counts = new Map<string, Partial<Record<RejectionCode, number>>>();

  count(peerId: string, code: RejectionCode): void {
    let counts = this.#counts.get(peerId);
    if (counts === undefined) {
      // Strangers come and go: the oldest tally is forgotten first.
      const oldest = this.#counts.keys().next().value;
      if (this.#counts.size >= AUTHORS_MAX && oldest !== undefined) this.#counts.delete(oldest);
      counts = {};
      this.#counts.set(peerId, counts);
    }
    counts[code] = (counts[code] ?? 0) + 1;
  }

  /** Code -> count. */
  of(peerId: string): Partial<Record<RejectionCode, number>> {
    return { ...this.#counts.get(peerId) };
  }
}
