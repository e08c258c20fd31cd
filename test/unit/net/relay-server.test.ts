import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { PeerId } from '@libp2p/interface';
import { parsePeerId } from '../../../node/net/addresses.js';
import {
  Relay,
  RELAYED_BYTES_MAX,
  RELAYED_BYTES_PER_HOUR_MAX,
  RELAYED_BYTES_PER_PEER_MAX,
  RelayBudget,
} from '../../../node/net/relay-server.js';
import { SYNC_SESSION_BYTES_MAX } from '../../../protocol/limits.js';

const HOUR_MS = 3_600_000;

describe('RelayBudget', () => {
  it('ends for one peer alone at its share, and for all at the whole', () => {
    const budget = new RelayBudget(() => 0);
    budget.add('greedy', RELAYED_BYTES_PER_PEER_MAX - 1);
    assert.ok(budget.allows('greedy'));
    budget.add('greedy', 1);
    assert.ok(!budget.allows('greedy'));
    assert.ok(budget.allows('other'));
    for (let i = 1; i * RELAYED_BYTES_PER_PEER_MAX < RELAYED_BYTES_PER_HOUR_MAX; i++) {
      budget.add(`peer ${i}`, RELAYED_BYTES_PER_PEER_MAX);
    }
    assert.ok(!budget.allows('other'));
  });

  it('begins anew with each hour, and counts a bounded number of peers', () => {
    let nowMs = 0;
    const budget = new RelayBudget(() => nowMs);
    for (let i = 0; i < 4_096; i++) budget.add(`peer ${i}`, 1);
    assert.ok(budget.allows('peer 7'));
    assert.ok(!budget.allows('one more'));
    nowMs = HOUR_MS;
    assert.ok(budget.allows('one more'));
  });

  it('holds a whole sync session each way in one connection', () => {
    assert.ok(RELAYED_BYTES_MAX >= 2 * SYNC_SESSION_BYTES_MAX);
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
