import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CANDIDATES_MAX, Candidates } from '../../../node/net/candidates.js';

const addresses = ['/ip4/127.0.0.1/tcp/4001'];
const first = (): number => 0;
const nobody: ReadonlySet<string> = new Set();

describe('Candidates', () => {
  it('offers a failing peer again only after its back-off, and at once after a connection was lost', () => {
    const candidates = new Candidates(first);
    candidates.add({ peerId: 'a', addresses });
    const [a] = candidates.due(6, nobody, 1_000);
    assert.equal(a?.peerId, 'a');
    candidates.attempt(a, 1_000);
    // With the dice at 0 the first wait is half the base: 500 ms.
    assert.deepEqual(candidates.due(6, nobody, 1_499), []);
    assert.equal(candidates.due(6, nobody, 1_500).length, 1);
    candidates.attempt(a, 1_500);
    assert.deepEqual(candidates.due(6, nobody, 2_499), []);
    candidates.markConnected(new Set(['a']), 2_600);
    assert.deepEqual(candidates.due(6, new Set(['a']), 2_600), []);
    assert.equal(candidates.due(6, nobody, 2_601).length, 1);
  });

  it('never offers more than asked for, nor anyone twice in one round', () => {
    const candidates = new Candidates(() => 0.99);
    for (const peerId of ['a', 'b', 'c', 'd']) candidates.add({ peerId, addresses });
    const chosen = candidates.due(3, new Set(['b']), 0).map(({ peerId }) => peerId);
    assert.deepEqual(new Set(chosen), new Set(['a', 'c', 'd']));
    assert.equal(candidates.due(2, nobody, 0).length, 2);
  });

  it('stays within its bound and keeps members over strangers and over what fails most', () => {
    const candidates = new Candidates(first);
    candidates.add({ peerId: 'member', addresses });
    candidates.markConnected(new Set(['member']), 5);
    candidates.add({ peerId: 'failing', addresses });
    const [failing] = candidates.due(1, new Set(['member']), 0);
    assert.equal(failing?.peerId, 'failing');
    candidates.attempt(failing, 0);
    for (let i = 0; i < CANDIDATES_MAX; i++) candidates.add({ peerId: `stranger ${i}`, addresses });
    const kept = new Set(candidates.all().map(({ peerId }) => peerId));
    assert.equal(kept.size, CANDIDATES_MAX);
    assert.ok(kept.has('member'));
    assert.ok(!kept.has('failing'));
  });

  it('remembers members, the most recent first, with their newest addresses', () => {
    const candidates = new Candidates(first);
    for (const peerId of ['old', 'new', 'stranger']) candidates.add({ peerId, addresses });
    candidates.markConnected(new Set(['old']), 1);
    candidates.markConnected(new Set(['new']), 2);
    const moved = ['/ip4/127.0.0.1/tcp/4002'];
    candidates.add({ peerId: 'old', addresses: moved });
    assert.deepEqual(candidates.members(), [
      { peerId: 'new', addresses },
      { peerId: 'old', addresses: moved },
    ]);
  });
});
