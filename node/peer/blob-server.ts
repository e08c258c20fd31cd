/** Serves blobs to members, chunk by chunk: within bounds on streams, on bytes for each of them, and on those of the base model for all. */
import {
  BlobGiver,
  decodeBlobOpen,
  encodeBlobAbsent,
  encodeBlobChunk,
  type BlobSource,
  type Chunk,
} from '../../protocol/blob.js';
import * as limits from '../../protocol/limits.js';
import type { Clock, FrameStream, ModelSource } from '../interfaces.js';
import { cutAfter, StreamGivenUpError } from './streams.js';
import { SenderBuckets, TokenBucket } from '../token-bucket.js';

export interface BlobServerComponents {
  clock: Clock;
  runId: string;
  /** What there is of the blob with this root (hex); undefined for nothing. */
  find: (root: string) => BlobSource<Chunk> | undefined;
  /** Files of the base model; null where they are not shared. */
  model?: ModelSource | null;
}

/** What a stream is given from. */
interface Found {
  source: BlobSource<Chunk>;
  isModel: boolean;
}

export class BlobServer {
  readonly #c: BlobServerComponents;
  readonly #signal: AbortSignal;
  /** Open streams of each peer. */
  readonly #open = new Map<string, number>();
  readonly #openRate: SenderBuckets;
  readonly #byteRate: SenderBuckets;
  readonly #modelRate: TokenBucket;
  #openCount = 0;
  #bytes = 0;
  #modelBytes = 0;

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
    this.#modelRate = new TokenBucket(components.clock, {
      perSecond: limits.MODEL_BYTES_PER_SECOND,
      burst: limits.MODEL_BURST_BYTES,
    });
  }

  /** Bytes of chunks handed to streams. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Of those, bytes of the base model. */
  get modelBytes(): number {
    return this.#modelBytes;
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
    const found = await this.#find(decodeBlobOpen(this.#c.runId, first.value));
    if (found === null) {
      await stream.send(encodeBlobAbsent());
      return stream.close();
    }
    const { source, isModel } = found;
    const giver = new BlobGiver(source);
    const offers = new Offers(stream, giver);
    const forget = source.onMore(() => void offers.tell());
    try {
      await offers.tell();
      // The next request is read when the last one is answered: the remote cannot pile them up.
      for (let next = await frames.next(); next.done !== true; next = await frames.next()) {
        const given = giver.receive(next.value);
        const bytes = await given.bytes;
        if (isModel) await this.#modelRate.take(bytes.length, this.#signal);
        await this.#byteRate.of(from).take(bytes.length, this.#signal);
        await stream.send(encodeBlobChunk(given.index, bytes));
        this.#bytes += bytes.length;
        if (isModel) this.#modelBytes += bytes.length;
      }
      await stream.close();
    } finally {
      forget();
    }
  }

  async #find(root: string): Promise<Found | null> {
    const update = this.#c.find(root);
    if (update !== undefined) return { source: update, isModel: false };
    const part = await this.#c.model?.find(root);
    return part === undefined ? null : { source: part, isModel: true };
  }
}

/** Tells a stream of what has come since, one frame at a time: a remote that does not read queues no more. */
class Offers {
  readonly #stream: FrameStream;
  readonly #giver: BlobGiver<Chunk>;
  #isTelling = false;

  constructor(stream: FrameStream, giver: BlobGiver<Chunk>) {
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
