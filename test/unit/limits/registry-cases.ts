/** Bounds of introductions: what a registry lists, and which addresses are kept. */
import { cleanAddresses } from '../../../node/net/addresses.js';
import { RunRegistry, RUNS_PER_PEER_MAX } from '../../../node/net/run-registry.js';
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
  ADDRESSES_MAX: { takes: (value) => keepsAll(value, direct) },
  RELAYED_ADDRESSES_MAX: { takes: (value) => keepsAll(value, relayed) },
} satisfies Partial<Record<LimitName, LimitCase>>;
