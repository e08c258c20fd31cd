/** Members met before, in a small JSON file: a restarted peer finds them without a bootstrap node. */
import { z } from 'zod';
import { ADDRESSES_MAX, ADDRESS_BYTES_MAX, RUN_PEERS_MAX } from '../../protocol/limits.js';
import { cleanAddresses, parsePeerId } from './addresses.js';
import { readIfThere, replaceFile } from '../files.js';
import type { PeerAddresses } from './run-registry.js';

const FILE_MODE = 0o600;

const schema = z.object({
  peers: z
    .array(
      z.object({
        peerId: z.string().max(64),
        addresses: z.array(z.string().max(ADDRESS_BYTES_MAX)).max(ADDRESSES_MAX),
      }),
    )
    .max(RUN_PEERS_MAX),
});

/**
 * The peers in the file at `path`; none when there is no file, and null when it is damaged: the peers can be
 * found again, so a caller says so and goes on. Rejects when the file cannot be read.
 */
export async function loadKnownPeers(path: string): Promise<PeerAddresses[] | null> {
  const bytes = await readIfThere(path);
  if (bytes === null) return [];
  const parsed = schema.safeParse(parse(bytes));
  if (!parsed.success) return null;
  return parsed.data.peers
    .filter(({ peerId }) => parsePeerId(peerId) !== null)
    .map(({ peerId, addresses }) => ({ peerId, addresses: cleanAddresses(peerId, addresses) }))
    .filter(({ addresses }) => addresses.length > 0);
}

/** Replaces the file atomically. Rejects as the system does (disk full, read-only). */
export async function saveKnownPeers(path: string, peers: readonly PeerAddresses[]): Promise<void> {
  const text = `${JSON.stringify({ peers: peers.slice(0, RUN_PEERS_MAX) }, null, 2)}\n`;
  await replaceFile(path, [text], FILE_MODE);
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as unknown;
  } catch {
    return null;
  }
}
