/** Rates for each key, and for all keys of one origin together: a new key begins with nothing used, its network does not. */
import type { Clock } from '../interfaces.js';
import { SenderBuckets, type Rate } from '../token-bucket.js';
import { isShared } from './origin.js';

export class OriginRates {
  readonly #byKey: SenderBuckets;
  readonly #byOrigin: SenderBuckets;

  constructor(clock: Clock, rates: { perKey: Rate; perOrigin: Rate }) {
    this.#byKey = new SenderBuckets(clock, rates.perKey);
    this.#byOrigin = new SenderBuckets(clock, rates.perOrigin);
  }

  /** Takes one for `peerId`, which comes from `origin`; false when either has used up its rate. */
  tryTake(peerId: string, origin: string): boolean {
    if (!this.#byKey.of(peerId).tryTake(1)) return false;
    return !isShared(origin) || this.#byOrigin.of(origin).tryTake(1);
  }
}
