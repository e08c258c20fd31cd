/** What can go wrong with bytes that another peer sent, and what to do about the sender. */
import type { Manifest } from './manifest.js';

/**
 * What a receiver does with a message: use it and pass it on, drop it silently, drop it and hold
 * it against the sender, or look at it again later.
 */
export type Verdict = 'accept' | 'ignore' | 'reject' | 'defer';

/** Every reason for not using an update, as it appears in `status`. */
export type RejectionCode =
  | 'malformed'
  | 'oversize'
  | 'wrong-version'
  | 'wrong-run'
  | 'not-a-member'
  | 'wrong-cohort'
  | 'bad-signature'
  | 'wrong-length'
  | 'bad-scale'
  | 'bad-steps'
  | 'bad-epoch'
  | 'future-epoch'
  | 'sealed'
  | 'no-quorum'
  | 'past-end'
  | 'unknown-kind'
  | 'wrong-blob'
  | 'evicted'
  | 'equivocation'
  | 'capacity';

/** Thrown when an update from the network cannot be used. `verdict` says what its sender deserves. */
export class UpdateRejectedError extends Error {
  override readonly name = 'UpdateRejectedError';

  constructor(
    readonly code: RejectionCode,
    readonly verdict: Exclude<Verdict, 'accept'>,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/**
 * Thrown when bytes break a rule of the wire format, or a field is beyond its bound. The message names fields and
 * numbers only, never what the sender wrote.
 */
export class WireFormatError extends Error {
  override readonly name = 'WireFormatError';
}

/** What an error says, for the error that is thrown in its place. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Thrown when bytes that should hold a manifest do not, or hold one that no peer may run. */
export class InvalidManifestError extends Error {
  override readonly name = 'InvalidManifestError';
}

/** Thrown when bytes that should hold the catalogue of a base model's files do not. The message goes on from "the catalogue: ". */
export class InvalidModelFilesError extends Error {
  override readonly name = 'InvalidModelFilesError';
}

/** Thrown when bytes that should be the contents of a seal are not. */
export class SealContentsError extends Error {
  override readonly name = 'SealContentsError';

  constructor(detail: string, options?: ErrorOptions) {
    super(`invalid contents of a seal: ${detail}`, options);
  }
}

/** Thrown when a sync frame is malformed, out of turn or beyond a bound; the session ends. */
export class SyncProtocolError extends Error {
  override readonly name = 'SyncProtocolError';
}

/**
 * Thrown when what came over a blob stream is malformed, out of turn, beyond a bound or not what the root
 * names. The connection proves who sent it, so the sender can be held to account.
 */
export class BlobProtocolError extends Error {
  override readonly name = 'BlobProtocolError';
}

/** Thrown when text or bytes are not an Ed25519 peer id. */
export class InvalidPeerIdError extends Error {
  override readonly name = 'InvalidPeerIdError';
}

/** Thrown when text is not an invite. Its message never quotes the text, which is a secret. */
export class InvalidInviteError extends Error {
  override readonly name = 'InvalidInviteError';
}

/** Thrown when `peerId` wants to take part in a run that has not admitted it. */
export class NotAMemberError extends Error {
  override readonly name = 'NotAMemberError';

  constructor({ name, founder, membership }: Manifest, peerId: string) {
    const isInvite = membership.mode === 'invite';
    super(
      `the run "${name}" admits the peers that it lists${isInvite ? ' or invites' : ''} only, and this one is not ` +
        `among them; ask its founder ${founder} for ` +
        (isInvite ? 'an invite' : `a run with --allow ${peerId}`),
    );
  }
}
