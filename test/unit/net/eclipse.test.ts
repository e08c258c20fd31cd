/** An attacker with hundreds of names in one network: it gets a share of a peer's company, not all of it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { networkOf, publicNetworkOf } from '../../../node/net/addresses.js';
import {
  CANDIDATES_MAX,
  CANDIDATES_PER_NETWORK_MAX,
  Candidates,
} from '../../../node/net/candidates.js';
import {
  crowding,
  DEGREE,
  DialRule,
  OUTBOUND_MIN,
  OUTBOUND_PER_NETWORK_MAX,
} from '../../../node/net/dial-rule.js';
import { surplusOf, type Inbound } from '../../../node/net/inbound-room.js';
import { lotsAt } from '../../../node/net/places.js';
import { Prng } from '../../../protocol/prng.js';

const NAMES = 200;
const attackerAddress = (i: number): string => `/ip4/45.33.7.${i % 256}/tcp/${4000 + i}`;
const honestAddress = (i: number): string => `/ip4/${60 + i}.1.2.3/tcp/4001`;
const isAttacker = (peerId: string): boolean => peerId.startsWith('attacker');

const lots = lotsAt('secret', 0);

function inbound(address: string, open: number): Inbound {
  return {
    direction: 'inbound',
    remotePeer: address,
    remoteAddr: address,
    timeline: { open },
  };
}

function dice(): () => number {
  const prng = new Prng(new Uint8Array(32), 'eclipse');
  return () => prng.nextFloat();
}

describe('the network of an address', () => {
  it('is the first 24 bits of IPv4 and 48 of IPv6, or the name', () => {
    assert.equal(networkOf('/ip4/45.33.7.9/tcp/1'), '45.33.7');
    assert.equal(networkOf('/ip6/2a01:4f8:1::9/tcp/1'), '2a01:4f8:1');
    assert.equal(networkOf('/ip6/2a01::9/tcp/1'), '2a01:0:0');
    assert.equal(networkOf('/ip6/::1/tcp/1'), '0:0:0');
    assert.equal(networkOf('/dns4/Example.org/tcp/1'), 'example.org');
    assert.equal(networkOf('nonsense'), null);
  });

  it('counts only in the open internet, where networks have different owners', () => {
    assert.equal(publicNetworkOf(attackerAddress(1)), '45.33.7');
    for (const address of [
      '/ip4/127.0.0.1/tcp/1',
      '/ip4/192.168.1.7/tcp/1',
      '/ip4/10.1.2.3/tcp/1',
      '/ip6/fd00::1/tcp/1',
      `${attackerAddress(1)}/p2p/12D3KooWEFxLhV4MLZLyaMNUUcf5HKfNp2s8aKSCMymHtpHJ7KJJ/p2p-circuit`,
      'nonsense',
    ]) {
      assert.equal(publicNetworkOf(address), null, address);
    }
  });
});

describe('200 names in one network', () => {
  it('do not push honest names off the list, told by whomever', () => {
    const candidates = new Candidates(dice());
    const honest = Array.from({ length: 60 }, (_, i) => `honest ${i}`);
    for (const [i, peerId] of honest.entries())
      candidates.heard({ peerId, addresses: [honestAddress(i)] });
    for (let i = 0; i < 4 * CANDIDATES_MAX; i++)
      candidates.heard({ peerId: `attacker ${i}`, addresses: [attackerAddress(i)] });
    const names = candidates.all().map(({ peerId }) => peerId);
    assert.deepEqual(
      names.filter((name) => !isAttacker(name)),
      honest,
    );
    assert.equal(names.filter(isAttacker).length, CANDIDATES_PER_NETWORK_MAX);
  });

  it('that all dialled a peer leave it the members that it dials itself', () => {
    const random = dice();
    const candidates = new Candidates(random);
    const rule = new DialRule(candidates, random);
    const attackers = Array.from({ length: NAMES }, (_, i) => `attacker ${i}`);
    for (const [i, peerId] of attackers.entries())
      candidates.announced({ peerId, addresses: [attackerAddress(i)] });
    for (let i = 0; i < 12; i++)
      candidates.heard({ peerId: `honest ${i}`, addresses: [honestAddress(i)] });
    // Half of the attackers came in; every dial to an honest name fails the first time.
    const connected = new Set(attackers.slice(0, NAMES / 2));
    const dialled = new Map<string, string>();
    for (let nowMs = 1; nowMs < 120_000; nowMs += 500) {
      candidates.markConnected(connected, nowMs);
      const addresses = [...dialled.values()];
      const outbound = { count: dialled.size, addresses };
      const [next] = rule.choose(connected, 0, nowMs, outbound);
      if (next === undefined) continue;
      const isFirst = next.attempts === 0;
      const [address] = candidates.attempt(next, nowMs, crowding(addresses));
      if (address === undefined || (isFirst && !isAttacker(next.peerId))) continue;
      dialled.set(next.peerId, address);
      connected.add(next.peerId);
    }
    const names = [...dialled.keys()];
    assert.ok(names.length >= OUTBOUND_MIN, `${names.length} dialled`);
    assert.ok(names.filter(isAttacker).length <= OUTBOUND_PER_NETWORK_MAX);
    assert.ok(names.some((name) => !isAttacker(name)));
    assert.ok(OUTBOUND_PER_NETWORK_MAX < OUTBOUND_MIN && OUTBOUND_MIN < DEGREE);
  });

  it('make room for each other, and push out nobody from elsewhere', () => {
    const honest = Array.from({ length: 60 }, (_, i) => inbound(honestAddress(i), 1_000 + i));
    const attackers = Array.from({ length: NAMES }, (_, i) => inbound(attackerAddress(i), i));
    const outbound: Inbound = { ...inbound(attackerAddress(0), 5_000), direction: 'outbound' };
    const closed = surplusOf([...attackers, ...honest, outbound], 192, lots);
    assert.equal(closed.length, NAMES + 60 - 192);
    assert.ok(closed.every((each) => attackers.includes(each)));
    assert.ok(closed.includes(attackers[NAMES - 1] ?? outbound), 'the youngest first');
    assert.deepEqual(surplusOf([...honest, outbound], 60, lots), []);
  });
});

describe('200 names, each in a network of its own', () => {
  it('push out no connection that was there before, and leave a newcomer its chance', () => {
    const honest = Array.from({ length: 60 }, (_, i) => inbound(honestAddress(i), i));
    const attackers = Array.from({ length: NAMES }, (_, i) =>
      inbound(`/ip4/45.${i}.7.1/tcp/1`, 1_000 + i),
    );
    const closed = surplusOf([...attackers, ...honest], 192, lots);
    assert.ok(closed.every((each) => attackers.includes(each)));
    const newcomers = Array.from({ length: 100 }, (_, i) =>
      inbound(`/ip4/170.${i}.1.1/tcp/1`, 5_000),
    );
    const stayed = newcomers.filter(
      (each) => !surplusOf([...attackers, ...honest, each], 192, lots).includes(each),
    );
    assert.ok(stayed.length > 10 && stayed.length < 90, `${stayed.length} of 100`);
  });

  it('do not push honest names off the list, whoever tells of them', () => {
    const candidates = new Candidates(dice());
    const honest = Array.from({ length: 60 }, (_, i) => `honest ${i}`);
    for (const [i, peerId] of honest.entries())
      candidates.heard({ peerId, addresses: [honestAddress(i)] }, `member ${i % 5}`);
    for (let i = 0; i < 4 * CANDIDATES_MAX; i++)
      candidates.heard(
        { peerId: `attacker ${i}`, addresses: [`/ip4/45.${i % 250}.7.1/tcp/1`] },
        'liar',
      );
    const names = candidates.all().map(({ peerId }) => peerId);
    assert.deepEqual(
      names.filter((name) => !isAttacker(name)),
      honest,
    );
    assert.equal(names.length, CANDIDATES_MAX);
  });
});
