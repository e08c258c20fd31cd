/** Opening a stream to a member, and cutting one whose time is over. */
import type { Clock, FrameStream, StreamKind, Transport } from '../interfaces.js';

/** Opening a stream to a connected peer takes round trips, not longer; a peer that is silent gives it up. */
const OPEN_TIMEOUT_MS = 10_000;

/** Thrown into a stream that was given up here, with the reason. */
export class StreamGivenUpError extends Error {
  override readonly name = 'StreamGivenUpError';
}

export interface StreamOpener {
  transport: Pick<Transport, 'open'>;
  clock: Clock;
}

/** A stream, or a rejection after OPEN_TIMEOUT_MS at the latest; one that opens later is dropped. */
export async function openStream(
  { transport, clock }: StreamOpener,
  kind: StreamKind,
  peerId: string,
  signal: AbortSignal,
): Promise<FrameStream> {
  const timeout = new AbortController();
  const onStop = (): void => timeout.abort(signal.reason);
  signal.addEventListener('abort', onStop, { once: true });
  if (signal.aborted) onStop();
  const isOpen = new AbortController();
  const deadline = clock.sleep(OPEN_TIMEOUT_MS, isOpen.signal).then(
    () => timeout.abort(new StreamGivenUpError('opening the stream took too long')),
    () => undefined,
  );
  try {
    return await transport.open(kind, peerId, timeout.signal);
  } finally {
    signal.removeEventListener('abort', onStop);
    isOpen.abort();
    await deadline;
  }
}

/**
 * Aborts the stream after `timeoutMs`, or when `signal` aborts. Call the result when the stream is over: it
 * resolves once nothing waits any more.
 */
export function cutAfter(
  stream: FrameStream,
  timeoutMs: number,
  clock: Clock,
  signal: AbortSignal,
): () => Promise<void> {
  const ended = new AbortController();
  const onStop = (): void => ended.abort(signal.reason);
  signal.addEventListener('abort', onStop, { once: true });
  if (signal.aborted) onStop();
  let isOver = false;
  const waiting = clock
    .sleep(timeoutMs, ended.signal)
    .catch(() => undefined)
    .then(() => {
      if (!isOver) stream.abort(new StreamGivenUpError(`the stream was open for ${timeoutMs} ms`));
    });
  return async () => {
    isOver = true;
    signal.removeEventListener('abort', onStop);
    ended.abort();
    await waiting;
  };
}
