/**
 * Room for those who come in: when many have, the origin with most connections makes room, so that an attacker with
 * many names in one network pushes out its own, and one with many networks nobody who was here before.
 */
import { originOf } from './origin.js';
import { surplus, type Draw, type Place } from './places.js';

/** What decides who makes room. */
export interface Inbound {
  direction: 'inbound' | 'outbound';
  remotePeer: { toString(): string };
  remoteAddr: { toString(): string };
  timeline: { open: number };
}

/** The connections to close so that `inboundMax` that came in are left (places.ts). */
export function surplusOf<C extends Inbound>(
  connections: readonly C[],
  inboundMax: number,
  draw: Draw,
): C[] {
  const inbound = connections.filter(({ direction }) => direction === 'inbound');
  if (inbound.length <= inboundMax) return [];
  const places = inbound.map((connection): Place & { connection: C } => ({
    connection,
    origin: originOf(connection.remotePeer.toString(), connection.remoteAddr.toString()),
    cost: 1,
    sinceMs: connection.timeline.open,
    aliveMs: 0,
  }));
  // Each is alive as long as it is open: ping ends those that are not.
  const room = { capacity: inboundMax, absentMs: Infinity };
  return surplus(places, room, 0, draw).map(({ connection }) => connection);
}
