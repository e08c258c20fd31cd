/**
 * One gossip message, which is also one record of the log on disk: an update, an announcement, a proof, an
 * amendment or an admission.
 */
import { checkAdmission, type Admission } from './admission.js';
import { checkAmendment, type Amendment } from './amendment.js';
import { bytesEqual, sha256, toHex } from './bytes.js';
import { messageOf, UpdateRejectedError } from './errors.js';
import { GOSSIP_BYTES_MAX, UPDATE_BYTES_MAX, UPDATE_INLINE_BYTES_MAX } from './limits.js';
import { equivocationProof, type EquivocationProof, type UpdateLog } from './log.js';
import type { Run } from './manifest.js';
import type { Slicer } from './slice.js';
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
  | { kind: 'admission'; admission: Admission };

export function encodeUpdateMessage(update: Update): Uint8Array {
  return wire.Gossip.encode({ update: updateToWire(update) });
}

export function encodeAnnouncement(update: UpdateHeader): Uint8Array {
  return wire.Gossip.encode({ announcement: update.signed });
}

export function encodeEquivocation(proof: EquivocationProof): Uint8Array {
  return wire.Gossip.encode({ equivocation: equivocationToWire(proof) });
}

export function encodeAmendment({ signed }: Amendment): Uint8Array {
  return wire.Gossip.encode({ amendment: signed });
}

export function encodeAdmission({ signed }: Admission): Uint8Array {
  return wire.Gossip.encode({ admission: signed });
}

export function equivocationToWire(proof: EquivocationProof): wire.Equivocation {
  return { first: proof.first.signed, second: proof.second.signed };
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
  slicer: Slicer,
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
  const { update, announcement, equivocation, amendment, admission } = message;
  const kinds = Object.keys(message).length;
  if (kinds > 1) throw malformed(`${kinds} kinds in one message`);
  const signed = update ?? announcement;
  if (log && signed && isHeld(log, signed)) return { kind: 'held' };
  if (log && admission && isHeldAdmission(log, admission)) return { kind: 'held' };
  if (update) return { kind: 'update', update: checkUpdate(run, slicer, update) };
  if (announcement) return { kind: 'announcement', header: checkHeader(run, announcement) };
  if (equivocation) return { kind: 'equivocation', proof: checkEquivocation(run, equivocation) };
  if (amendment) return { kind: 'amendment', amendment: checkAmendment(run, amendment) };
  if (admission) return { kind: 'admission', admission: checkAdmission(run, admission) };
  if (bytes.length === 0) throw malformed('an empty message');
  // What a newer minor version may send; nobody is blamed for passing it on.
  throw new UpdateRejectedError('unknown-kind', 'ignore', 'a kind that this version does not know');
}

/**
 * Whether `log` holds exactly this update (or, without a body, header and signature): a tenth of the cost
 * of checking the signature and hashing the body again. A copy with one changed byte is not held.
 */
export function isHeld(log: UpdateLog, message: wire.SignedHeader | wire.Update): boolean {
  const held = log.withId(toHex(sha256(message.header)));
  if (held === undefined || !bytesEqual(held.signed.signature, message.signature)) return false;
  if (!('codes' in message)) return true;
  return bytesEqual(held.scales, message.scales) && bytesEqual(held.codes, message.codes);
}

/** Whether `log` holds this admission, so that its three signatures need not be checked again. */
export function isHeldAdmission(log: UpdateLog, { admission }: wire.SignedAdmission): boolean {
  return log.members.holds(toHex(sha256(admission)));
}

/** @throws UpdateRejectedError unless both headers are valid, of one author and epoch, and different. */
export function checkEquivocation(run: Run, message: wire.Equivocation): EquivocationProof {
  if (!message.first || !message.second) throw malformed('a proof with one header');
  const first = checkHeader(run, message.first);
  const second = checkHeader(run, message.second);
  const proves = first.author === second.author && first.epoch === second.epoch;
  if (!proves || first.id === second.id) throw malformed('a proof that proves nothing');
  return equivocationProof(first, second);
}

function malformed(detail: string, options?: ErrorOptions): UpdateRejectedError {
  return new UpdateRejectedError('malformed', 'reject', `malformed message: ${detail}`, options);
}
