/** Members of a run in the DHT: peers provide the CID of the manifest, whose SHA-256 is the run id. */
import { CID } from 'multiformats/cid';
import { create } from 'multiformats/hashes/digest';
import { fromHex } from '../../protocol/bytes.js';
import { RUN_PEERS_MAX } from '../../protocol/limits.js';
import { cleanAddresses } from './addresses.js';
import type { Host } from './host.js';
import { originOf } from './origin.js';
import { sample, type Place } from './places.js';
import type { PeerAddresses } from './run-registry.js';

/** Multicodec "raw" and multihash "sha2-256". */
const RAW_CODEC = 0x55;
const SHA2_256 = 0x12;

/** The CIDv1 (raw, sha2-256) of the run's canonical manifest bytes. */
export function runCid(runId: string): CID {
  return CID.createV1(RAW_CODEC, create(SHA2_256, fromHex(runId)));
}

/** Tells the DHT that this host is a member. Rejects when no DHT node answers before the signal aborts. */
export async function provideRun(host: Host, runId: string, signal: AbortSignal): Promise<void> {
  await host.libp2p.contentRouting.provide(runCid(runId), { signal });
}

/** Answers looked at: anybody may say that it takes part, so what comes first is not what is taken. */
const FOUND_MAX = 4 * RUN_PEERS_MAX;

/**
 * Asks the DHT for members: at most RUN_PEERS_MAX, out of as many networks as there are. Rejects when the signal aborts
 * before any was found.
 */
export async function findMembers(
  host: Host,
  runId: string,
  signal: AbortSignal,
): Promise<PeerAddresses[]> {
  const found = new Map<string, PeerAddresses & Place>();
  try {
    for await (const provider of host.libp2p.contentRouting.findProviders(runCid(runId), {
      signal,
    })) {
      const peerId = provider.id.toString();
      const texts = provider.multiaddrs.map((address) => address.toString());
      const addresses = cleanAddresses(peerId, texts);
      if (peerId === host.peerId || addresses.length === 0) continue;
      const origin = originOf(peerId, addresses[0] ?? '');
      found.set(peerId, { peerId, addresses, origin, cost: 1, sinceMs: 0, aliveMs: 0 });
      if (found.size >= FOUND_MAX) break;
    }
  } catch (error) {
    if (found.size === 0) throw error;
  }
  const room = { absentMs: Infinity };
  const chosen = sample([...found.values()], RUN_PEERS_MAX, room, 0, Math.random);
  return chosen.map(({ peerId, addresses }) => ({ peerId, addresses }));
}
