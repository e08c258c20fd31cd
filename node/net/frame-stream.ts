/**
 * A libp2p stream as a FrameStream: length-prefixed frames through it-pipe, with backpressure both ways.
 * libp2p's own bridge (messageStreamToDuplex) queues without bound and ends quietly when a connection
 * breaks; this one pauses the stream, and tells a finished remote from a lost one.
 */
import type { Stream } from '@libp2p/interface';
import * as lengthPrefixed from 'it-length-prefixed';
import { pipe } from 'it-pipe';
import type { FrameStream } from '../interfaces.js';
import { FrameTooLargeError, StreamDeadlineError, StreamTruncatedError } from './errors.js';
import { FrameReader } from './frame-reader.js';
import { StreamReader } from './stream-reader.js';

export interface FrameStreamLimits {
  /** Bytes of one frame, in either direction. */
  frameBytesMax: number;
  /** The stream is reset when it is not done after this long, in ms. */
  timeoutMs: number;
}

export class NetFrameStream implements FrameStream {
  readonly frames: AsyncIterable<Uint8Array>;
  /** Resolves when the stream is closed at both ends, reset or lost. Never rejects. */
  readonly done: Promise<void>;
  readonly #stream: Stream;
  readonly #limits: FrameStreamLimits;
  readonly #reader: StreamReader;
  /** Sends run one after the other, so that frames never interleave. */
  #sending: Promise<void> = Promise.resolve();

  constructor(stream: Stream, limits: FrameStreamLimits) {
    this.#stream = stream;
    this.#limits = limits;
    this.#reader = new StreamReader(stream);
    this.frames = this.#deliver();
    const deadline = setTimeout(() => {
      this.abort(new StreamDeadlineError(limits.timeoutMs));
    }, limits.timeoutMs);
    this.done = closed(stream).then(() => {
      clearTimeout(deadline);
    });
  }

  async send(frame: Uint8Array): Promise<void> {
    const { frameBytesMax } = this.#limits;
    if (frame.length > frameBytesMax) throw new FrameTooLargeError(frame.length, frameBytesMax);
    const sent = this.#sending.then(() =>
      pipe(
        [frame],
        (frames) => lengthPrefixed.encode(frames),
        (chunks) => this.#write(chunks),
      ),
    );
    // The caller sees this failure; the next send fails by itself.
    this.#sending = sent.catch(() => undefined);
    await sent;
  }

  async close(): Promise<void> {
    await this.#sending;
    // The deadline of the stream bounds the wait for a remote that does not read.
    await this.#stream.close();
  }

  abort(error: Error): void {
    this.#reader.fail(error);
    this.#stream.abort(error);
  }

  /** A frame that breaks the rules of framing ends the stream, for what follows it has no meaning. */
  async *#deliver(): AsyncGenerator<Uint8Array> {
    const frames = new FrameReader(this.#limits.frameBytesMax);
    try {
      for await (const chunk of this.#reader) yield* frames.take(chunk);
      frames.end();
    } catch (error) {
      this.#stream.abort(error instanceof Error ? error : new StreamTruncatedError());
      throw error;
    }
  }

  async #write(chunks: Iterable<Uint8Array>): Promise<void> {
    const stream = this.#stream;
    for (const chunk of chunks) stream.send(chunk);
    while (stream.writeBufferLength > 0 || stream.writableNeedsDrain) {
      if (isGone(stream)) break;
      await progress(stream);
    }
    // A reset throws away what was queued, so an empty queue alone proves nothing.
    if (isGone(stream)) throw new StreamTruncatedError();
  }
}

function isGone(stream: Stream): boolean {
  return stream.status !== 'open' && stream.status !== 'closing';
}

/** Resolves when the stream is gone, for whatever reason. */
function closed(stream: Stream): Promise<void> {
  if (isGone(stream)) return Promise.resolve();
  return new Promise((resolve) => {
    stream.addEventListener(
      'close',
      () => {
        resolve();
      },
      { once: true },
    );
  });
}

/** Resolves when the stream took some of what is queued; rejects when it is closed instead. */
function progress(stream: Stream): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (event: Event): void => {
      stream.removeEventListener('drain', settle);
      stream.removeEventListener('idle', settle);
      stream.removeEventListener('close', settle);
      if (event.type !== 'close') resolve();
      else {
        const cause: unknown = 'error' in event ? event.error : undefined;
        reject(cause instanceof Error ? cause : new StreamTruncatedError());
      }
    };
    stream.addEventListener('drain', settle);
    stream.addEventListener('idle', settle);
    stream.addEventListener('close', settle);
  });
}
