/** Reading a libp2p stream with a bounded queue: libp2p's own ways of iterating over one queue without bound. */
import type { Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface';
import type { Uint8ArrayList } from 'uint8arraylist';
import { StreamTruncatedError } from './errors.js';

/** Received bytes that wait for the reader before the remote is told to stop, and to go on again. */
const QUEUE_PAUSE_BYTES = 1024 * 1024;
const QUEUE_RESUME_BYTES = 256 * 1024;

/** The bytes of a stream, in order; waits in a bounded queue that pauses the remote. */
export class StreamReader implements AsyncIterable<Uint8Array | Uint8ArrayList> {
  readonly #stream: Stream;
  readonly #queue: (Uint8Array | Uint8ArrayList)[] = [];
  #queuedBytes = 0;
  #remoteClosed: boolean;
  #resuming = false;
  #ended: boolean;
  #error: Error | null = null;
  #wake: () => void = () => undefined;

  constructor(stream: Stream) {
    this.#stream = stream;
    this.#remoteClosed = stream.status === 'open' && stream.remoteWriteStatus === 'closed';
    this.#ended = stream.readableEnded;
    stream.addEventListener('message', (event) => {
      this.#onMessage(event);
    });
    stream.addEventListener('remoteCloseWrite', () => {
      this.#remoteClosed = true;
    });
    stream.addEventListener('end', () => {
      this.#ended = true;
      this.#wake();
    });
    stream.addEventListener('close', (event) => {
      this.#onClose(event);
    });
    if (stream.status !== 'open' && !this.#remoteClosed) this.fail(new StreamTruncatedError());
  }

  /** Ends the reading with `error`, unless the remote had said that everything was sent. */
  fail(error: Error): void {
    this.#error ??= error;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array | Uint8ArrayList> {
    for (;;) {
      this.#throwIfFailed();
      const chunk = this.#queue.shift();
      if (chunk !== undefined) {
        this.#queuedBytes -= chunk.byteLength;
        this.#resumeWhenLow();
        yield chunk;
      } else if (this.#ended) {
        // An abort ends the reading before it says why.
        await Promise.resolve();
        this.#throwIfFailed();
        if (!this.#remoteClosed) throw new StreamTruncatedError();
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  #throwIfFailed(): void {
    if (this.#error !== null) throw this.#error;
  }

  #onMessage(event: StreamMessageEvent): void {
    this.#queue.push(event.data);
    this.#queuedBytes += event.data.byteLength;
    // A pause inside resume() would be undone by the rest of it; #resumeWhenLow looks again.
    if (!this.#resuming) this.#pauseWhenFull();
    this.#wake();
  }

  #onClose(event: StreamCloseEvent): void {
    if (event.error !== undefined) this.fail(event.error);
    else if (!this.#remoteClosed) this.fail(new StreamTruncatedError());
  }

  #pauseWhenFull(): void {
    const full = this.#queuedBytes > QUEUE_PAUSE_BYTES;
    if (full && this.#stream.readStatus === 'readable') this.#stream.pause();
  }

  #resumeWhenLow(): void {
    if (this.#queuedBytes > QUEUE_RESUME_BYTES || this.#stream.readStatus !== 'paused') return;
    this.#resuming = true;
    try {
      this.#stream.resume();
    } catch {
      // The data came out before the window update failed on a connection that is gone.
      this.#wake();
    } finally {
      this.#resuming = false;
    }
    this.#pauseWhenFull();
  }
}
