/** Gossip messages: round trips, and each reason for a rejection with the verdict that it deserves. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { blobRoot, chunkHashes } from '../../../protocol/blob.js';
import { fromHex } from '../../../protocol/bytes.js';
import { UpdateRejectedError, type RejectionCode } from '../../../protocol/errors.js';
import { checkEquivocation, equivocationProof } from '../../../protocol/equivocation.js';
import {
  decodeGossip,
  encodeAnnouncement,
  encodeEquivocation,
  encodeUpdateMessage,
  isHeld,
  equivocationToWire,
} from '../../../protocol/gossip.js';
import { publicKeyFromPeerId } from '../../../protocol/identity.js';
import { GOSSIP_BYTES_MAX, STEPS_MAX, UPDATE_INLINE_BYTES_MAX } from '../../../protocol/limits.js';
import { UpdateLog } from '../../../protocol/log.js';
import { RowFormats } from '../../../protocol/row-format.js';
import { updateToWire, UPDATE_OVERHEAD_BYTES_MAX, type Update } from '../../../protocol/update.js';
import * as wire from '../../../protocol/wire/messages.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';

/** 40 epochs, 1 bit, and 4 bits from epoch 36 on; a lag of 8 is allowed. */
const run = testRun();
const formats = new RowFormats(run);
const author = testIdentity(1);

/** A header that says what an honest peer would not, signed all the same. */
function signedHeader(changes: Partial<wire.UpdateHeader>, signer = author): wire.SignedHeader {
  return sign(
    wire.UpdateHeader.encode({ ...wire.UpdateHeader.decode(honest(4).header), ...changes }),
    signer,
  );
}

function sign(header: Uint8Array, signer = author): wire.SignedHeader {
  const signed = Buffer.concat([Buffer.from('murmurate/update/1\n'), header]);
  return { header: Uint8Array.from(header), signature: Uint8Array.from(signer.sign(signed)) };
}

function honest(epoch: number): wire.Update {
  return updateToWire(testUpdate(run, author, epoch));
}

/** An update of `epoch` with another body, which its author signed. */
function withBody(
  epoch: number,
  change: (body: Pick<wire.Update, 'scales' | 'codes'>) => void,
): Uint8Array {
  const { header, scales, codes } = honest(epoch);
  const body = { scales: scales.slice(), codes: codes.slice() };
  change(body);
  const fields = wire.UpdateHeader.decode(header);
  const bodyRoot = blobRoot(chunkHashes([body.scales, body.codes]));
  const signed = sign(wire.UpdateHeader.encode({ ...fields, bodyRoot }));
  return wire.Gossip.encode({ update: { ...signed, ...body } });
}

function decode(bytes: Uint8Array): ReturnType<typeof decodeGossip> {
  return decodeGossip(run, formats, bytes);
}

function rejects(bytes: Uint8Array, code: RejectionCode, what: string): void {
  assert.throws(
    () => decode(bytes),
    (error) => {
      assert.ok(error instanceof UpdateRejectedError, `${what}: ${String(error)}`);
      assert.deepEqual([error.code, error.verdict], [code, 'reject'], what);
      return true;
    },
    what,
  );
}

/** Rejected in an update and in an announcement: checks on headers are the same for both. */
function rejectsHeader(changes: Partial<wire.UpdateHeader>, code: RejectionCode): void {
  const what = JSON.stringify(changes);
  const signed = signedHeader(changes);
  rejects(wire.Gossip.encode({ announcement: signed }), code, `announcement ${what}`);
  rejects(wire.Gossip.encode({ update: { ...honest(4), ...signed } }), code, `update ${what}`);
}

describe('a gossip message', () => {
  it('gives back an update, an announcement and a proof', () => {
    for (const epoch of [0, 35, 36, 39]) {
      const update = testUpdate(run, author, epoch, { baseEpoch: Math.max(0, epoch - 8) });
      assert.deepEqual(decode(encodeUpdateMessage(update)), { kind: 'update', update });
      const header: Partial<Update> = { ...update };
      delete header.scales;
      delete header.codes;
      assert.deepEqual(decode(encodeAnnouncement(update)), { kind: 'announcement', header });
    }
    const [a, b] = [testUpdate(run, author, 4), testUpdate(run, author, 4, { salt: 'b' })];
    const message = decode(encodeEquivocation(equivocationProof(a, b)));
    assert.equal(message.kind, 'equivocation');
    assert.deepEqual(
      encodeEquivocation(message.proof),
      encodeEquivocation(equivocationProof(b, a)),
    );
  });

  it('does not keep the network buffer alive', () => {
    const bytes = encodeUpdateMessage(testUpdate(run, author, 4));
    const message = decode(bytes);
    assert.ok(message.kind === 'update');
    const { update } = message;
    const kept = [update.scales, update.codes, update.signed.header, update.bodyRoot];
    for (const part of kept) assert.notEqual(part.buffer, bytes.buffer);
    bytes.fill(0);
    assert.deepEqual(update, testUpdate(run, author, 4));
  });

  it('carries every inline update: the envelope fits into the difference of the limits', () => {
    const body = UPDATE_INLINE_BYTES_MAX - UPDATE_OVERHEAD_BYTES_MAX;
    const { header, signature } = honest(4);
    const update = { header, signature, scales: new Uint8Array(body), codes: new Uint8Array() };
    assert.ok(wire.Gossip.encode({ update }).length <= GOSSIP_BYTES_MAX);
  });
});

describe('isHeld()', () => {
  it('is true for the signed header that the log holds, and for no forged one', () => {
    const log = new UpdateLog();
    const update = testUpdate(run, testIdentity(1), 3);
    const message = updateToWire(update);
    assert.equal(isHeld(log, message), false);
    log.insert(update);
    assert.equal(isHeld(log, message), true);
    assert.equal(isHeld(log, update.signed), true);
    for (const field of ['header', 'signature'] as const) {
      const forged = {
        ...message,
        [field]: message[field].map((byte, i) => (i === 3 ? ~byte : byte)),
      };
      assert.equal(isHeld(log, forged), false, field);
    }
    log.insert(testUpdate(run, testIdentity(1), 3, { salt: 'other' }));
    assert.equal(isHeld(log, message), false, 'the author was evicted');
  });
});

describe('decodeGossip()', () => {
  it('rejects more bytes than a message may have, except from disk', () => {
    rejects(new Uint8Array(GOSSIP_BYTES_MAX + 1), 'oversize', 'zeros');
    // An unknown field of an envelope is skipped, so this is a valid message of exactly the limit, and one beyond.
    const update = encodeUpdateMessage(testUpdate(run, author, 4));
    const padded = (length: number): Uint8Array => {
      const padding = length - update.length - 4;
      const varint = [(padding & 0x7f) | 0x80, ((padding >> 7) & 0x7f) | 0x80, padding >> 14];
      return Buffer.concat([update, Uint8Array.of(0x7a, ...varint), new Uint8Array(padding)]);
    };
    assert.equal(padded(GOSSIP_BYTES_MAX).length, GOSSIP_BYTES_MAX);
    assert.equal(decode(padded(GOSSIP_BYTES_MAX)).kind, 'update');
    rejects(padded(GOSSIP_BYTES_MAX + 1), 'oversize', 'one byte too many');
    const fromDisk = decodeGossip(run, formats, padded(GOSSIP_BYTES_MAX + 1), 'disk');
    assert.equal(fromDisk.kind, 'update');
  });

  it('rejects what is not protobuf, and groups nested without end', () => {
    rejects(Uint8Array.of(0x0a, 0x05, 0x01), 'malformed', 'cut short');
    rejects(Uint8Array.of(0x0f), 'malformed', 'wire type 7');
    rejects(new Uint8Array(GOSSIP_BYTES_MAX).fill(0x7b), 'malformed', 'groups');
  });

  it('rejects a message of no kind and of two, and ignores one of an unknown kind', () => {
    const update = honest(4);
    const announcement = { header: update.header, signature: update.signature };
    rejects(new Uint8Array(), 'malformed', 'no kind');
    assert.throws(
      () => decode(fromHex('7801')),
      (error) =>
        error instanceof UpdateRejectedError &&
        error.code === 'unknown-kind' &&
        error.verdict === 'ignore',
      'only an unknown field: a newer minor version may send it',
    );
    rejects(wire.Gossip.encode({ update, announcement }), 'malformed', 'two kinds');
    const equivocation = { first: announcement, second: announcement };
    rejects(wire.Gossip.encode({ announcement, equivocation }), 'malformed', 'two other kinds');
  });

  it('rejects headers by code: version, run, lengths, epochs, steps', () => {
    rejectsHeader({ version: 2 }, 'wrong-version');
    rejectsHeader({ version: 0 }, 'wrong-version');
    rejectsHeader({ runId: fromHex(testRun((m) => ({ ...m, name: 'b' })).id) }, 'wrong-run');
    rejectsHeader({ runId: new Uint8Array() }, 'wrong-run');
    for (const field of ['author', 'logDigest', 'bodyRoot'] as const) {
      for (const length of [0, 31, 33])
        rejectsHeader({ [field]: new Uint8Array(length) }, 'malformed');
    }
    rejectsHeader({ epoch: 100_000, baseEpoch: 100_000 }, 'bad-epoch');
    rejectsHeader({ epoch: 4, baseEpoch: 5 }, 'bad-epoch');
    rejectsHeader({ epoch: 13, baseEpoch: 4 }, 'bad-epoch');
    rejectsHeader({ epoch: 0xffffffff, baseEpoch: 0xffffffff }, 'bad-epoch');
    rejectsHeader({ steps: 0 }, 'bad-steps');
    rejectsHeader({ steps: STEPS_MAX + 1 }, 'bad-steps');
  });

  it('takes headers at the same bounds', () => {
    for (const changes of [
      { epoch: 39, baseEpoch: 39 },
      { epoch: 12, baseEpoch: 4 },
      { steps: 1 },
      { steps: STEPS_MAX },
    ]) {
      assert.equal(
        decode(wire.Gossip.encode({ announcement: signedHeader(changes) })).kind,
        'announcement',
      );
    }
  });

  it('rejects headers that are not canonical, though their author signed them', () => {
    const { header } = honest(4);
    const spelled: [string, Uint8Array][] = [
      ['an unknown field', Buffer.concat([header, fromHex('7801')])],
      ['a field twice', Buffer.concat([fromHex('0801'), header])],
      ['a long varint', Buffer.concat([fromHex('088100'), header.subarray(2)])],
    ];
    for (const [what, bytes] of spelled) {
      rejects(wire.Gossip.encode({ announcement: sign(bytes) }), 'malformed', what);
    }
    const long = Buffer.concat([header, new Uint8Array(UPDATE_OVERHEAD_BYTES_MAX)]);
    rejects(wire.Gossip.encode({ announcement: sign(long) }), 'malformed', 'a long header');
  });

  it('rejects strangers in a run with an allowlist', () => {
    const members = [{ peerId: testIdentity(0).peerId, weight: 1 }];
    const closed = testRun((m) => ({ ...m, membership: { mode: 'allowlist', members } }));
    const judge = (index: number): unknown =>
      decodeGossip(
        closed,
        new RowFormats(closed),
        encodeUpdateMessage(testUpdate(closed, testIdentity(index), 4)),
      );
    assert.doesNotThrow(() => judge(0));
    assert.throws(() => judge(1), { code: 'not-a-member', verdict: 'reject' });
  });

  it('rejects a signature that is not the author’s, or not for an update', () => {
    const { header, signature, scales, codes } = honest(4);
    const forged = (change: Partial<wire.Update>): Uint8Array =>
      wire.Gossip.encode({ update: { header, signature, scales, codes, ...change } });
    rejects(forged({ signature: new Uint8Array(64) }), 'bad-signature', 'zeros');
    rejects(forged({ signature: new Uint8Array() }), 'bad-signature', 'none');
    rejects(
      forged({ signature: sign(header, testIdentity(2)).signature }),
      'bad-signature',
      'stranger',
    );
    const bare = Uint8Array.from(author.sign(header));
    rejects(forged({ signature: bare }), 'bad-signature', 'without the domain');
    const other = publicKeyFromPeerId(testIdentity(2).peerId);
    rejectsHeader({ author: other }, 'bad-signature');
    rejects(
      forged({ codes: codes.map((byte, i) => (i === 0 ? byte ^ 1 : byte)) }),
      'bad-signature',
      'body',
    );
  });

  it('rejects bodies of another length than the manifest fixes', () => {
    const longer = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => Uint8Array.from([...bytes, 0]);
    const changes: [string, (body: Pick<wire.Update, 'scales' | 'codes'>) => void][] = [
      ['no codes', (body) => (body.codes = new Uint8Array())],
      ['longer codes', (body) => (body.codes = longer(body.codes))],
      ['shorter scales', (body) => (body.scales = body.scales.slice(2))],
      ['longer scales', (body) => (body.scales = longer(body.scales))],
    ];
    for (const [what, change] of changes) rejects(withBody(4, change), 'wrong-length', what);
  });

  it('rejects scales that are negative, infinite or NaN', () => {
    for (const half of [0x8000, 0x8001, 0xbc00, 0x7c00, 0x7e00, 0xfc00]) {
      const bytes = withBody(4, ({ scales }) => {
        scales[2] = half & 0xff;
        scales[3] = half >> 8;
      });
      rejects(bytes, 'bad-scale', half.toString(16));
    }
  });

  it('rejects proofs that prove nothing', () => {
    const header = (update: Update): wire.SignedHeader => update.signed;
    const [a, b] = [testUpdate(run, author, 4), testUpdate(run, author, 4, { salt: 'b' })];
    const wrong: [string, wire.Equivocation][] = [
      ['one header twice', { first: header(a), second: header(a) }],
      ['two epochs', { first: header(a), second: header(testUpdate(run, author, 5)) }],
      ['two authors', { first: header(a), second: header(testUpdate(run, testIdentity(2), 4)) }],
      ['one header', { first: header(a) }],
      ['no header', {}],
    ];
    for (const [what, equivocation] of wrong) {
      rejects(wire.Gossip.encode({ equivocation }), 'malformed', what);
    }
    const unsigned = { first: header(a), second: { ...header(b), signature: new Uint8Array(64) } };
    rejects(wire.Gossip.encode({ equivocation: unsigned }), 'bad-signature', 'a forged half');
    // The same header with its signature made again is one update, not two.
    const resigned = { first: header(a), second: sign(header(a).header) };
    rejects(wire.Gossip.encode({ equivocation: resigned }), 'malformed', 'signed twice');
  });

  it('reads a proof the same whichever header comes first', () => {
    const [a, b] = [testUpdate(run, author, 4), testUpdate(run, author, 4, { salt: 'b' })];
    const { equivocation } = equivocationToWire(equivocationProof(a, b));
    const { first, second } = equivocation ?? assert.fail();
    assert.ok(first && second);
    const [one, other] = [
      checkEquivocation(run, { first, second }),
      checkEquivocation(run, { first: second, second: first }),
    ];
    assert.deepEqual(one, other);
    assert.ok(one.kind === 'update' && one.first.id < one.second.id);
  });
});

describe('arbitrary bytes', () => {
  /** Either a message that encodes to something valid again, or an UpdateRejectedError. */
  function survives(bytes: Uint8Array): void {
    try {
      const message = decode(bytes);
      assert.ok(['update', 'announcement', 'equivocation'].includes(message.kind));
    } catch (error) {
      assert.ok(error instanceof UpdateRejectedError, `${(error as Error).stack}`);
    }
  }

  it('end in nothing but an UpdateRejectedError', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), survives), { numRuns: 2000 });
  });

  it('in a valid frame end in nothing but an UpdateRejectedError', () => {
    const bytes = fc.uint8Array({ maxLength: 200 });
    const signed = fc.record({ header: bytes, signature: bytes });
    const message = fc.oneof(
      fc.record({
        update: fc.record({ header: bytes, signature: bytes, scales: bytes, codes: bytes }),
      }),
      fc.record({ announcement: signed }),
      fc.record({ equivocation: fc.record({ first: signed, second: signed }) }),
    );
    fc.assert(
      fc.property(message, (value) => {
        survives(wire.Gossip.encode(value));
      }),
      { numRuns: 1000 },
    );
  });

  it('in a signed header end in nothing but an UpdateRejectedError', () => {
    const uint32 = fc.oneof(fc.nat(50), fc.nat(0xffffffff));
    const changes = fc.record(
      { version: fc.nat(2), epoch: uint32, baseEpoch: uint32, steps: uint32 },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(changes, (fields) => {
        survives(wire.Gossip.encode({ update: { ...honest(4), ...signedHeader(fields) } }));
      }),
      { numRuns: 200 },
    );
  });

  it('that were a message before a few of them changed are that message or rejected', () => {
    const [a, b] = [testUpdate(run, author, 4), testUpdate(run, author, 4, { salt: 'b' })];
    const originals = [
      encodeUpdateMessage(a),
      encodeAnnouncement(a),
      encodeEquivocation(equivocationProof(a, b)),
    ];
    const change = fc.tuple(fc.nat(500), fc.nat(255));
    fc.assert(
      fc.property(fc.nat(2), fc.array(change, { minLength: 1, maxLength: 3 }), (which, changes) => {
        const bytes = originals[which]!.slice();
        for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
        survives(bytes);
        try {
          const message = decode(bytes);
          // What is signed cannot have changed, so nothing that counts has.
          if (message.kind === 'update') assert.equal(message.update.id, a.id);
          if (message.kind === 'announcement') assert.equal(message.header.id, a.id);
        } catch (error) {
          assert.ok(error instanceof UpdateRejectedError);
        }
      }),
      { numRuns: 1500 },
    );
  });

  it('cut off anywhere are rejected', () => {
    const bytes = encodeUpdateMessage(testUpdate(run, author, 4));
    for (let length = 0; length < bytes.length; length++) {
      assert.throws(
        () => decode(bytes.subarray(0, length)),
        UpdateRejectedError,
        `${length} bytes`,
      );
    }
  });
});
