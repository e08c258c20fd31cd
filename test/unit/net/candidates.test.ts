import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ADDRESSES_PER_DIAL, CANDIDATES_MAX, Candidates } from '../../../node/net/candidates.js';
import { ADDRESSES_MAX } from '../../../protocol/limits.js';

const addresses = ['/ip4/127.0.0.1/tcp/4001'];
const first = (): number => 0;
const nobody: ReadonlySet<string> = new Set();

describe('Candidates', () => {
  it('offers a failing peer again only after its back-off, and at once after a connection was lost', () => {
    const candidates = new Candidates(first);
    candidates.heard({ peerId: 'a', addresses });
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
    for (const peerId of ['a', 'b', 'c', 'd']) candidates.heard({ peerId, addresses });
    const chosen = candidates.due(3, new Set(['b']), 0).map(({ peerId }) => peerId);
    assert.deepEqual(new Set(chosen), new Set(['a', 'c', 'd']));
    assert.equal(candidates.due(2, nobody, 0).length, 2);
  });

  it('stays within its bound and keeps members over strangers and over what fails most', () => {
    const candidates = new Candidates(first);
    candidates.heard({ peerId: 'member', addresses });
    candidates.markConnected(new Set(['member']), 5);
    candidates.heard({ peerId: 'failing', addresses });
    const [failing] = candidates.due(1, new Set(['member']), 0);
    assert.equal(failing?.peerId, 'failing');
    candidates.attempt(failing, 0);
    for (let i = 0; i < CANDIDATES_MAX; i++)
      candidates.heard({ peerId: `stranger ${i}`, addresses });
    const kept = new Set(candidates.all().map(({ peerId }) => peerId));
    assert.equal(kept.size, CANDIDATES_MAX);
    assert.ok(kept.has('member'));
    assert.ok(!kept.has('failing'));
  });

  it('remembers members, the most recent first, with their newest addresses', () => {
    const candidates = new Candidates(first);
    for (const peerId of ['old', 'new', 'stranger']) candidates.heard({ peerId, addresses });
    candidates.markConnected(new Set(['old']), 1);
    candidates.markConnected(new Set(['new']), 2);
    const moved = ['/ip4/127.0.0.1/tcp/4002'];
    candidates.announced({ peerId: 'old', addresses: moved });
    assert.deepEqual(candidates.members(), [
      { peerId: 'new', addresses },
      { peerId: 'old', addresses: moved },
    ]);
  });

  const at = (from: number, count: number): string[] =>
    Array.from({ length: count }, (_, i) => `/ip4/192.0.2.1/tcp/${from + i}`);

  it('keeps the address of a peer that liars talk about, and stays within the bound', () => {
    const candidates = new Candidates(first);
    candidates.announced({ peerId: 'a', addresses });
    for (let i = 0; i < 20; i++) candidates.heard({ peerId: 'a', addresses: at(100 * i, 16) });
    const [a] = candidates.all();
    assert.equal(a?.addresses[0], addresses[0]);
    assert.equal(a?.addresses.length, ADDRESSES_MAX);
  });

  it('believes newer hearsay although an old word of the peer itself is repeated', () => {
    const candidates = new Candidates(first);
    candidates.announced({ peerId: 'a', addresses });
    candidates.heard({ peerId: 'a', addresses: at(7, 1) });
    candidates.announced({ peerId: 'a', addresses });
    assert.deepEqual(candidates.all()[0]?.addresses, [...addresses, ...at(7, 1)]);
    candidates.announced({ peerId: 'a', addresses: at(8, 1) });
    assert.deepEqual(candidates.all()[0]?.addresses, at(8, 1));
  });

  it('tries every address in turn, a few in each dial', () => {
    const candidates = new Candidates(first);
    candidates.heard({ peerId: 'a', addresses: at(1, 5) });
    const [a] = candidates.due(1, nobody, 0);
    assert.ok(a !== undefined);
    const tried = [1, 2, 3].map(() => candidates.attempt(a, 0));
    assert.ok(tried.every((few) => few.length === ADDRESSES_PER_DIAL));
    assert.deepEqual(new Set(tried.flat()), new Set(at(1, 5)));
  });

  it('tries an address through a relay in each dial, beside the others', () => {
    const candidates = new Candidates(first);
    const relayed = [
      '/ip4/192.0.2.1/tcp/1/p2p/R/p2p-circuit',
      '/ip4/192.0.2.2/tcp/1/p2p/S/p2p-circuit',
    ];
    const direct = ['/ip4/192.0.2.3/tcp/1', '/ip4/192.0.2.4/tcp/1', '/ip4/192.0.2.5/tcp/1'];
    candidates.heard({ peerId: 'a', addresses: [...direct, ...relayed] });
    const [a] = candidates.due(1, nobody, 0);
    assert.ok(a);
    const dials = [0, 1, 2].map(() => candidates.attempt(a, 0));
    assert.deepEqual(
      dials.map(([one]) => one),
      direct,
    );
    assert.deepEqual(
      dials.map(([, through]) => through),
      [relayed[0], relayed[1], relayed[0]],
    );
    assert.ok(dials.every(({ length }) => length === ADDRESSES_PER_DIAL));
  });

  it('offers members, and strangers not tried yet, before names that nobody answers to', () => {
    const candidates = new Candidates(Math.random);
    for (let i = 0; i < 50; i++) {
      candidates.heard({ peerId: `fake ${i}`, addresses });
    }
    for (const fake of candidates.due(50, nobody, 0)) candidates.attempt(fake, 0);
    candidates.heard({ peerId: 'new', addresses });
    candidates.heard({ peerId: 'member', addresses });
    candidates.markConnected(new Set(['member']), 0);
    const late = 60_000;
    const offered = candidates.due(3, nobody, late).map(({ peerId }) => peerId);
    assert.deepEqual(offered.slice(0, 2), ['member', 'new']);
    assert.match(offered[2] ?? '', /^fake/);
  });
});
