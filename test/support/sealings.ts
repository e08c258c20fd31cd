/** The part of a peer that seals, on a store of its own, for tests of what works beside it. */
import type { Clock, Logger, Store, Transport } from '../../node/interfaces.js';
import { epochAt } from '../../node/peer/slots.js';
import { Fetcher } from '../../node/peer/fetcher.js';
import { Journal } from '../../node/peer/journal.js';
import type { Replica } from '../../node/peer/replica.js';
import { Sealing, type SealingComponents } from '../../node/peer/sealing.js';
import { Prng } from '../../protocol/prng.js';
import { testIdentity } from './runs.js';
import { storeWith } from './replicas.js';

const ignore = (): void => undefined;
export const SILENT: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore };

export interface SealingInit {
  replica: Replica;
  transport: Transport;
  clock: Clock;
  store?: Store;
}

/** In a run that seals nothing it does nothing. `changes` replaces parts of it. */
export function testSealing(
  { replica, transport, clock, store = storeWith([]) }: SealingInit,
  changes: Partial<SealingComponents> = {},
  signal: AbortSignal = new AbortController().signal,
): Sealing {
  const { run } = replica;
  const random = new Prng(new Uint8Array(32), 'sealing');
  const onFatal = (error: unknown): never => {
    throw error;
  };
  const shared = { transport, clock, replica, runId: run.id };
  return new Sealing({
    ...{ replica, transport, clock, store, logger: SILENT, identity: testIdentity(0) },
    journal: new Journal(store, clock, onFatal),
    fetcher: new Fetcher({ ...shared, random, onLie: ignore }, signal),
    epochNow: () => epochAt(run, clock.now()),
    ...{ tell: ignore, onAdopted: ignore, logBytesMax: Infinity },
    ...changes,
  });
}
