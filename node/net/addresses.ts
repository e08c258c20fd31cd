/** Multiaddrs from users and from other peers: parsed, checked and bounded. */
import type { PeerId } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { CODE_P2P, multiaddr, type Multiaddr } from '@multiformats/multiaddr';
import { ADDRESSES_MAX, ADDRESS_BYTES_MAX } from '../../protocol/limits.js';
import { EXIT_USAGE, UserError } from '../errors.js';

/** A user's address. @throws UserError (wrong usage) when it is not a TCP multiaddr. */
export function parseAddress(text: string): Multiaddr {
  const parsed = tcpAddress(text);
  if (parsed !== null) return parsed;
  throw new UserError(
    `"${text.slice(0, ADDRESS_BYTES_MAX)}" is not an address: it must look like /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...`,
    EXIT_USAGE,
  );
}

/** The peer id that an address names; null when it names none. */
export function peerIdOf(address: Multiaddr): string | null {
  return address.getComponents().findLast(({ code }) => code === CODE_P2P)?.value ?? null;
}

/** The peer that `text` names; null when it is no peer id. */
export function parsePeerId(text: string): PeerId | null {
  try {
    return peerIdFromString(text);
  } catch {
    return null;
  }
}

/**
 * What a peer may be dialled at, out of what it or another peer says: at most ADDRESSES_MAX distinct
 * TCP addresses, without the /p2p part. Malformed ones and those of another peer are left out.
 */
export function cleanAddresses(peerId: string, texts: readonly string[]): string[] {
  const clean = new Set<string>();
  for (const text of texts.slice(0, ADDRESSES_MAX)) {
    const parsed = tcpAddress(text);
    if (parsed === null || (peerIdOf(parsed) ?? peerId) !== peerId) continue;
    clean.add(parsed.decapsulateCode(CODE_P2P).toString());
  }
  return [...clean];
}

/** Null unless `text` is /ip4|ip6|dns.../.../tcp/<1..65535 or 0>[/p2p/<id>] within ADDRESS_BYTES_MAX. */
function tcpAddress(text: string): Multiaddr | null {
  if (Buffer.byteLength(text) > ADDRESS_BYTES_MAX) return null;
  try {
    const parsed = multiaddr(text);
    const names = parsed.getComponents().map(({ name }) => name);
    const [network = '', transport, last, ...more] = names;
    const known = /^(ip4|ip6|dns|dns4|dns6)$/.test(network) && transport === 'tcp';
    return known && (last === undefined || last === 'p2p') && more.length === 0 ? parsed : null;
  } catch {
    return null;
  }
}
