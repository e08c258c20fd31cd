/** Bounds of introductions: what a registry lists, and which addresses are kept. */
import { cleanAddresses } from '../../../node/net/addresses.js';
import { INTRODUCTION_RATES } from '../../../node/net/introduce.js';
import { OriginRates } from '../../../node/net/origin-rates.js';
import { REACH_RATES } from '../../../node/net/reach.js';
import { CHECK_RATES, RunRegistry, RUNS_PER_PEER_MAX } from '../../../node/net/run-registry.js';
import type { Rate } from '../../../node/token-bucket.js';
import { encodeManifest } from '../../../protocol/manifest-codec.js';
import type { Run } from '../../../protocol/manifest.js';
import { testIdentity } from '../../support/runs.js';
import { sampleManifest } from '../manifest-sample.js';
import type { LimitCase, LimitName } from './limit-case.js';

const peer = (index: number): string => testIdentity(index).peerId;
const runNamed = (name: string): Run => encodeManifest({ ...sampleManifest(), name });
const direct = (i: number): string => `/ip4/192.0.2.7/tcp/${1000 + i}`;
const relayed = (i: number): string => `${direct(i)}/p2p/${peer(7)}/p2p-circuit`;

function offer(registry: RunRegistry, index: number, run: Run): void {
  const from = { addresses: [direct(0)], origin: `key ${peer(index)}` };
  registry.announce(peer(index), { runId: run.id, manifest: run.bytes, ...from });
}

/** Whether all of `count` addresses are kept. */
const keepsAll = (count: number, address: (i: number) => string): boolean =>
  cleanAddresses(
    peer(1),
    Array.from({ length: count }, (_, i) => address(i)),
  ).length === count;

interface Rates {
  perKey: Rate;
  perOrigin: Rate;
}

/** Takes `count` within a burst and, after it, within `passMs`: of one key, or of keys of one network. */
function takesRate(rates: Rates, keys: 'one' | 'many', count: number, passMs = 0): boolean {
  let nowMs = 0;
  const clock = { now: () => nowMs, sleep: () => Promise.reject(new RangeError('no waiting')) };
  const taken = new OriginRates(clock, rates);
  let key = 0;
  const take = (): boolean => taken.tryTake(keys === 'one' ? 'a' : `${key++}`, 'network 45.33.7');
  const burst = keys === 'one' ? rates.perKey.burst : rates.perOrigin.burst;
  if (passMs > 0) for (let i = 0; i < burst; i++) take();
  nowMs += passMs;
  return Array.from({ length: count }, take).every(Boolean);
}

const burst = (rates: Rates, keys: 'one' | 'many'): LimitCase => ({
  takes: (value) => takesRate(rates, keys, value),
});
const within = (rates: Rates, keys: 'one' | 'many', passMs: number): LimitCase => ({
  takes: (value) => takesRate(rates, keys, value, passMs),
});

export const REGISTRY_CASES = {
  RUNS_MAX: {
    takes: (value) => {
      const registry = new RunRegistry({ own: null });
      for (let i = 0; i < value; i++)
        offer(registry, Math.floor(i / RUNS_PER_PEER_MAX), runNamed(`run ${i}`));
      return registry.list(null).length === value;
    },
  },
  RUN_PEERS_MAX: {
    takes: (value) => {
      const registry = new RunRegistry({ own: null });
      const run = runNamed('crowd');
      for (let i = 0; i < value; i++) offer(registry, i, run);
      return registry.list(run.id)[0]?.peers.length === value;
    },
  },
  INTRODUCED_PEERS_MAX: {
    takes: (value) => {
      const registry = new RunRegistry({ own: null });
      const run = runNamed('crowd');
      for (let i = 0; i < value; i++) offer(registry, i, run);
      return registry.introduce('newcomer', run.id, Infinity)[0]?.peers.length === value;
    },
  },
  NETWORK_INTRODUCTIONS_BURST: burst(INTRODUCTION_RATES, 'many'),
  NETWORK_INTRODUCTIONS_PER_SECOND: within(INTRODUCTION_RATES, 'many', 1_000),
  INTRODUCTION_CHECKS_BURST: burst(CHECK_RATES, 'one'),
  INTRODUCTION_CHECKS_PER_MINUTE: within(CHECK_RATES, 'one', 60_000),
  NETWORK_INTRODUCTION_CHECKS_BURST: burst(CHECK_RATES, 'many'),
  NETWORK_INTRODUCTION_CHECKS_PER_MINUTE: within(CHECK_RATES, 'many', 60_000),
  NETWORK_REACH_CHECKS_BURST: burst(REACH_RATES, 'many'),
  NETWORK_REACH_CHECKS_PER_MINUTE: within(REACH_RATES, 'many', 60_000),
  ADDRESSES_MAX: { takes: (value) => keepsAll(value, direct) },
  RELAYED_ADDRESSES_MAX: { takes: (value) => keepsAll(value, relayed) },
} satisfies Partial<Record<LimitName, LimitCase>>;
