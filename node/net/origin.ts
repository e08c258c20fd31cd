/**
 * Whom a connection is counted against. Keys cost nothing and addresses that a peer names are only words, so the network
 * that its connection comes from counts. In a private network and on one machine, where everybody shares one, and
 * behind a proxy that hides it, each key counts by itself.
 */
import { multiaddr } from '@multiformats/multiaddr';
import { isRelayed, publicNetworkOf, relayOf } from './addresses.js';

/** The origin of `peerId`, whose connection comes from the multiaddr `from`. */
export function originOf(peerId: string, from: string): string {
  if (isRelayed(from)) return relayOriginOf(from);
  const network = publicNetworkOf(from);
  return network === null ? `key ${peerId}` : `network ${network}`;
}

/** Whether keys share this origin. */
export function isShared(origin: string): boolean {
  return !origin.startsWith('key ');
}

/** All that one relay brings: it would have to be many relays, each with a place for us, to be many origins. */
function relayOriginOf(from: string): string {
  const network = publicNetworkOf(from.slice(0, from.indexOf('/p2p')));
  return `relay ${network ?? relayIn(from)}`;
}

function relayIn(from: string): string {
  try {
    return relayOf(multiaddr(from)) ?? '';
  } catch {
    return '';
  }
}
