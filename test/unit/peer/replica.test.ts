import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate as macrotask } from 'node:timers/promises';
import fc from 'fast-check';
import { adapterSha256, initialAdapter } from '../../../protocol/adapter.js';
import {
  encodeEquivocation,
  encodeUpdateMessage,
  equivocationToWire,
} from '../../../protocol/gossip.js';
import { DEFERRED_MAX, GOSSIP_BYTES_MAX } from '../../../protocol/limits.js';
import { equivocationProof, type EquivocationProof } from '../../../protocol/equivocation.js';
import { createUpdate, updateToWire, type Update } from '../../../protocol/update.js';
import * as wire from '../../../protocol/wire/messages.js';
import { restoreAll, testReplica } from '../../support/replicas.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';

const run = testRun();
const FORWARDER = testIdentity(99).peerId;

function setUp(epochNow = 10) {
  const clock = { epoch: epochNow };
  const proofs: EquivocationProof[] = [];
  const announced: string[] = [];
  const { replica, records } = testReplica(run, () => clock.epoch, {
    onAnnounced: (header, from) => announced.push(`${header.epoch} from ${from}`),
    onProof: (proof) => proofs.push(proof),
  });
  const hear = (update: Update): string => replica.onGossip(encodeUpdateMessage(update), FORWARDER);
  return { replica, clock, records, proofs, announced, hear };
}

describe('Replica', () => {
  it('accepts an update once, records it, and ignores it from then on', () => {
    const { replica, records, hear } = setUp();
    const before = replica.sha256();
    const update = testUpdate(run, testIdentity(1), 3);
    assert.equal(hear(update), 'accept');
    assert.equal(hear(update), 'ignore');
    assert.deepEqual(records, [encodeUpdateMessage(update)]);
    assert.notEqual(replica.sha256(), before);
  });

  it('restores the same adapter from its records', () => {
    const { replica, records, hear } = setUp();
    for (let i = 0; i < 12; i++) hear(testUpdate(run, testIdentity(i % 4), i >> 2));
    const restored = setUp();
    assert.ok(restoreAll(restored, records).every((isValid) => isValid));
    const other = restored.replica;
    assert.equal(other.sha256(), replica.sha256());
    assert.deepEqual([replica.received, other.received], [12, 0], 'those on disk did not come in');
    assert.equal(other.restore(Uint8Array.of(1, 2, 3), 12), false);
  });

  it('describes the adapter of the whole log also after the hash was asked for first', () => {
    const { replica, hear } = setUp();
    const { signal } = new AbortController();
    assert.equal(replica.adapter(signal).updates, 0);
    hear(testUpdate(run, testIdentity(1), 3));
    const sha256 = replica.sha256();
    assert.deepEqual(replica.adapter(signal), { sha256, epoch: 3, updates: 1, sealedEpoch: 0 });
  });

  it('defers an update from the future and takes it when its time has come', () => {
    const { replica, clock, hear } = setUp(10);
    assert.equal(hear(testUpdate(run, testIdentity(1), 11)), 'accept');
    assert.equal(hear(testUpdate(run, testIdentity(1), 12)), 'defer');
    replica.retryDeferred();
    assert.equal(replica.log.size, 1);
    clock.epoch = 11;
    replica.retryDeferred();
    assert.equal(replica.log.size, 2);
    assert.deepEqual(replica.rejectedBy(FORWARDER), { 'future-epoch': 1 });
  });

  it('keeps no more than DEFERRED_MAX updates from the future', () => {
    const { replica, clock, hear } = setUp(0);
    for (let i = 0; i < DEFERRED_MAX + 40; i++) {
      hear(testUpdate(run, testIdentity(i % 10), 2 + Math.floor(i / 10), { salt: String(i) }));
    }
    clock.epoch = 40;
    replica.retryDeferred();
    assert.equal(replica.log.size, DEFERRED_MAX);
  });

  it('is not moved by replayed, stale, foreign, forged, oversized or malformed messages', () => {
    const { replica, records, hear } = setUp();
    const good = testUpdate(run, testIdentity(1), 5);
    hear(good);
    const before = { sha256: replica.sha256(), records: records.length };
    const otherRun = testRun((manifest) => ({ ...manifest, name: 'other' }));
    const message = updateToWire(testUpdate(run, testIdentity(1), 6));
    const held = updateToWire(good);
    const flipped = message.codes.slice();
    flipped[0] = flipped[0]! ^ 1;
    const attacks: [string, Uint8Array][] = [
      ['replay', encodeUpdateMessage(good)],
      ['stale', encodeUpdateMessage(testUpdate(run, testIdentity(1), 12, { baseEpoch: 3 }))],
      ['beyond the run', encodeUpdateMessage(testUpdate(run, testIdentity(1), 40))],
      ['wrong run', encodeUpdateMessage(testUpdate(otherRun, testIdentity(1), 6))],
      ['changed body', wire.Gossip.encode({ update: { ...message, codes: flipped } })],
      ['held, with another body', wire.Gossip.encode({ update: { ...held, codes: flipped } })],
      ['short body', wire.Gossip.encode({ update: { ...message, codes: message.codes.slice(1) } })],
      [
        'no signature',
        wire.Gossip.encode({ update: { ...message, signature: new Uint8Array(64) } }),
      ],
      [
        'signature of another',
        wire.Gossip.encode({
          update: { ...message, signature: testUpdate(run, testIdentity(2), 6).signed.signature },
        }),
      ],
      ['oversize', new Uint8Array(GOSSIP_BYTES_MAX + 1)],
      ['empty', new Uint8Array()],
    ];
    for (const [name, bytes] of attacks) {
      const verdict = replica.onGossip(bytes, FORWARDER);
      // Beyond the run as far as this peer knows: an amendment may be under way.
      const verdicts: Record<string, string> = {
        ...{ replay: 'ignore', 'held, with another body': 'ignore' },
        'beyond the run': 'defer',
      };
      assert.equal(verdict, verdicts[name] ?? 'reject', name);
      assert.equal(replica.sha256(), before.sha256, name);
    }
    assert.equal(records.length, before.records);
  });

  it('is not moved by arbitrary or mutated bytes', () => {
    const { replica } = setUp();
    const bytes = encodeUpdateMessage(testUpdate(run, testIdentity(1), 5));
    // A changed wire type in the envelope leaves the same signed update, so it is held already.
    assert.equal(replica.onGossip(bytes, FORWARDER), 'accept');
    const sha256 = replica.sha256();
    const mutated = fc
      .array(fc.tuple(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 })), { minLength: 1 })
      .map((changes) => {
        const copy = bytes.slice();
        for (const [i, mask] of changes) copy[i] = copy[i]! ^ mask;
        return copy;
      });
    fc.assert(
      fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 400 })), (input) => {
        if (Buffer.compare(input, bytes) === 0) return;
        assert.notEqual(replica.onGossip(input, FORWARDER), 'accept');
        assert.equal(replica.sha256(), sha256);
      }),
      { numRuns: 300 },
    );
  });

  it('evicts an author that signed two updates for one epoch, and tells the others', () => {
    const { replica, proofs, records, hear } = setUp();
    hear(testUpdate(run, testIdentity(2), 1));
    hear(testUpdate(run, testIdentity(1), 4));
    const without = replica.sha256();
    hear(testUpdate(run, testIdentity(1), 5));
    hear(testUpdate(run, testIdentity(1), 7));
    assert.notEqual(replica.sha256(), without);
    assert.equal(hear(testUpdate(run, testIdentity(1), 5, { salt: 'other' })), 'ignore');
    assert.equal(replica.sha256(), without, 'what came before the fork stays');
    assert.equal(proofs.length, 1);
    assert.equal(hear(testUpdate(run, testIdentity(1), 6)), 'ignore');
    assert.equal(hear(testUpdate(run, testIdentity(1), 3)), 'accept', 'before the fork it counts');
    const restored = setUp();
    const valid = restoreAll(restored, records);
    assert.ok(
      valid.every((isValid) => isValid),
      'an update of an evicted author is no damage',
    );
    assert.equal(restored.replica.sha256(), replica.sha256());
    const again = restored.replica.restore(records[2] ?? assert.fail(), 2);
    assert.deepEqual([again, restored.replica.log.size], [true, 3]);
  });

  it('believes a proof of equivocation, but not one that proves nothing', () => {
    const { replica } = setUp();
    const [a, b] = [
      testUpdate(run, testIdentity(1), 5),
      testUpdate(run, testIdentity(1), 5, { salt: 'other' }),
    ];
    const c = testUpdate(run, testIdentity(1), 6);
    const initial = replica.sha256();
    const early = testUpdate(run, testIdentity(1), 4);
    replica.onGossip(encodeUpdateMessage(c), FORWARDER);
    assert.notEqual(replica.sha256(), initial);
    for (const bad of [equivocationProof(a, a), equivocationProof(a, c)]) {
      assert.equal(replica.onGossip(encodeEquivocation(bad), FORWARDER), 'reject');
    }
    assert.equal(
      replica.onGossip(encodeEquivocation(equivocationProof(a, b)), FORWARDER),
      'accept',
    );
    assert.ok(replica.log.proofAgainst(a.author));
    assert.equal(replica.sha256(), initial);
    assert.equal(replica.onGossip(encodeUpdateMessage(early), FORWARDER), 'accept');
  });

  it('takes no proof against an author of whom an open run has nothing: names cost nothing', () => {
    const { replica, records } = setUp();
    for (let i = 1; i <= 3; i++) {
      const two = ['a', 'b'].map((salt) => testUpdate(run, testIdentity(i), 5, { salt }));
      const proof = equivocationProof(two[0] ?? assert.fail(), two[1] ?? assert.fail());
      assert.equal(replica.onGossip(encodeEquivocation(proof), FORWARDER), 'ignore');
      const { equivocation } = equivocationToWire(proof);
      assert.equal(replica.onSyncedProof(equivocation ?? {}, FORWARDER), 'ignore');
    }
    assert.deepEqual([records, replica.log.proofs()], [[], []]);
  });

  it('asks for an announced update that it lacks, and for no other', () => {
    const { replica, announced, hear } = setUp();
    const update = testUpdate(run, testIdentity(1), 5);
    const announcement = wire.Gossip.encode({ announcement: update.signed });
    assert.equal(replica.onGossip(announcement, FORWARDER), 'accept');
    hear(update);
    assert.equal(replica.onGossip(announcement, FORWARDER), 'ignore');
    assert.deepEqual(announced, [`5 from ${FORWARDER}`]);
  });

  it('answers at once while a long fold runs, and with the whole log when it is done', async () => {
    const large = testRun((manifest) => {
      const modules = [{ name: 'layers.0.up_proj', inFeatures: 65_536, outFeatures: 65_536 }];
      const adapter = { ...manifest.adapter, modules };
      return {
        ...manifest,
        adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
      };
    });
    const { replica } = testReplica(large, () => 10);
    const { signal } = new AbortController();
    const empty = replica.adapter(signal);
    assert.deepEqual([empty.epoch, empty.updates], [-1, 0]);
    const update = testUpdate(large, testIdentity(0), 0);
    // 20 rows of 262,144 coordinates; the later ones have the same body.
    for (let i = 0; i < 20; i++) {
      const { scales, codes } = update;
      const fields = { epoch: 0, baseEpoch: 0, steps: 1, logDigest: new Uint8Array(32) };
      const other = createUpdate(large, testIdentity(i), { ...fields, scales, codes });
      assert.equal(replica.onSynced(updateToWire(other), FORWARDER), 'accept');
    }
    assert.deepEqual(replica.adapter(signal), empty);
    const deadlineMs = performance.now() + 20_000;
    while (replica.adapter(signal).updates < 20) {
      assert.ok(performance.now() < deadlineMs, 'the fold never ended');
      await macrotask();
    }
    assert.equal(replica.adapter(signal).sha256, adapterSha256(replica.theta()));
    assert.notEqual(replica.adapter(signal).sha256, empty.sha256);
  });

  it('tells of the whole log also when somebody else asked for its hash before', () => {
    const { replica, hear } = setUp();
    const { signal } = new AbortController();
    assert.equal(replica.adapter(signal).updates, 0);
    hear(testUpdate(run, testIdentity(1), 5));
    const sha256 = replica.sha256();
    assert.deepEqual(replica.adapter(signal), { sha256, epoch: 5, updates: 1, sealedEpoch: 0 });
  });

  it('takes two signed headers for one slot as a proof, also when one is announced', () => {
    const { replica, announced, proofs, hear } = setUp();
    hear(testUpdate(run, testIdentity(1), 5));
    const second = testUpdate(run, testIdentity(1), 5, { salt: 'other' });
    const announcement = wire.Gossip.encode({ announcement: second.signed });
    assert.equal(replica.onGossip(announcement, FORWARDER), 'ignore');
    assert.ok(replica.log.proofAgainst(second.author));
    assert.deepEqual([proofs.length, announced.length], [1, 0]);
  });

  it('keeps no update from the future that came by sync: it may be large, and comes again', () => {
    const { replica, clock } = setUp(0);
    const update = testUpdate(run, testIdentity(1), 5);
    assert.equal(replica.onSynced(updateToWire(update), FORWARDER), 'defer');
    clock.epoch = 5;
    replica.retryDeferred();
    assert.equal(replica.log.size, 0);
  });

  it('leaves out an own update whose slot is taken, instead of proving itself guilty', () => {
    const { replica, records, hear } = setUp();
    const [published, kept] = [
      testUpdate(run, testIdentity(1), 5),
      testUpdate(run, testIdentity(1), 5, { salt: 'never published' }),
    ];
    hear(published);
    replica.restoreOwn(encodeUpdateMessage(kept));
    assert.match(replica.addOwn(kept) ?? '', /Another update of this peer id for epoch 5/);
    assert.equal(replica.log.proofAgainst(published.author), undefined);
    assert.equal(records.length, 1);
  });

  it('admits members of an allowlist only', () => {
    const closed = testRun((manifest) => ({
      ...manifest,
      membership: { mode: 'allowlist', members: [{ peerId: testIdentity(1).peerId, weight: 1 }] },
    }));
    const { replica } = testReplica(closed, () => 10);
    const hear = (peer: number): string =>
      replica.onGossip(encodeUpdateMessage(testUpdate(closed, testIdentity(peer), 5)), FORWARDER);
    assert.equal(hear(1), 'accept');
    assert.equal(hear(2), 'reject');
    assert.deepEqual(replica.rejectedBy(FORWARDER), { 'not-a-member': 1 });
  });
});
