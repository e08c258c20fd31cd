import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { PeerId } from '@libp2p/interface';
import { parsePeerId } from '../../../node/net/addresses.js';
import { lotsAt } from '../../../node/net/places.js';
import {
  placeFor,
  Relay,
  RELAYED_BYTES_MAX,
  RELAYED_BYTES_PER_ORIGIN_MAX,
  RELAYED_BYTES_PER_PEER_MAX,
  RelayBudget,
  type Reserved,
} from '../../../node/net/relay-server.js';
import { SYNC_SESSION_BYTES_MAX } from '../../../protocol/limits.js';

const HOUR_MS = 3_600_000;

describe('RelayBudget', () => {
  it('ends for one peer alone at its share, for a network at its own, and for all at the whole', () => {
    const budget = new RelayBudget(() => 0);
    budget.add('greedy', 'a', RELAYED_BYTES_PER_PEER_MAX - 1);
    assert.ok(budget.allows('greedy', 'a'));
    budget.add('greedy', 'a', 1);
    assert.ok(!budget.allows('greedy', 'a'));
    assert.ok(budget.allows('other name', 'a'));
    budget.add('other name', 'a', RELAYED_BYTES_PER_ORIGIN_MAX - RELAYED_BYTES_PER_PEER_MAX);
    assert.ok(!budget.allows('third name', 'a'));
    assert.ok(budget.allows('third name', 'b'));
    for (const origin of ['b', 'c', 'd']) budget.add(origin, origin, RELAYED_BYTES_PER_ORIGIN_MAX);
    assert.ok(!budget.allows('anybody', 'e'));
  });

  it('leaves the last part of an hour to those who have had nothing', () => {
    const budget = new RelayBudget(() => 0);
    for (const origin of ['a', 'b', 'c']) budget.add(origin, origin, RELAYED_BYTES_PER_ORIGIN_MAX);
    assert.ok(budget.allows('late', 'd'));
    budget.add('late', 'd', RELAYED_BYTES_MAX);
    assert.ok(!budget.allows('late', 'd'));
    assert.ok(budget.allows('later', 'e'));
  });

  it('begins anew with each hour, and counts a bounded number of peers without turning others away', () => {
    let nowMs = 0;
    const budget = new RelayBudget(() => nowMs);
    budget.add('greedy', 'x', RELAYED_BYTES_PER_PEER_MAX);
    for (let i = 0; i < 4_096; i++) budget.add(`peer ${i}`, `origin ${i}`, 1);
    assert.ok(budget.allows('one more', 'y'));
    assert.ok(!budget.allows('greedy', 'x'), 'many names do not make it forgotten');
    nowMs = HOUR_MS;
    assert.ok(budget.allows('greedy', 'x'));
  });

  it('holds a whole sync session each way in one connection', () => {
    assert.ok(RELAYED_BYTES_MAX >= 2 * SYNC_SESSION_BYTES_MAX);
  });
});

describe('the places of a relay', () => {
  const lots = lotsAt('secret', 0);
  const place = (peerId: string, origin: string, sinceMs: number): Reserved => ({
    ...{ peerId, origin, sinceMs },
  });
  const honest = place('honest', 'network h', 0);

  it('are not all for one network, whose youngest makes room for a peer from elsewhere', () => {
    const names = Array.from({ length: 127 }, (_, i) => place(`name ${i}`, 'network a', 1 + i));
    const all = [honest, ...names];
    assert.equal(placeFor(place('late', 'network b', 500), all, lots), names[126]);
    assert.equal(placeFor(place('name 127', 'network a', 500), all, lots), null);
  });

  it('are kept by who has one, however many networks ask', () => {
    const names = Array.from({ length: 127 }, (_, i) => place(`name ${i}`, `network ${i}`, 1 + i));
    for (let i = 0; i < 200; i++) {
      const newcomer = place('late', `network late ${i}`, 500);
      assert.notEqual(placeFor(newcomer, [honest, ...names], lots), honest);
    }
  });
});

describe('Relay', () => {
  it('serves nobody before it is started', async () => {
    const id = (text: string): PeerId => parsePeerId(text)!;
    const alice = id('12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf');
    const bob = id('12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8');
    const { gater } = new Relay();
    assert.equal(await gater.denyInboundRelayReservation?.(alice), true);
    assert.equal(await gater.denyOutboundRelayedConnection?.(alice, bob), true);
  });
});
