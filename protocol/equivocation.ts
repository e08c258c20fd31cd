/**
 * Proofs that an author signed two different things for one slot: two updates for one epoch, or two seals for one.
 * They evict it from that epoch on; what it sent before stays.
 */
import { UpdateRejectedError } from './errors.js';
import type { Run } from './manifest.js';
import { checkSeal, type Seal } from './seal.js';
import { checkHeader, type UpdateHeader } from './update.js';
import type * as wire from './wire/messages.js';

/** The two, in ascending order of id. */
export type EquivocationProof = { author: string; epoch: number } & (
  | { kind: 'update'; first: UpdateHeader; second: UpdateHeader }
  | { kind: 'seal'; first: Seal; second: Seal }
);

/** Orders the two headers, so that the proof is the same whichever came first. */
export function equivocationProof(a: UpdateHeader, b: UpdateHeader): EquivocationProof {
  const [first, second] = a.id < b.id ? [a, b] : [b, a];
  return { kind: 'update', author: a.author, epoch: a.epoch, first, second };
}

/** As equivocationProof, for two seals of one member. */
export function sealEquivocationProof(a: Seal, b: Seal): EquivocationProof {
  const [first, second] = a.statement.id < b.statement.id ? [a, b] : [b, a];
  return { kind: 'seal', author: a.member, epoch: a.statement.epoch, first, second };
}

/** @throws UpdateRejectedError unless both headers are valid, of one author and epoch, and different. */
export function checkEquivocation(run: Run, message: wire.Equivocation): EquivocationProof {
  if (!message.first || !message.second) throw invalid('it has one header');
  const first = checkHeader(run, message.first);
  const second = checkHeader(run, message.second);
  const proves = first.author === second.author && first.epoch === second.epoch;
  if (!proves || first.id === second.id) throw invalid('its headers contradict nothing');
  return equivocationProof(first, second);
}

/** @throws UpdateRejectedError unless both seals are valid, of one member and epoch, and different. */
export function checkSealEquivocation(run: Run, message: wire.SealEquivocation): EquivocationProof {
  if (!message.first || !message.second) throw invalid('it has one seal');
  const first = checkSeal(run, message.first);
  const second = checkSeal(run, message.second);
  const proves = first.member === second.member && first.statement.epoch === second.statement.epoch;
  if (!proves || first.statement.id === second.statement.id) {
    throw invalid('its seals contradict nothing');
  }
  return sealEquivocationProof(first, second);
}

function invalid(detail: string): UpdateRejectedError {
  return new UpdateRejectedError('malformed', 'reject', `proof rejected: ${detail}`);
}
