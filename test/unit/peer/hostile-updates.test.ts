/** No update that is not valid here and now moves the adapter, whichever way it comes. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Replica } from '../../../node/peer/replica.js';
import type { RejectionCode, Verdict } from '../../../protocol/errors.js';
import { GOSSIP_BYTES_MAX } from '../../../protocol/limits.js';
import type { Run } from '../../../protocol/manifest.js';
import { createUpdate, updateToWire, type Update } from '../../../protocol/update.js';
import * as wire from '../../../protocol/wire/messages.js';
import { testReplica } from '../../support/replicas.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';

const FORWARDER = testIdentity(99).peerId;
const NOW = 10;
const author = testIdentity(1);

/** Members 0 to 3, 40 epochs, a lag of 8. */
const run = testRun((manifest) => ({
  ...manifest,
  membership: {
    mode: 'allowlist',
    members: [0, 1, 2, 3].map((i) => ({ peerId: testIdentity(i).peerId, weight: 1 })),
  },
}));
const otherRun = testRun((manifest) => ({ ...manifest, name: 'other' }));
const good = testUpdate(run, author, 5);
const cheat = testIdentity(3);

/** The slot of what is signed, and the digest of no log. */
const SLOT = { epoch: 6, baseEpoch: 6, logDigest: new Uint8Array(32) };

/** An update whose author signed what no run takes. */
function signed(change: Partial<Update>, of: Run = run): wire.Update {
  return updateToWire(createUpdate(of, author, { ...good, ...SLOT, ...change }));
}

/** fp16 values in the place of the first scale. */
function withScale(...littleEndian: [number, number]): wire.Update {
  const scales = good.scales.slice();
  scales.set(littleEndian);
  return signed({ scales });
}

const flip = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => {
  const copy = Uint8Array.from(bytes);
  copy[0] = (copy[0] ?? 0) ^ 1;
  return copy;
};
const updateOf = (...args: Parameters<typeof testUpdate>): wire.Update =>
  updateToWire(testUpdate(...args));

/** What is sent, what becomes of it, and why. A duplicate has no code: it is no fault. */
const ATTACKS: readonly [string, wire.Update, Verdict, RejectionCode | null][] = [
  ['a replay', updateToWire(good), 'ignore', null],
  ['a stale base', updateOf(run, author, 12, { baseEpoch: 3 }), 'reject', 'bad-epoch'],
  ['a base in its future', signed({ epoch: 6, baseEpoch: 7 }), 'reject', 'bad-epoch'],
  ['the far future', updateOf(run, author, NOW + 2), 'defer', 'future-epoch'],
  ['beyond the end', updateOf(run, author, 40), 'defer', 'past-end'],
  ['beyond any end', signed({ epoch: 100_000, baseEpoch: 100_000 }), 'reject', 'bad-epoch'],
  ['another run', updateOf(otherRun, author, 6), 'reject', 'wrong-run'],
  ['a stranger', updateOf(run, testIdentity(9), 6), 'reject', 'not-a-member'],
  ['an evicted author', updateOf(run, cheat, 7), 'ignore', 'evicted'],
  ['no steps', signed({ steps: 0 }), 'reject', 'bad-steps'],
  ['too many steps', signed({ steps: 1_000_001 }), 'reject', 'bad-steps'],
  [
    'another signature',
    { ...updateOf(run, author, 6), signature: good.signed.signature },
    'reject',
    'bad-signature',
  ],
  [
    'no signature',
    { ...updateOf(run, author, 6), signature: new Uint8Array(64) },
    'reject',
    'bad-signature',
  ],
  [
    'a changed header',
    { ...updateOf(run, author, 6), header: flip(good.signed.header) },
    'reject',
    'malformed',
  ],
  [
    'changed codes',
    { ...updateOf(run, author, 6), codes: flip(good.codes) },
    'reject',
    'bad-signature',
  ],
  [
    'changed scales',
    { ...updateOf(run, author, 6), scales: flip(good.scales) },
    'reject',
    'bad-signature',
  ],
  ['short codes', signed({ codes: good.codes.slice(1) }), 'reject', 'wrong-length'],
  [
    'long scales',
    signed({ scales: new Uint8Array(good.scales.length + 2) }),
    'reject',
    'wrong-length',
  ],
  ['a NaN', withScale(0x00, 0x7e), 'reject', 'bad-scale'],
  ['an infinity', withScale(0x00, 0x7c), 'reject', 'bad-scale'],
  ['a negative scale', withScale(0x00, 0xbc), 'reject', 'bad-scale'],
  [
    'a header too long',
    { ...updateOf(run, author, 6), header: new Uint8Array(513) },
    'reject',
    'oversize',
  ],
];

/** A peer that holds a good update, and knows a cheat. */
function victim(): Replica {
  const { replica } = testReplica(run, () => NOW);
  assert.equal(replica.onSynced(updateToWire(good), 'friend'), 'accept');
  for (const salt of ['one', 'two']) replica.onSynced(updateOf(run, cheat, 4, { salt }), 'friend');
  return replica;
}

/** The ways by which an update comes, that of the disk included. */
const WAYS: readonly [string, (replica: Replica, update: wire.Update) => Verdict | null][] = [
  ['gossip', (replica, update) => replica.onGossip(wire.Gossip.encode({ update }), FORWARDER)],
  ['sync', (replica, update) => replica.onSynced(update, FORWARDER)],
  [
    'the log on disk',
    (replica, update) => {
      replica.restore(wire.Gossip.encode({ update }), 0);
      return null;
    },
  ],
];

describe('the adapter', () => {
  for (const [way, send] of WAYS) {
    it(`is not moved by any hostile update from ${way}`, () => {
      const replica = victim();
      const [sha256, updates] = [replica.sha256(), replica.log.size];
      for (const [name, update, verdict, code] of ATTACKS) {
        // What was never sent may lie ahead of the clock on disk: a machine whose clock was set back.
        if (way === 'the log on disk' && verdict === 'defer') continue;
        const before = replica.rejectedBy(FORWARDER);
        const given = send(replica, update);
        if (given !== null) {
          assert.equal(given, verdict, name);
          const after = replica.rejectedBy(FORWARDER);
          const grown = Object.entries(after).filter(([key, count]) => {
            return count !== before[key as RejectionCode];
          });
          assert.deepEqual(
            grown.map(([key]) => key),
            // The decoder of a gossip message bounds the header already.
            code === null ? [] : [code === 'oversize' && way === 'gossip' ? 'malformed' : code],
            name,
          );
        }
        assert.equal(replica.sha256(), sha256, name);
        assert.equal(replica.log.size, updates, name);
      }
    });
  }

  it('is not moved by announcements, empty messages and too long ones', () => {
    const replica = victim();
    const sha256 = replica.sha256();
    for (const [, { header, signature }] of ATTACKS)
      replica.onGossip(wire.Gossip.encode({ announcement: { header, signature } }), FORWARDER);
    for (const bytes of [new Uint8Array(), new Uint8Array(GOSSIP_BYTES_MAX + 1)])
      assert.equal(replica.onGossip(bytes, FORWARDER), 'reject');
    assert.equal(replica.sha256(), sha256);
  });
});
