/**
 * Decoders of what other peers send. A changed byte breaks a signature, so that some targets sign again what the
 * fuzzer made: a member may be hostile.
 */
import assert from 'node:assert/strict';
import { basename } from 'node:path';
import { checkAmendment, createAmendment } from '../../protocol/amendment.js';
import {
  BlobAsker,
  BlobGiver,
  blobRoot,
  chunkHashes,
  decodeBlobOpen,
  encodeBlobAbsent,
  encodeBlobChunk,
  PartialBlob,
  wholeBlob,
} from '../../protocol/blob.js';
import { bytesEqual, fromHex, toHex } from '../../protocol/bytes.js';
import {
  BlobProtocolError,
  InvalidManifestError,
  InvalidModelFilesError,
  InvalidPeerIdError,
  UpdateRejectedError,
} from '../../protocol/errors.js';
import { foldOnce } from '../../protocol/fold.js';
import {
  decodeGossip,
  encodeAdmission,
  encodeAmendment,
  encodeAnnouncement,
  encodeEquivocation,
  encodeSeal,
  encodeUpdateMessage,
  type GossipMessage,
} from '../../protocol/gossip.js';
import { peerIdFromPublicKey, publicKeyFromPeerId } from '../../protocol/identity.js';
import { equivocationProof } from '../../protocol/equivocation.js';
import { UpdateLog } from '../../protocol/log.js';
import type { Compression, Run } from '../../protocol/manifest.js';
import { decodeManifest, encodeManifest } from '../../protocol/manifest-codec.js';
import { MODEL_PART_BYTES } from '../../protocol/limits.js';
import {
  decodeModelFiles,
  encodeModelFiles,
  partCount,
  partsOf,
  totalBytes,
} from '../../protocol/model-files.js';
import { RowFormats } from '../../protocol/row-format.js';
import { checkUpdate, updateToWire } from '../../protocol/update.js';
import * as wire from '../../protocol/wire/messages.js';
import { testIdentity, testRun, testUpdate } from '../support/runs.js';
import { sampleManifest } from '../unit/manifest-sample.js';
import { inFrames, framesOf } from './frames.js';
import type { FuzzTarget, FuzzTargets } from './oracle.js';

const run = testRun();
const formats = new RowFormats(run);
const founder = testIdentity(0);
const member = testIdentity(1);
const update = testUpdate(run, member, 3);
const other = testUpdate(run, member, 3, { salt: 'other' });
const late = testUpdate(run, member, 38, { baseEpoch: 36 });
const amendment = createAmendment(run, founder, 50);

function encode(message: GossipMessage): Uint8Array | null {
  switch (message.kind) {
    case 'held':
      return null;
    case 'update':
      return encodeUpdateMessage(message.update);
    case 'announcement':
      return encodeAnnouncement(message.header);
    case 'equivocation':
      return encodeEquivocation(message.proof);
    case 'amendment':
      return encodeAmendment(message.amendment);
    case 'admission':
      return encodeAdmission(message.admission);
    case 'seal':
      return encodeSeal(message.seal);
  }
}

/** Any gossip message; what is accepted means the same after another encoding. */
const gossip: FuzzTarget = {
  seeds: [
    encodeUpdateMessage(update),
    encodeUpdateMessage(late),
    encodeAnnouncement(update),
    encodeEquivocation(equivocationProof(update, other)),
    encodeAmendment(amendment),
  ],
  refusals: [UpdateRejectedError],
  run: (bytes) => {
    const message = decodeGossip(run, formats, bytes);
    const again = encode(message);
    if (again !== null) assert.deepEqual(decodeGossip(run, formats, again), message);
  },
};

/** A header with the author and the body that it must have, signed by that author; null for what is no header. */
function signedAnew(header: Uint8Array, body: readonly Uint8Array[]): wire.SignedHeader | null {
  let fields: wire.UpdateHeader;
  try {
    fields = wire.UpdateHeader.decode(header);
  } catch {
    return null;
  }
  const author = publicKeyFromPeerId(member.peerId);
  const encoded = wire.UpdateHeader.encode({
    ...fields,
    author,
    bodyRoot: blobRoot(chunkHashes(body)),
  });
  const domain = new TextEncoder().encode('murmurate/update/1\n');
  const signature = Uint8Array.from(member.sign(Buffer.concat([domain, encoded])));
  return { header: encoded, signature };
}

function withCodec(codec: Compression['codec']): Run {
  return testRun((manifest) => ({ ...manifest, compression: { codec } }));
}

/** Updates of a member that signs whatever the fuzzer makes; what is accepted folds to finite numbers. */
function signedUpdates(run: Run): FuzzTarget {
  const formats = new RowFormats(run);
  const update = testUpdate(run, member, 3);
  const late = testUpdate(run, member, 38, { baseEpoch: 36 });
  return {
    seeds: [wire.Update.encode(updateToWire(update)), wire.Update.encode(updateToWire(late))],
    refusals: [UpdateRejectedError],
    run: (bytes) => {
      const message = tryDecode(() => wire.Update.decode(bytes));
      const signed = message && signedAnew(message.header, [message.scales, message.codes]);
      if (!message || !signed) return;
      const accepted = checkUpdate(run, formats, { ...message, ...signed });
      const again = encodeUpdateMessage(accepted);
      assert.deepEqual(decodeGossip(run, formats, again), { kind: 'update', update: accepted });
      if (accepted.epoch >= run.manifest.schedule.epochsMax) return;
      const log = new UpdateLog();
      log.insert(accepted);
      assert.ok(foldOnce(run, log).every(Number.isFinite), 'theta must stay finite');
    },
  };
}

/** Proofs of two headers that their author signed. */
const signedProof: FuzzTarget = {
  seeds: [wire.Equivocation.encode({ first: update.signed, second: other.signed })],
  refusals: [UpdateRejectedError],
  run: (bytes) => {
    const message = tryDecode(() => wire.Equivocation.decode(bytes));
    const first = signedAnew(message?.first?.header ?? new Uint8Array(), [Uint8Array.of(1)]);
    const second = signedAnew(message?.second?.header ?? new Uint8Array(), [Uint8Array.of(2)]);
    if (!first || !second) return;
    const proof = wire.Gossip.encode({ equivocation: { first, second } });
    assert.equal(decodeGossip(run, formats, proof).kind, 'equivocation');
  },
};

/** Amendments that the founder signed, whatever they say. */
const signedAmendment: FuzzTarget = {
  seeds: [amendment.signed.amendment],
  refusals: [UpdateRejectedError],
  run: (bytes) => {
    const domain = new TextEncoder().encode('murmurate/amendment/1\n');
    const signature = Uint8Array.from(founder.sign(Buffer.concat([domain, bytes])));
    const { epochsMax } = checkAmendment(run, { amendment: bytes.slice(), signature });
    assert.ok(epochsMax > run.manifest.schedule.epochsMax);
  },
};

const robust = testRun((manifest) => ({
  ...manifest,
  fold: { ...manifest.fold, mode: 'robust', trimFraction: 0.2, sealEvery: 12, sealAfter: 3 },
  membership: { mode: 'allowlist', members: [{ peerId: member.peerId, weight: 1 }] },
}));

/** Manifests have one encoding. */
const manifest: FuzzTarget = {
  seeds: [run.bytes, robust.bytes, encodeManifest(sampleManifest()).bytes],
  refusals: [InvalidManifestError],
  run: (bytes) => {
    const decoded = decodeManifest(bytes);
    assert.ok(bytesEqual(encodeManifest(decoded.manifest).bytes, bytes));
  },
};

/** Catalogues have one encoding, and no file of one leaves its directory. */
const modelFiles: FuzzTarget = {
  seeds: [1, MODEL_PART_BYTES + 1].map((size) =>
    encodeModelFiles(
      ['config.json', 'model.safetensors', 'tokenizer.json'].map((name) => ({
        name,
        size,
        parts: Array.from({ length: partCount(size) }, () => 'ab'.repeat(32)),
      })),
    ),
  ),
  refusals: [InvalidModelFilesError],
  run: (bytes) => {
    const files = decodeModelFiles(bytes);
    assert.ok(bytesEqual(encodeModelFiles(files), bytes));
    assert.ok(files.every(({ name }) => name === basename(name) && !name.startsWith('.')));
    const parts = partsOf(files);
    assert.equal(
      parts.reduce((sum, { size }) => sum + size, 0),
      totalBytes(files),
    );
    assert.ok(parts.every(({ size }) => size > 0 && size <= MODEL_PART_BYTES));
  },
};

const peerId: FuzzTarget = {
  seeds: [new TextEncoder().encode(member.peerId), publicKeyFromPeerId(member.peerId)],
  refusals: [InvalidPeerIdError],
  run: (bytes) => {
    const text = Buffer.from(bytes).toString('latin1');
    if (bytes.length === 32) {
      assert.ok(bytesEqual(publicKeyFromPeerId(peerIdFromPublicKey(bytes)), bytes));
      return;
    }
    assert.equal(peerIdFromPublicKey(publicKeyFromPeerId(text)), text);
  },
};

/** Three chunks, the last one short. */
const BLOB = new Uint8Array(2 * 256 * 1024 + 1000).fill(7);
const HASHES = chunkHashes([BLOB]);
const NAME = { root: toHex(blobRoot(HASHES)), size: BLOB.length };

/** One blob stream heard by the one who asks: first what opens it, then what answers it. */
const blobAsker: FuzzTarget = {
  seeds: [
    inFrames([
      new BlobGiver(wholeBlob([BLOB], HASHES)).offer() ?? new Uint8Array(),
      encodeBlobChunk(2, BLOB.subarray(2 * 256 * 1024)),
    ]),
    inFrames([encodeBlobAbsent()]),
  ],
  refusals: [BlobProtocolError],
  run: (bytes) => {
    const blob = new PartialBlob(NAME);
    const asker = new BlobAsker(blob);
    asker.hello(run.id);
    for (const frame of framesOf(bytes)) {
      if (asker.receive(frame).kind === 'absent') return;
      for (let i = 0; i < blob.chunkCount; i++) if (asker.canAsk(i)) asker.ask(i);
    }
    assert.ok(blob.held <= blob.chunkCount);
  },
};

/** One blob stream heard by the one who gives. */
const blobGiver: FuzzTarget = {
  seeds: [
    inFrames([
      wire.BlobFrame.encode({ open: { runId: fromHex(run.id), root: fromHex(NAME.root) } }),
      wire.BlobFrame.encode({ want: { index: 0 } }),
      wire.BlobFrame.encode({ want: { index: 2 } }),
    ]),
  ],
  refusals: [BlobProtocolError],
  run: (bytes) => {
    const [open = new Uint8Array(), ...wants] = framesOf(bytes);
    assert.match(decodeBlobOpen(run.id, open), /^[0-9a-f]{64}$/);
    const giver = new BlobGiver(wholeBlob([BLOB], HASHES));
    giver.offer();
    for (const frame of wants) {
      const { index, bytes: chunk } = giver.receive(frame);
      assert.ok(bytesEqual(chunk, BLOB.subarray(index * 256 * 1024, (index + 1) * 256 * 1024)));
    }
  },
};

function tryDecode<T>(decode: () => T): T | null {
  try {
    return decode();
  } catch {
    return null;
  }
}

export const protocolTargets: FuzzTargets = {
  gossip,
  'signed-update': signedUpdates(run),
  'signed-small-update': signedUpdates(withCodec('rec20')),
  'signed-smallest-update': signedUpdates(withCodec('rec10')),
  'signed-proof': signedProof,
  'signed-amendment': signedAmendment,
  manifest,
  'model-files': modelFiles,
  'peer-id': peerId,
  'blob-asker': blobAsker,
  'blob-giver': blobGiver,
};
