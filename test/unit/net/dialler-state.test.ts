import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { attentionOf, type DiallerState } from '../../../node/net/dialler-state.js';

const contact = {
  address: '/ip4/192.0.2.7/tcp/4001',
  failures: 3,
  nextAttemptMs: 112_000,
  lastError: 'connection refused',
  busy: false,
};
const well: DiallerState = { members: 2, contacts: [], candidates: 2, unreachable: [] };

describe('attentionOf', () => {
  it('is silent when all is well, even while some known members are away', () => {
    const away = [{ peerId: 'a', reason: 'no answer in time', nextAttemptMs: 1 }];
    assert.deepEqual(attentionOf({ ...well, unreachable: away }, 0), []);
  });

  it('names address, reason, consequence and the time of the next attempt', () => {
    assert.deepEqual(attentionOf({ ...well, members: 0, contacts: [contact] }, 100_000), [
      'cannot reach /ip4/192.0.2.7/tcp/4001 (connection refused): nobody is connected, next attempt in 12 s',
    ]);
    assert.deepEqual(attentionOf({ ...well, members: 1, contacts: [contact] }, 111_001), [
      'cannot reach /ip4/192.0.2.7/tcp/4001 (connection refused): going on with 1 connected peer, next attempt in 1 s',
    ]);
  });

  it('says how many known members are away when alone, with the earliest next attempt', () => {
    const unreachable = [
      { peerId: 'a', reason: 'no answer in time', nextAttemptMs: 9_000 },
      { peerId: 'b', reason: 'connection refused', nextAttemptMs: 4_000 },
    ];
    assert.deepEqual(attentionOf({ ...well, members: 0, unreachable }, 1_000), [
      'cannot reach any of the 2 known members (connection refused): next attempt in 3 s',
    ]);
  });
});
