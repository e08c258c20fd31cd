/**
 * Seals: members sign what they hold of all epochs before a multiple of `fold.sealEvery`. Seals for one statement
 * from members with more than two thirds of the weight are a certificate; with one, later updates for those epochs
 * are refused and their bodies may be dropped. Without one everything is kept (docs/PROTOCOL.md, "Seals").
 */
import { blobRoot, type BlobName } from './blob.js';
import { copyOf, fromHex, littleEndian, sha256, toHex } from './bytes.js';
import { PROTOCOL_VERSION } from './ids.js';
import { peerIdFromPublicKey, publicKeyFromPeerId, verifySignature } from './identity.js';
import { UpdateRejectedError } from './errors.js';
import {
  AUTHORS_MAX,
  BLOB_CHUNK_BYTES,
  EPOCHS_MAX,
  SEAL_CONTENTS_BYTES_MAX,
  SEAL_STATEMENT_BYTES_MAX,
} from './limits.js';
import type { Run } from './manifest.js';
import type { Members } from './members.js';
import { decodeCanonical, rejectionOf } from './signed-message.js';
import type { Signer } from './update.js';
import * as wire from './wire/messages.js';

export interface SealStatement {
  /** SHA-256 of `bytes`, 64 hex digits. */
  id: string;
  /** The canonical encoding. */
  bytes: Uint8Array<ArrayBuffer>;
  /** All updates of earlier epochs are meant; a multiple of fold.sealEvery. */
  epoch: number;
  /** Id of the statement of the certificate before it; null for the first. */
  previous: string | null;
  /** The blob that the contents are (protocol/seal-contents.ts). */
  contents: BlobName;
  /** Root of the blob that the fold's sum before `epoch` is, as little-endian float64; 64 hex digits. */
  sum: string;
  /** Number of updates before `epoch`. */
  updates: number;
}

/** One member's signature under a statement. */
export interface Seal {
  statement: SealStatement;
  /** Peer id. */
  member: string;
  signed: wire.SignedSeal;
}

export interface SealCertificate {
  statement: SealStatement;
  wire: wire.SealCertificate;
}

/** Prefix of the signed bytes, so that a signature made for this cannot serve for anything else. */
const SIGNATURE_DOMAIN = new TextEncoder().encode('murmurate/seal/1\n');

const rejected = rejectionOf('seal');

/**
 * The newest epoch for which members sign when the clock shows `epochNow`: a multiple of fold.sealEvery that lies
 * fold.sealAfter epochs back; 0 before the first. After the end of the run one seal covers all of it.
 */
export function sealDue({ manifest }: Run, epochNow: number, epochsMax: number): number {
  const { sealEvery, sealAfter } = manifest.fold;
  if (sealEvery === 0) return 0;
  const last = Math.ceil(epochsMax / sealEvery) * sealEvery;
  return Math.max(0, Math.min(last, Math.floor((epochNow - sealAfter) / sealEvery) * sealEvery));
}

/** The first epoch of the clock in which the seal of `epoch` is due. */
export function sealDueFrom({ manifest }: Run, epoch: number): number {
  return epoch + manifest.fold.sealAfter;
}

/** A sum as a blob: its root, and SHA-256 of each chunk. */
export interface SumHashes {
  root: string;
  hashes: Uint8Array<ArrayBuffer>;
}

/** In pieces of one chunk, each of which gives its number of coordinates. */
export function* hashSumSteps(sum: Float64Array): Generator<number, SumHashes> {
  const length = BLOB_CHUNK_BYTES / Float64Array.BYTES_PER_ELEMENT;
  const hashes: Uint8Array[] = [];
  for (let start = 0; start < sum.length; start += length) {
    const chunk = sum.subarray(start, start + length);
    hashes.push(sha256(littleEndian(chunk)));
    yield chunk.length;
  }
  const all = Uint8Array.from(Buffer.concat(hashes));
  return { root: toHex(blobRoot(all)), hashes: all };
}

export function encodeStatement(
  run: Run,
  fields: Omit<SealStatement, 'id' | 'bytes'>,
): SealStatement {
  const bytes = wire.SealStatement.encode({
    version: PROTOCOL_VERSION,
    runId: fromHex(run.id),
    epoch: fields.epoch,
    previous: fromHex(fields.previous ?? ''),
    contentsRoot: fromHex(fields.contents.root),
    contentsBytes: fields.contents.size,
    sumRoot: fromHex(fields.sum),
    updates: fields.updates,
  });
  return { ...fields, id: toHex(sha256(bytes)), bytes: copyOf(bytes) };
}

export function createSeal(statement: SealStatement, signer: Signer): Seal {
  const signature = Uint8Array.from(signer.sign(signedBytes(statement.bytes)));
  const member = publicKeyFromPeerId(signer.peerId);
  return {
    statement,
    member: signer.peerId,
    signed: { statement: statement.bytes, member, signature },
  };
}

/** @throws UpdateRejectedError unless this is a well-formed seal of `run` with its member's signature. */
export function checkSeal(run: Run, { statement, member, signature }: wire.SignedSeal): Seal {
  const checked = checkStatement(run, statement);
  if (member.length !== 32 || signature.length !== 64) {
    throw rejected('malformed', 'a member key has 32 bytes and a signature 64');
  }
  const peerId = peerIdFromPublicKey(member);
  if (!verifySignature(peerId, signedBytes(checked.bytes), signature)) {
    throw rejected('bad-signature', `the signature is not that of ${peerId}`);
  }
  const signed = {
    statement: checked.bytes,
    member: copyOf(member),
    signature: copyOf(signature),
  };
  return { statement: checked, member: peerId, signed };
}

/** A certificate out of seals for one statement; whether they suffice is hasQuorum's to say. */
export function assembleCertificate(seals: readonly [Seal, ...Seal[]]): SealCertificate {
  const [{ statement }] = seals;
  const signatures = seals
    .toSorted((a, b) => (a.member < b.member ? -1 : 1))
    .map(({ signed }) => ({ member: copyOf(signed.member), signature: copyOf(signed.signature) }));
  return { statement, wire: { statement: statement.bytes, signatures } };
}

/**
 * @throws UpdateRejectedError unless members of `members` with more than two thirds of the weight have signed the
 * statement. The first signature that is not valid ends the check, so a forgery costs one verification.
 */
export function checkCertificate(
  run: Run,
  members: Members,
  message: wire.SealCertificate,
): SealCertificate {
  const statement = checkStatement(run, message.statement);
  const voters = members.voters(statement.epoch);
  const signers = new Set<string>();
  const signatures: wire.SealSignature[] = [];
  for (const { member, signature } of message.signatures) {
    if (member.length !== 32 || signature.length !== 64) {
      throw rejected('malformed', 'a member key has 32 bytes and a signature 64');
    }
    const peerId = peerIdFromPublicKey(member);
    // Signatures of others cost nothing, count nothing and are not passed on.
    if (!voters.has(peerId)) continue;
    if (signers.has(peerId)) throw rejected('malformed', `${peerId} signed a certificate twice`);
    signers.add(peerId);
    signatures.push({ member: copyOf(member), signature: copyOf(signature) });
  }
  if (!hasQuorum(voters, signers)) {
    // Not its sender's fault: this peer may know of members that the signers did not know of.
    throw new UpdateRejectedError(
      'no-quorum',
      'ignore',
      `a certificate of epoch ${statement.epoch} without two thirds of the weight`,
    );
  }
  for (const { member, signature } of signatures) {
    const peerId = peerIdFromPublicKey(member);
    if (!verifySignature(peerId, signedBytes(statement.bytes), signature)) {
      throw rejected('bad-signature', `a certificate holds a signature that is not ${peerId}'s`);
    }
  }
  return { statement, wire: { statement: statement.bytes, signatures } };
}

/** A certificate that was checked when it came. @throws UpdateRejectedError when it is not one of `run`. */
export function decodeCertificate(run: Run, bytes: Uint8Array): SealCertificate {
  const message = decodeCanonical(wire.SealCertificate, bytes, rejected, 'the certificate');
  const signatures = message.signatures.map(({ member, signature }) => ({
    member: copyOf(member),
    signature: copyOf(signature),
  }));
  const statement = checkStatement(run, message.statement);
  return { statement, wire: { statement: statement.bytes, signatures } };
}

/** Whether `signers` hold more than two thirds of the weight of all `voters`; others count nothing. */
export function hasQuorum(voters: ReadonlyMap<string, number>, signers: Iterable<string>): boolean {
  let total = 0;
  for (const weight of voters.values()) total += weight;
  let signed = 0;
  for (const signer of signers) signed += voters.get(signer) ?? 0;
  return 3 * signed > 2 * total;
}

/** @throws UpdateRejectedError */
function checkStatement(run: Run, bytes: Uint8Array): SealStatement {
  const { sealEvery } = run.manifest.fold;
  if (sealEvery === 0) throw rejected('malformed', 'this run seals nothing');
  if (bytes.length > SEAL_STATEMENT_BYTES_MAX) {
    throw rejected('oversize', `a statement of ${bytes.length} bytes`);
  }
  const fields = decodeCanonical(wire.SealStatement, bytes, rejected, 'the statement');
  const { version, runId, epoch, previous, contentsRoot, contentsBytes, sumRoot, updates } = fields;
  if (version !== PROTOCOL_VERSION) throw rejected('wrong-version', `version ${version}`);
  if (toHex(runId) !== run.id) throw rejected('wrong-run', 'the seal belongs to another run');
  if (epoch < 1 || epoch % sealEvery !== 0 || epoch >= EPOCHS_MAX + sealEvery) {
    throw rejected('bad-epoch', `epoch ${epoch}; seals are for multiples of ${sealEvery}`);
  }
  const areHashes = [contentsRoot, sumRoot].every(({ length }) => length === 32);
  if (!areHashes || (previous.length !== 0 && previous.length !== 32)) {
    throw rejected('malformed', 'the hashes of a seal have 32 bytes');
  }
  if (contentsBytes > SEAL_CONTENTS_BYTES_MAX || updates > epoch * AUTHORS_MAX) {
    throw rejected('malformed', `contents of ${contentsBytes} bytes, ${updates} updates`);
  }
  return {
    ...{ id: toHex(sha256(bytes)), bytes: copyOf(bytes), epoch, updates },
    previous: previous.length === 0 ? null : toHex(previous),
    contents: { root: toHex(contentsRoot), size: contentsBytes },
    sum: toHex(sumRoot),
  };
}

function signedBytes(statement: Uint8Array): Uint8Array {
  return Buffer.concat([SIGNATURE_DOMAIN, statement]);
}
