/** What this process holds, and what of it must not grow. */
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';
import type { Host } from '../../node/net/host.js';

/** Amounts that a peer may hold, but not more and more of. */
export interface Sample {
  /** JavaScript objects after garbage collection, and the buffers that belong to them, in MB. */
  memoryMb: number;
  /** Everything resident, in MB: shown, not judged, for the allocator gives back late. */
  residentMb: number;
  /** Sockets, servers, timers: whatever keeps the process alive. */
  handles: number;
  connections: number;
  streams: number;
}

export interface Judged {
  measure: 'memoryMb' | 'handles' | 'streams';
  words: string;
  /** May grow by at most so much an hour for each peer in the process. */
  perPeerHourMax: number;
}

/**
 * Memory: 43 MB a day is what a known leak of libp2p 3 costs a node (Lodestar issue 8969). Here epochs are short
 * and connections break all the time, so that an ordinary peer leaks a small part of what is seen here.
 * Handles and streams: at 10 an hour a peer would reach the usual 1024 open files of a process in four days.
 */
export const JUDGED: readonly Judged[] = [
  { measure: 'memoryMb', words: 'memory after gc, MB', perPeerHourMax: 43 / 24 },
  { measure: 'handles', words: 'handles', perPeerHourMax: 10 },
  { measure: 'streams', words: 'open streams', perPeerHourMax: 10 },
];

const MB = 1e6;

/** Finalisers run a turn after the objects are found dead; what they let go of is found the next time. */
const COLLECTIONS = 3;

/** Looks of one sample: half an epoch later an update that was in the making is gone. */
const LOOKS = 6;

/**
 * The least of each amount over `spanMs`, in which the peers come to rest at some moment.
 * @throws TypeError unless node was started with --expose-gc; rejects when `signal` aborts.
 */
export async function takeSample(
  hosts: readonly Host[],
  spanMs: number,
  signal: AbortSignal,
): Promise<Sample> {
  let least = await look(hosts);
  for (let i = 1; i < LOOKS; i++) {
    await delay(spanMs / LOOKS, undefined, { signal });
    const next = await look(hosts);
    least = {
      memoryMb: Math.min(least.memoryMb, next.memoryMb),
      residentMb: Math.min(least.residentMb, next.residentMb),
      handles: Math.min(least.handles, next.handles),
      connections: Math.min(least.connections, next.connections),
      streams: Math.min(least.streams, next.streams),
    };
  }
  return least;
}

async function look(hosts: readonly Host[]): Promise<Sample> {
  if (globalThis.gc === undefined) throw new TypeError('start node with --expose-gc');
  for (let i = 0; i < COLLECTIONS; i++) {
    globalThis.gc();
    await turn();
  }
  const { heapUsed, external, rss } = process.memoryUsage();
  const connections = hosts.flatMap((host) => host.libp2p.getConnections());
  return {
    memoryMb: (heapUsed + external) / MB,
    residentMb: rss / MB,
    handles: process.getActiveResourcesInfo().length,
    connections: connections.length,
    streams: connections.reduce((sum, { streams }) => sum + streams.length, 0),
  };
}
