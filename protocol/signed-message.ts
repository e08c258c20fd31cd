/** Messages whose signature and id are those of their bytes: only the canonical encoding is read, so that one message has one. */
import { bytesEqual } from './bytes.js';
import { messageOf, UpdateRejectedError, type RejectionCode } from './errors.js';

/** Makes the error for a message whose sender deserves blame. */
export type Rejection = (
  code: RejectionCode,
  detail: string,
  options?: ErrorOptions,
) => UpdateRejectedError;

/** The rejections of one kind of message, e.g. "update". */
export function rejectionOf(kind: string): Rejection {
  return (code, detail, options) =>
    new UpdateRejectedError(code, 'reject', `${kind} rejected (${code}): ${detail}`, options);
}

/** One message of the wire format. */
export interface Codec<T> {
  decode: (bytes: Uint8Array) => T;
  encode: (message: T) => Uint8Array;
}

/** @throws what `rejected` makes of it, with `subject` for what it is, unless `bytes` are a message in canonical form. */
export function decodeCanonical<T>(
  codec: Codec<T>,
  bytes: Uint8Array,
  rejected: Rejection,
  subject = 'it',
): T {
  let message: T;
  try {
    message = codec.decode(bytes);
  } catch (cause) {
    throw rejected('malformed', `${subject} is not valid: ${messageOf(cause)}`, { cause });
  }
  if (!bytesEqual(codec.encode(message), bytes)) {
    throw rejected('malformed', `${subject} is not in canonical form`);
  }
  return message;
}
