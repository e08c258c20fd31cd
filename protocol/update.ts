/**
 * A signed update: one peer's compressed contribution for one epoch. The author signs a small header
 * that holds a hash of the body (scales and codes), so that an announcement or a proof of
 * equivocation needs no body. Whether an update is accepted depends on its content alone, never on when
 * or in which order it arrived: otherwise sets would diverge.
 */
import { blobRoot, chunkHashes } from './blob.js';
import { bytesEqual, copyOf, fromHex, sha256, toHex } from './bytes.js';
import { cohortOf, publishesIn } from './cohorts.js';
import { PROTOCOL_VERSION } from './ids.js';
import { peerIdFromPublicKey, publicKeyFromPeerId, verifySignature } from './identity.js';
import { EPOCHS_MAX, STEPS_MAX } from './limits.js';
import type { Run } from './manifest.js';
import { isListed } from './members.js';
import { hasFiniteScales, type Quantised } from './quantise.js';
import { decodeCanonical, rejectionOf } from './signed-message.js';
import { bodyBytes, type RowFormats } from './row-format.js';
import * as wire from './wire/messages.js';

export interface UpdateHeader {
  /** Peer id. */
  author: string;
  epoch: number;
  /** The slot in which the author folded the adapter that it started from; lag = epoch - baseEpoch. */
  baseEpoch: number;
  /** Optimiser steps behind the update. */
  steps: number;
  /** Root (protocol/blob.ts) of scales followed by codes, 32 bytes. */
  bodyRoot: Uint8Array;
  /** SHA-256 of the encoded header, 64 hex digits: names the update. */
  id: string;
  signed: wire.SignedHeader;
}

export interface Update extends UpdateHeader, Quantised {}

/** Signs bytes as the author; see Identity in node/interfaces.ts. */
export interface Signer {
  readonly peerId: string;
  sign(bytes: Uint8Array): Uint8Array;
}

/** Prefix of the signed bytes, so that a signature made for this cannot serve for anything else. */
const SIGNATURE_DOMAIN = new TextEncoder().encode('murmurate/update/1\n');

const rejected = rejectionOf('update');

/** Bytes of an encoded header, its signature and framing; the header itself has about 150. */
export const UPDATE_OVERHEAD_BYTES_MAX = 512;

/** Makes and signs this peer's update. */
export function createUpdate(
  run: Run,
  signer: Signer,
  {
    logDigest,
    ...fields
  }: Pick<Update, 'epoch' | 'baseEpoch' | 'steps' | 'scales' | 'codes'> & {
    /** Digest of the author's log when it trained, 32 bytes: for whoever looks into a run later. */
    logDigest: Uint8Array;
  },
): Update {
  const bodyRoot = blobRoot(chunkHashes([fields.scales, fields.codes]));
  const header = wire.UpdateHeader.encode({
    version: PROTOCOL_VERSION,
    runId: fromHex(run.id),
    author: publicKeyFromPeerId(signer.peerId),
    epoch: fields.epoch,
    baseEpoch: fields.baseEpoch,
    steps: fields.steps,
    logDigest: Uint8Array.from(logDigest),
    bodyRoot,
  });
  const signature = Uint8Array.from(signer.sign(signedBytes(header)));
  return {
    ...fields,
    author: signer.peerId,
    bodyRoot,
    id: toHex(sha256(header)),
    signed: { header, signature },
  };
}

/** An update without its body: what a log keeps in memory, in one piece of it. */
export function headerOf(update: UpdateHeader): UpdateHeader {
  const { author, epoch, baseEpoch, steps, id } = update;
  const { header, signature } = update.signed;
  const bytes = new Uint8Array(header.length + signature.length);
  bytes.set(header);
  bytes.set(signature, header.length);
  const signed = {
    header: bytes.subarray(0, header.length),
    signature: bytes.subarray(header.length),
  };
  // The root is the last field of the canonical encoding.
  const bodyRoot = signed.header.subarray(-update.bodyRoot.length);
  return { author, epoch, baseEpoch, steps, bodyRoot, id, signed };
}

/** An update whose header a log holds, with its body. */
export function updateOf(header: UpdateHeader, { scales, codes }: Quantised): wire.Update {
  return { ...header.signed, scales, codes };
}

export function updateToWire(update: Update): wire.Update {
  return { ...update.signed, scales: update.scales, codes: update.codes };
}

/** @throws UpdateRejectedError unless this is a well-formed, signed update of a member of `run`. */
export function checkUpdate(run: Run, formats: RowFormats, message: wire.Update): Update {
  const header = checkHeader(run, message);
  const format = formats.at(header.epoch);
  const expected = bodyBytes(format);
  const { scales, codes } = message;
  if (scales.length !== expected.scales || codes.length !== expected.codes) {
    throw rejected(
      'wrong-length',
      `${scales.length} + ${codes.length} bytes of scales and codes for epoch ${header.epoch}; ` +
        `the manifest fixes ${expected.scales} + ${expected.codes}`,
    );
  }
  if (!bytesEqual(blobRoot(chunkHashes([scales, codes])), header.bodyRoot)) {
    throw rejected('bad-signature', 'the body does not match the hash that its author signed');
  }
  if (!hasFiniteScales({ scales, codes }, format)) {
    throw rejected('bad-scale', 'a scale is negative or not finite');
  }
  // Views into a network buffer would keep all of it alive, so the log holds copies.
  return { ...header, scales: copyOf(scales), codes: copyOf(codes) };
}

/** @throws UpdateRejectedError unless this header is for `run`, in its bounds and signed by its author. */
export function checkHeader(run: Run, { header, signature }: wire.SignedHeader): UpdateHeader {
  const fields = decodeHeader(header);
  if (fields.version !== PROTOCOL_VERSION) {
    throw rejected('wrong-version', `version ${fields.version}; this program speaks 1`);
  }
  if (toHex(fields.runId) !== run.id) {
    throw rejected('wrong-run', 'the update belongs to another run');
  }
  const lengths = [fields.author, fields.logDigest, fields.bodyRoot].map((bytes) => bytes.length);
  if (lengths.some((length) => length !== 32)) {
    throw rejected('malformed', 'author, log digest and body hash must have 32 bytes');
  }
  const { epoch, baseEpoch, steps } = fields;
  const { fold } = run.manifest;
  // An amendment may have made the run longer than its manifest says: see 'past-end' in node/peer/replica.ts.
  if (epoch >= EPOCHS_MAX || baseEpoch > epoch || epoch - baseEpoch > fold.lagMax) {
    throw rejected(
      'bad-epoch',
      `epoch ${epoch} from base ${baseEpoch}; a run has ${EPOCHS_MAX} epochs at most, this one allows ` +
        `a lag of ${fold.lagMax}`,
    );
  }
  if (steps < 1 || steps > STEPS_MAX) {
    throw rejected('bad-steps', `${steps} steps; 1 to ${STEPS_MAX} are allowed`);
  }
  const author = peerIdFromPublicKey(fields.author);
  const { membership } = run.manifest;
  // Whoever may have been invited is judged by the log, which knows the admissions.
  if (membership.mode === 'allowlist' && !isListed(membership, author))
    throw rejected('not-a-member', `${author} is not on the allowlist`);
  if (!publishesIn(run, author, epoch)) {
    throw rejected(
      'wrong-cohort',
      `${author} is in cohort ${cohortOf(run, author)} of ${run.manifest.schedule.cohorts}, which publishes nothing in ` +
        `epoch ${epoch}`,
    );
  }
  if (!verifySignature(author, signedBytes(header), signature)) {
    throw rejected('bad-signature', `the signature is not that of ${author}`);
  }
  return {
    author,
    epoch,
    baseEpoch,
    steps,
    bodyRoot: copyOf(fields.bodyRoot),
    id: toHex(sha256(header)),
    signed: { header: copyOf(header), signature: copyOf(signature) },
  };
}

/** Who a header says is its author, before anything is checked; null where it says nothing that can be read. */
export function peekAuthor({ header }: wire.SignedHeader): string | null {
  try {
    const { author } = decodeHeader(header);
    return author.length === 32 ? peerIdFromPublicKey(author) : null;
  } catch {
    return null;
  }
}

function decodeHeader(header: Uint8Array): wire.UpdateHeader {
  if (header.length > UPDATE_OVERHEAD_BYTES_MAX) {
    throw rejected('oversize', `a header of ${header.length} bytes`);
  }
  return decodeCanonical(wire.UpdateHeader, header, rejected, 'the header');
}

function signedBytes(header: Uint8Array): Uint8Array {
  return Buffer.concat([SIGNATURE_DOMAIN, header]);
}
