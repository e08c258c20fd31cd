/**
 * Room for those who come in: when many have, the network that most of them come from makes room, so that an
 * attacker with many names in one network pushes out its own. An office behind one router is a network, too, but
 * one that has the node to itself.
 */
import { networkOf } from './addresses.js';

/** What decides who makes room. */
export interface Inbound {
  direction: 'inbound' | 'outbound';
  remoteAddr: { toString(): string };
  timeline: { open: number };
}

/** The connections to close so that `inboundMax` that came in are left: of the most crowded networks, the youngest first. */
export function surplusOf<C extends Inbound>(connections: readonly C[], inboundMax: number): C[] {
  const inbound = connections.filter(({ direction }) => direction === 'inbound');
  const byNetwork = new Map<string, C[]>();
  for (const connection of inbound) {
    const network = networkOf(connection.remoteAddr.toString()) ?? '';
    byNetwork.set(network, [...(byNetwork.get(network) ?? []), connection]);
  }
  const crowds = [...byNetwork.values()];
  for (const crowd of crowds) crowd.sort((a, b) => a.timeline.open - b.timeline.open);
  const surplus: C[] = [];
  while (inbound.length - surplus.length > inboundMax) {
    const largest = crowds.reduce((a, b) => (b.length > a.length ? b : a));
    surplus.push(...largest.splice(-1));
  }
  return surplus;
}
