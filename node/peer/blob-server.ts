/** Serves blobs to members, chunk by chunk: within bounds on streams, and on bytes for each of them. */
import {
  BlobGiver,
  decodeBlobOpen,
  encodeBlobAbsent,
  encodeBlobChunk,
  type BlobSource,
} from '../../protocol/blob.js';
import * as limits from '../../protocol/limits.js';
import type { Clock, FrameStream } from '../interfaces.js';
import { cutAfter, StreamGivenUpError } from './streams.js';
import { SenderBuckets } from '../token-bucket.js';

export interface BlobServerComponents {
  clock: Clock;
  runId: string;
  /** What there is of the blob with this root (hex); undefined for nothing. */
  find: (root: string) => BlobSource | undefined;
}

export class BlobServer {
  readonly #c: BlobServerComponents;
  readonly #signal: AbortSignal;
  /** Open streams of each peer. */
  readonly #open = new Map<string, number>();
  readonly #openRate: SenderBuckets;
  readonly #byteRate: SenderBuckets;
  #openCount = 0;
  #bytes = 0;

  constructor(components: BlobServerComponents, signal: AbortSignal) {
    this.#c = components;
    this.#signal = signal;
    this.#openRate = new SenderBuckets(components.clock, {
      perSecond: limits.BLOB_OPENS_PER_SECOND,
      burst: limits.BLOB_OPENS_BURST,
    });
    this.#byteRate = new SenderBuckets(components.clock, {
      perSecond: limits.BLOB_BYTES_PER_SECOND,
      burst: limits.BLOB_BURST_BYTES,
    });
  }

  /** Bytes of chunks handed to streams. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Serves a stream that `from` opened; rejects as the stream ends. */
  async serve(stream: FrameStream, from: string): Promise<void> {
    const count = this.#open.get(from) ?? 0;
    const isFull =
      this.#openCount >= limits.BLOB_STREAMS_MAX || count >= limits.BLOB_STREAMS_PER_PEER_MAX;
    if (isFull || this.#signal.aborted || !this.#openRate.of(from).tryTake(1)) {
      stream.abort(new StreamGivenUpError('busy with other blob streams, or leaving'));
      return;
    }
    this.#open.set(from, count + 1);
    this.#openCount += 1;
    const end = cutAfter(stream, limits.BLOB_TIMEOUT_MS, this.#c.clock, this.#signal);
    try {
      await this.#give(stream, from);
    } catch (error) {
      stream.abort(error instanceof Error ? error : new StreamGivenUpError(String(error)));
      throw error;
    } finally {
      this.#openCount -= 1;
      const left = (this.#open.get(from) ?? 1) - 1;
      if (left > 0) this.#open.set(from, left);
      else this.#open.delete(from);
      await end();
    }
  }

  async #give(stream: FrameStream, from: string): Promise<void> {
    const frames = stream.frames[Symbol.asyncIterator]();
    const first = await frames.next();
    if (first.done === true) return stream.close();
    const source = this.#c.find(decodeBlobOpen(this.#c.runId, first.value));
    if (source === undefined) {
      await stream.send(encodeBlobAbsent());
      return stream.close();
    }
    const giver = new BlobGiver(source);
    const offers = new Offers(stream, giver);
    const forget = source.onMore(() => void offers.tell());
    try {
      await offers.tell();
      // The next request is read when the last one is answered: the remote cannot pile them up.
      for (let next = await frames.next(); next.done !== true; next = await frames.next()) {
        const { index, bytes } = giver.receive(next.value);
        await this.#byteRate.of(from).take(bytes.length, this.#signal);
        await stream.send(encodeBlobChunk(index, bytes));
        this.#bytes += bytes.length;
      }
      await stream.close();
    } finally {
      forget();
    }
  }
}

/** Tells a stream of what has come since, one frame at a time: a remote that does not read queues no more. */
class Offers {
  readonly #stream: FrameStream;
  readonly #giver: BlobGiver;
  #isTelling = false;

  constructor(stream: FrameStream, giver: BlobGiver) {
    this.#stream = stream;
    this.#giver = giver;
  }

  async tell(): Promise<void> {
    if (this.#isTelling) return;
    this.#isTelling = true;
    try {
      for (let offer = this.#giver.offer(); offer !== null; offer = this.#giver.offer())
        await this.#stream.send(offer);
    } catch (error) {
      // The reader of the stream sees why.
      this.#stream.abort(error instanceof Error ? error : new StreamGivenUpError(String(error)));
    } finally {
      this.#isTelling = false;
    }
  }
}
