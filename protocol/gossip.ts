/**
 * One gossip message, which is also one record of the log on disk: an update, an announcement, a proof, an
 * amendment, an admission or a seal.
 */
import { checkAdmission, type Admission } from './admission.js';
import { checkAmendment, type Amendment } from './amendment.js';
import { bytesEqual, sha256, toHex, viewOf } from './bytes.js';
import {
  checkEquivocation,
  checkSealEquivocation,
  type EquivocationProof,
} from './equivocation.js';
import { messageOf, UpdateRejectedError } from './errors.js';
import { GOSSIP_BYTES_MAX, UPDATE_BYTES_MAX, UPDATE_INLINE_BYTES_MAX } from './limits.js';
import type { UpdateLog } from './log.js';
import type { Run } from './manifest.js';
import type { Quantised } from './quantise.js';
import { checkSeal, type Seal } from './seal.js';
import type { RowFormats } from './row-format.js';
import {
  checkHeader,
  checkUpdate,
  UPDATE_OVERHEAD_BYTES_MAX,
  updateToWire,
  type Update,
  type UpdateHeader,
} from './update.js';
import * as wire from './wire/messages.js';

export type GossipMessage =
  /** The log of `decodeGossip` holds these very bytes, which were checked when they came first. */
  | { kind: 'held' }
  | { kind: 'update'; update: Update }
  | { kind: 'announcement'; header: UpdateHeader }
  | { kind: 'equivocation'; proof: EquivocationProof }
  | { kind: 'amendment'; amendment: Amendment }
  | { kind: 'admission'; admission: Admission }
  | { kind: 'seal'; seal: Seal };

export function encodeUpdateMessage(update: Update): Uint8Array {
  return wire.Gossip.encode({ update: updateToWire(update) });
}

export function encodeAnnouncement(update: UpdateHeader): Uint8Array {
  return wire.Gossip.encode({ announcement: update.signed });
}

export function encodeEquivocation(proof: EquivocationProof): Uint8Array {
  return wire.Gossip.encode(equivocationToWire(proof));
}

export function encodeSeal({ signed }: Seal): Uint8Array {
  return wire.Gossip.encode({ seal: signed });
}

export function encodeAmendment({ signed }: Amendment): Uint8Array {
  return wire.Gossip.encode({ amendment: signed });
}

export function encodeAdmission({ signed }: Admission): Uint8Array {
  return wire.Gossip.encode({ admission: signed });
}

/** A proof as a field of a gossip message or of a sync frame. */
export function equivocationToWire(
  proof: EquivocationProof,
): Pick<wire.Gossip, 'equivocation' | 'sealEquivocation'> {
  if (proof.kind === 'update')
    return { equivocation: { first: proof.first.signed, second: proof.second.signed } };
  return { sealEquivocation: { first: proof.first.signed, second: proof.second.signed } };
}

/** Whether an update travels inside of gossip; a larger one is announced there. */
export function isInline({ scales, codes }: Pick<Update, 'scales' | 'codes'>): boolean {
  return scales.length + codes.length + UPDATE_OVERHEAD_BYTES_MAX <= UPDATE_INLINE_BYTES_MAX;
}

/**
 * Decodes and checks bytes from gossip (or, with source 'disk', a record of the log).
 * With `log`, what it holds is not checked again.
 * @throws UpdateRejectedError for anything that is not a valid message of this run.
 */
export function decodeGossip(
  run: Run,
  formats: RowFormats,
  bytes: Uint8Array,
  source: 'gossip' | 'disk' = 'gossip',
  log?: UpdateLog,
): GossipMessage {
  const bytesMax = source === 'gossip' ? GOSSIP_BYTES_MAX : UPDATE_BYTES_MAX;
  if (bytes.length > bytesMax) {
    throw new UpdateRejectedError(
      'oversize',
      'reject',
      `a message of ${bytes.length} bytes; the limit is ${bytesMax}`,
    );
  }
  let message: wire.Gossip;
  try {
    message = wire.Gossip.decode(bytes);
  } catch (cause) {
    throw malformed(messageOf(cause), { cause });
  }
  const { update, announcement, equivocation, amendment, admission, seal } = message;
  const kinds = Object.keys(message).length;
  if (kinds > 1) throw malformed(`${kinds} kinds in one message`);
  const signed = update ?? announcement;
  if (log && signed && isHeld(log, signed)) return { kind: 'held' };
  if (log && admission && isHeldAdmission(log, admission)) return { kind: 'held' };
  if (update) return { kind: 'update', update: checkUpdate(run, formats, update) };
  if (announcement) return { kind: 'announcement', header: checkHeader(run, announcement) };
  if (equivocation) return { kind: 'equivocation', proof: checkEquivocation(run, equivocation) };
  if (message.sealEquivocation) {
    const proof = checkSealEquivocation(run, message.sealEquivocation);
    return { kind: 'equivocation', proof };
  }
  if (seal) return { kind: 'seal', seal: checkSeal(run, seal) };
  if (amendment) return { kind: 'amendment', amendment: checkAmendment(run, amendment) };
  if (admission) return { kind: 'admission', admission: checkAdmission(run, admission) };
  if (bytes.length === 0) throw malformed('an empty message');
  // What a newer minor version may send; nobody is blamed for passing it on.
  throw new UpdateRejectedError('unknown-kind', 'ignore', 'a kind that this version does not know');
}

/**
 * Whether `log` holds the update with this signed header: a tenth of the cost of checking the signature and hashing
 * the body again. What comes with it as its body is not looked at, nor used.
 */
export function isHeld(log: UpdateLog, message: wire.SignedHeader): boolean {
  const held = log.withId(toHex(sha256(message.header)));
  return held !== undefined && bytesEqual(held.signed.signature, message.signature);
}

/** Whether `log` holds this admission, so that its three signatures need not be checked again. */
export function isHeldAdmission(log: UpdateLog, { admission }: wire.SignedAdmission): boolean {
  return log.members.holds(toHex(sha256(admission)));
}

function malformed(detail: string, options?: ErrorOptions): UpdateRejectedError {
  return new UpdateRejectedError('malformed', 'reject', `malformed message: ${detail}`, options);
}

/**
 * The body of the update `id` out of a record that was checked when it was written.
 * @throws UpdateRejectedError (malformed) when the record holds something else.
 */
export function decodeRecordBody(record: Uint8Array, id: string): Quantised {
  const { update } = wire.Gossip.decode(record);
  if (!update || toHex(sha256(update.header)) !== id) throw malformed(`not the update ${id}`);
  const { scales, codes } = update;
  // Decoded fields are views on the record.
  return { scales: viewOf(scales), codes: viewOf(codes) };
}
