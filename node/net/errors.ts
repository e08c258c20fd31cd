/** What can go wrong between this peer and the network, as types that a caller can tell apart. */

/** Thrown by publish for a message over GOSSIP_BYTES_MAX: nothing was sent. */
export class MessageTooLargeError extends Error {
  override readonly name = 'MessageTooLargeError';

  constructor(
    readonly sizeBytes: number,
    readonly bytesMax: number,
  ) {
    super(`a gossip message of ${sizeBytes} bytes is over the bound of ${bytesMax}`);
  }
}

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

/** Bytes of an introduction that are malformed or beyond a bound. */
export class IntroduceError extends Error {
  override readonly name = 'IntroduceError';
}

/** The message of anything that was thrown, on one line, for use inside a sentence. */
export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return text.replace(/\s+/g, ' ').trim().slice(0, 200);
}
