/** Multiaddrs from users and from other peers: parsed, checked and bounded. */
import type { PeerId } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { isPrivate } from '@libp2p/utils';
import { CODE_P2P, CODE_P2P_CIRCUIT, multiaddr, type Multiaddr } from '@multiformats/multiaddr';
import { ADDRESSES_MAX, ADDRESS_BYTES_MAX, RELAYED_ADDRESSES_MAX } from '../../protocol/limits.js';
import { looksLikeInvite } from '../../protocol/invite.js';
import { EXIT_USAGE, UserError } from '../errors.js';

/** Texts looked at in one list, whatever is in them. */
const TEXTS_MAX = 4 * ADDRESSES_MAX;

/** An IP address or a name as DNS has them: nothing that could break a line of text. */
const HOST = /^[\w.:-]{1,253}$/;

/** A user's address. @throws UserError (wrong usage) when it is not a TCP multiaddr, direct or relayed. */
export function parseAddress(text: string): Multiaddr {
  if (looksLikeInvite(text)) {
    throw new UserError(
      'an invite stands where an address belongs; murmurate join takes it as its argument',
      EXIT_USAGE,
    );
  }
  const parsed = tcpAddress(text);
  if (parsed !== null) return parsed;
  throw new UserError(
    `"${text.slice(0, ADDRESS_BYTES_MAX)}" is not an address: it must look like /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...`,
    EXIT_USAGE,
  );
}

/** The peer id of whom one reaches at an address; null when it names none. */
export function peerIdOf(address: Multiaddr): string | null {
  const last = address.getComponents().at(-1);
  return last?.code === CODE_P2P ? (last.value ?? null) : null;
}

/** The relay that passes on what is sent to this address; null when one reaches the peer itself. */
export function relayOf(address: Multiaddr): string | null {
  const components = address.getComponents();
  const circuit = components.findIndex(({ code }) => code === CODE_P2P_CIRCUIT);
  return circuit < 0 ? null : (components[circuit - 1]?.value ?? '');
}

/** Whether a multiaddr in text goes through a relay. */
export function isRelayed(address: string): boolean {
  return address.includes('/p2p-circuit');
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
 * TCP addresses, RELAYED_ADDRESSES_MAX of them through relays and last, without its own /p2p part. Malformed
 * ones and those of another peer are left out.
 */
export function cleanAddresses(peerId: string, texts: readonly string[]): string[] {
  const direct = new Set<string>();
  const relayed = new Set<string>();
  for (const text of texts.slice(0, TEXTS_MAX)) {
    const parsed = tcpAddress(text);
    if (parsed === null || (peerIdOf(parsed) ?? peerId) !== peerId) continue;
    const relay = relayOf(parsed);
    // A peer is no relay for itself.
    if (relay === peerId) continue;
    const bare = peerIdOf(parsed) === null ? parsed : parsed.decapsulateCode(CODE_P2P);
    (relay === null ? direct : relayed).add(bare.toString());
  }
  const last = [...relayed].slice(0, RELAYED_ADDRESSES_MAX);
  return [...[...direct].slice(0, ADDRESSES_MAX - last.length), ...last];
}

/**
 * Null unless `text` is /ip4|ip6|dns.../.../tcp/<1..65535 or 0>[/p2p/<relay>/p2p-circuit][/p2p/<id>] within
 * ADDRESS_BYTES_MAX. One relay at most: relays pass on nothing that came through another. The library itself looks
 * at a peer id or a name no sooner than when it is dialled.
 */
function tcpAddress(text: string): Multiaddr | null {
  if (Buffer.byteLength(text) > ADDRESS_BYTES_MAX) return null;
  try {
    const parsed = multiaddr(text);
    const components = parsed.getComponents();
    const shape = /^(ip4|ip6|dns|dns4|dns6) tcp( p2p p2p-circuit)?( p2p)?$/;
    if (!shape.test(components.map(({ name }) => name).join(' '))) return null;
    const isSound = components.every(
      ({ code, value = '' }, i) =>
        (code !== CODE_P2P || parsePeerId(value) !== null) && (i > 0 || HOST.test(value)),
    );
    return isSound ? parsed : null;
  } catch {
    return null;
  }
}

/** Bits of an address that its owner rarely gets one by one: whoever has a /24 or a /48 has all of it. */
const IP4_PARTS = 3;
const IP6_PARTS = 3;

/**
 * The network that an address lies in: the first 24 bits of an IPv4 address, the first 48 of an IPv6 one, or the
 * name; null when the text is no address.
 */
export function networkOf(address: string): string | null {
  const [, kind = '', host = ''] = address.split('/');
  if (kind === 'ip4') return host.split('.').slice(0, IP4_PARTS).join('.');
  if (kind === 'ip6') {
    const inside = ip4In(host);
    if (inside !== null) return inside.split('.').slice(0, IP4_PARTS).join('.');
    return ip6Parts(host).slice(0, IP6_PARTS).join(':');
  }
  return kind.startsWith('dns') ? host.toLowerCase() : null;
}

/** The network of an address in the open internet; null in a home or an office, where all members share one, and through a relay. */
export function publicNetworkOf(address: string): string | null {
  if (isRelayed(address)) return null;
  const [, kind, host = ''] = address.split('/');
  const inside = kind === 'ip6' ? ip4In(host) : null;
  if (inside !== null) return publicNetworkOf(`/ip4/${inside}`);
  try {
    return isPrivate(multiaddr(address)) ? null : networkOf(address);
  } catch {
    return null;
  }
}

/** Whether an IP address, without more, belongs to the open internet. */
export function isOpenInternet(ip: string): boolean {
  return publicNetworkOf(`/${ip.includes(':') ? 'ip6' : 'ip4'}/${ip}`) !== null;
}

/** The prefixes, in parts, of IPv6 addresses that stand for the IPv4 one behind them: mapped, NAT64, 6to4. */
const IP4_INSIDE = [
  ['0', '0', '0', '0', '0', 'ffff'],
  ['64', 'ff9b', '0', '0', '0', '0'],
  ['2002'],
] as const;

/** The IPv4 address that an IPv6 one stands for: otherwise all of IPv4 would be one network, or each address one. */
function ip4In(host: string): string | null {
  const parts = ip6Parts(host);
  const prefix = IP4_INSIDE.find((each) => each.every((part, i) => part === parts[i]));
  if (prefix === undefined) return null;
  const bytes = parts.slice(prefix.length, prefix.length + 2).flatMap((part) => {
    const value = Number.parseInt(part, 16);
    return [value >> 8, value & 255];
  });
  return bytes.length === 4 && bytes.every(Number.isFinite) ? bytes.join('.') : null;
}

/** The eight parts of an IPv6 address, "::" written out, without zeros in front; one in dots behind it becomes two. */
function ip6Parts(text: string): string[] {
  const host = text.replace(
    /(\d+)\.(\d+)\.(\d+)\.(\d+)$/,
    (_, a: string, b: string, c: string, d: string) =>
      [Number(a) * 256 + Number(b), Number(c) * 256 + Number(d)]
        .map((v) => v.toString(16))
        .join(':'),
  );
  const [head = '', tail] = host.toLowerCase().split('::');
  const [first, last] = [head.split(':'), tail === undefined ? [] : tail.split(':')];
  const zeros = Array.from({ length: Math.max(0, 8 - first.length - last.length) }, () => '0');
  return [...first, ...zeros, ...last].map((part) => part.replace(/^0+(?=.)/, '') || '0');
}
