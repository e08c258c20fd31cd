/** Reading a libp2p stream with a bounded queue: libp2p's own ways of iterating over one queue without bound. */
import type { Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface';
import type { Uint8ArrayList } from 'uint8arraylist';
import { StreamTruncatedError } from './errors.js';

/** Received bytes that wait for the reader before the remote is told to stop, and to go on again. */
const QUEUE_PAUSE_BYTES = 1024 * 1024;
const QUEUE_RESUME_BYTES = 256 * 1024;

/** A chunk of no more is small; as many are put together as fit. */
const SMALL_BYTES = 1024;
const GATHERED_BYTES = 16 * SMALL_BYTES;

/** Small chunks, one after the other. */
class Gathered {
  readonly #bytes = new Uint8Array(GATHERED_BYTES);
  #used = 0;

  get byteLength(): number {
    return this.#used;
  }

  /** False when there is no room for `chunk`. */
  add(chunk: Uint8Array | Uint8ArrayList): boolean {
    if (this.#used + chunk.byteLength > GATHERED_BYTES) return false;
    this.#bytes.set(chunk instanceof Uint8Array ? chunk : chunk.subarray(), this.#used);
    this.#used += chunk.byteLength;
    return true;
  }

  /** A copy: whoever keeps a part of it would keep all of it. */
  bytes(): Uint8Array {
    return this.#bytes.slice(0, this.#used);
  }
}

/** The bytes of a stream, in order; waits in a bounded queue that pauses the remote. */
export class StreamReader implements AsyncIterable<Uint8Array | Uint8ArrayList> {
  readonly #stream: Stream;
  readonly #queue: (Uint8Array | Uint8ArrayList | Gathered)[] = [];
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
        yield chunk instanceof Gathered ? chunk.bytes() : chunk;
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
    this.#enqueue(event.data);
    this.#queuedBytes += event.data.byteLength;
    // A pause inside resume() would be undone by the rest of it; #resumeWhenLow looks again.
    if (!this.#resuming) this.#pauseWhenFull();
    this.#wake();
  }

  /** Small chunks that wait are put together: each would take some 250 bytes, and a window is full of them. */
  #enqueue(chunk: Uint8Array | Uint8ArrayList): void {
    const last = this.#queue.at(-1);
    const isSmall = chunk.byteLength <= SMALL_BYTES;
    if (isSmall && last instanceof Gathered && last.add(chunk)) return;
    if (isSmall && last && !(last instanceof Gathered) && last.byteLength <= SMALL_BYTES) {
      const gathered = new Gathered();
      gathered.add(last);
      gathered.add(chunk);
      this.#queue[this.#queue.length - 1] = gathered;
    } else this.#queue.push(chunk);
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
