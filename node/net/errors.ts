/** What can go wrong between this peer and the network, as types that a caller can tell apart. */
import type { Refusal } from '../../protocol/admission.js';
import { NotAMemberError } from '../../protocol/errors.js';
import { PROTOCOL_VERSION } from '../../protocol/ids.js';
import type { Manifest } from '../../protocol/manifest.js';

/** Thrown by FrameStream.send for a frame over the stream's bound: nothing was sent. */
export class FrameTooLargeError extends Error {
  override readonly name = 'FrameTooLargeError';

  constructor(
    readonly sizeBytes: number,
    readonly bytesMax: number,
  ) {
    super(`a frame of ${sizeBytes} bytes is over the bound of ${bytesMax}`);
  }
}

/** A peer or address that could not be dialled, or that does not speak the protocol. */
export class UnreachableError extends Error {
  override readonly name = 'UnreachableError';
}

/** A peer that speaks newer major versions of the protocol alone. */
export class NewerProtocolError extends Error {
  override readonly name = 'NewerProtocolError';

  constructor(readonly version: number) {
    super(
      `it speaks protocol ${version}, this program ${PROTOCOL_VERSION}: install a newer murmurate`,
    );
  }
}

/** The connection ended before the remote said that no more data follow: what came is not all. */
export class StreamTruncatedError extends Error {
  override readonly name = 'StreamTruncatedError';

  constructor() {
    super('the connection ended in the middle of a stream');
  }
}

/** A stream was open for longer than it may be. */
export class StreamDeadlineError extends Error {
  override readonly name = 'StreamDeadlineError';

  constructor(readonly timeoutMs: number) {
    super(`the stream was not done after ${timeoutMs} ms`);
  }
}

/** A stream was refused because too many are open. */
export class StreamBusyError extends Error {
  override readonly name = 'StreamBusyError';
}

/** The transport was stopped, or never started. */
export class TransportStoppedError extends Error {
  override readonly name = 'TransportStoppedError';

  constructor() {
    super('the transport is not running');
  }
}

/** `peerId` is not let into its run, and says why in a code. */
export class NotAdmittedError extends Error {
  override readonly name = 'NotAdmittedError';

  constructor(
    readonly refusal: Refusal,
    manifest: Manifest,
    peerId: string,
  ) {
    super(
      refusal === 'not-a-member'
        ? new NotAMemberError(manifest, peerId).message
        : `${REFUSAL_SENTENCES[refusal]}; ask the founder ${manifest.founder} for another`,
    );
  }
}

const REFUSAL_SENTENCES: Readonly<Record<Exclude<Refusal, 'not-a-member'>, string>> = {
  'bad-admission': 'the invite is not valid for this run',
  expired: 'the invite has expired',
  used: 'another peer has used this invite already',
};

/** Bytes of an introduction that are malformed or beyond a bound. */
export class IntroduceError extends Error {
  override readonly name = 'IntroduceError';
}

/** A reach check that is malformed, or that cannot be made. */
export class ReachError extends Error {
  override readonly name = 'ReachError';
}

/** The longest reason in a sentence, in characters. */
const REASON_LENGTH_MAX = 200;

/** The system's and libp2p's names of what happens when a peer is away, in words. */
const REASONS: readonly (readonly [RegExp, string])[] = [
  [/ECONNREFUSED/, 'connection refused'],
  [/EHOSTUNREACH|ENETUNREACH/, 'no route to it'],
  [/ENOTFOUND|EAI_AGAIN/, 'its name cannot be resolved'],
  [
    /ECONNRESET|EPIPE|StreamReset|stream has been reset|stream that is closed/,
    'it cut the connection',
  ],
  [/TimeoutError|ETIMEDOUT|timed out|aborted due to timeout/, 'no answer in time'],
  [/UnexpectedPeer|does not match expected/i, 'another peer answers there'],
  [/UnsupportedProtocol|Protocol selection failed/i, 'it does not speak this protocol'],
];

/** Why something failed, in a few words on one line, for use inside a sentence. */
export function reasonOf(error: unknown): string {
  // A dial to several addresses fails with one error for each.
  const errors: unknown[] = error instanceof AggregateError ? error.errors : [error];
  const first = errors.find((each) => each instanceof Error) ?? error;
  // A sentence of ours, which says whom to ask at its end.
  if (first instanceof NotAdmittedError) return first.message;
  const text = first instanceof Error ? `${first.name}: ${first.message}` : String(first);
  const known = REASONS.find(([pattern]) => pattern.test(text));
  if (known !== undefined) return known[1];
  const message = first instanceof Error ? first.message || first.name : text;
  return message.replace(/\s+/g, ' ').trim().slice(0, REASON_LENGTH_MAX);
}
