/** Whether others can dial this peer: judged from reach checks, and what to do about it in a sentence. */
import { isPrivate } from '@libp2p/utils';
import { multiaddr } from '@multiformats/multiaddr';
import type { Reachability } from '../interfaces.js';
import type { ReachResult } from './reach.js';

/** Peers named as evidence. */
const NAMED_MAX = 3;

/** What one peer found when it dialled us back. */
export interface Check extends ReachResult {
  /** Peer id. */
  by: string;
}

export interface ReachFacts {
  /** The newest answer of each peer that was asked. */
  checks: readonly Check[];
  /** Peer ids of the relays on which we have a place. */
  relays: readonly string[];
  /** Multiaddrs of the network interfaces that we listen on, e.g. "/ip4/192.168.1.2". */
  interfaces: readonly string[];
  /** The TCP port that we listen on; null when we do not. */
  port: number | null;
}

/** The majority of those who tried from outside decides: one liar among honest ones changes nothing. */
export function judge(facts: ReachFacts): Reachability {
  const { checks, interfaces } = facts;
  const relays = [...facts.relays];
  const reached = checks.filter(({ ports }) => ports.length > 0);
  const outside = reached.filter(({ seen }) => !isPrivate(multiaddr(seen)));
  const failed = checks.filter(({ ports }) => ports.length === 0);
  if (outside.length > 0 && outside.length >= failed.length) {
    return { state: 'public', evidence: dialled(outside), relays, fix: null };
  }
  if (failed.length > 0) {
    const state = relays.length > 0 ? 'private-relayed' : 'private-unreachable';
    const [{ seen } = { seen: '' }] = failed;
    const evidence = `${names(failed)} could not dial ${seen}/tcp/${facts.port ?? 0}`;
    return { state, evidence, relays, fix: fixFor(facts, seen) };
  }
  if (reached.length > 0) {
    return { state: 'local', evidence: dialled(reached), relays, fix: null };
  }
  if (interfaces.every(isLoopback)) {
    const evidence = 'it listens on this machine alone';
    return { state: 'local', evidence, relays, fix: null };
  }
  return { state: 'unknown', evidence: 'nobody has dialled back yet', relays, fix: null };
}

/** E.g. "/ip4/127.0.0.1", with or without more behind it. */
export function isLoopback(address: string): boolean {
  return /^\/(ip4\/127\.|ip6\/::1(\/|$))/.test(address);
}

function dialled(checks: readonly Check[]): string {
  const [{ seen, ports } = { seen: '', ports: [0] }] = checks;
  return `${names(checks)} dialled ${seen}/tcp/${ports[0]}`;
}

function names(checks: readonly Check[]): string {
  const named = checks.slice(0, NAMED_MAX).map(({ by }) => by);
  const more = checks.length - named.length;
  return `${named.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

/** Where we are seen at an address of our own no router is in between, so that a firewall stopped the check. */
function fixFor({ interfaces, port }: ReachFacts, seen: string): string {
  const isOwn = interfaces.includes(seen);
  if (isOwn) return `let TCP port ${port} in through the firewall of this machine or its provider`;
  const inside = interfaces.find((address) => !isLoopback(address))?.split('/')[2];
  const machine = inside === undefined ? 'this machine' : `this machine (${inside})`;
  return (
    `forward TCP port ${port} of the router at ${seen.split('/')[2]} to ${machine}, ` +
    'or start with --upnp to ask the router for it'
  );
}
