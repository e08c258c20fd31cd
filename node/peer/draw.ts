/** One stream to one donor of a blob: asks for some chunks ahead, takes what comes, says how it goes. */
import { BlobAsker, type PartialBlob } from '../../protocol/blob.js';
import { BLOB_TIMEOUT_MS, BLOB_WINDOW_CHUNKS } from '../../protocol/limits.js';
import type { FrameStream } from '../interfaces.js';
import { cutAfter, openStream, StreamGivenUpError, type StreamOpener } from './streams.js';

/** The donor has nothing of the blob. */
export class BlobAbsentError extends Error {
  override readonly name = 'BlobAbsentError';
}

export interface DrawComponents extends StreamOpener {
  runId: string;
}

export class Draw {
  readonly peerId: string;
  readonly #c: DrawComponents;
  readonly #blob: PartialBlob;
  readonly #asker: BlobAsker;
  /** The next chunk to ask this donor for; null for none. */
  readonly #pick: (draw: Draw) => number | null;
  #stream: FrameStream | null = null;
  #hasAnswered = false;
  #gained = 0;
  /** When something last came that was awaited. */
  #heardMs: number;
  #isGivenUp = false;

  constructor(
    components: DrawComponents,
    blob: PartialBlob,
    peerId: string,
    pick: (draw: Draw) => number | null,
  ) {
    this.#c = components;
    this.#blob = blob;
    this.#asker = new BlobAsker(blob);
    this.peerId = peerId;
    this.#pick = pick;
    this.#heardMs = components.clock.now();
  }

  /** Chunks that came from this donor. */
  get gained(): number {
    return this.#gained;
  }

  /** Whether it was given up here, for being too slow. */
  get isGivenUp(): boolean {
    return this.#isGivenUp;
  }

  /** Whether it could be asked for more. */
  get isFree(): boolean {
    return this.#hasAnswered && this.#asker.asked === 0;
  }

  /** How long an answer has been awaited, in ms; 0 while none is. */
  get silentMs(): number {
    return this.isFree ? 0 : this.#c.clock.now() - this.#heardMs;
  }

  canAsk(index: number): boolean {
    return this.#asker.canAsk(index);
  }

  /** Asks for what there is to ask for. */
  fill(): void {
    const stream = this.#stream;
    if (stream === null || !this.#hasAnswered) return;
    while (this.#asker.asked < BLOB_WINDOW_CHUNKS) {
      const index = this.#pick(this);
      if (index === null) return;
      if (this.isFree) this.#heardMs = this.#c.clock.now();
      // The reader of the stream sees why it fails.
      stream.send(this.#asker.ask(index)).catch(() => undefined);
    }
  }

  giveUp(reason: string): void {
    this.#isGivenUp = true;
    this.#stream?.abort(new StreamGivenUpError(reason));
  }

  /** Resolves when the blob is whole; rejects as the stream ends, with BlobAbsentError, BlobProtocolError. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, runId } = this.#c;
    const stream = await openStream(this.#c, 'blob', this.peerId, signal);
    this.#stream = stream;
    const end = cutAfter(stream, BLOB_TIMEOUT_MS, clock, signal);
    try {
      await stream.send(this.#asker.hello(runId));
      this.#heardMs = clock.now();
      await this.#read(stream);
      await stream.close();
    } catch (error) {
      stream.abort(error instanceof Error ? error : new StreamGivenUpError(String(error)));
      throw error;
    } finally {
      await end();
    }
  }

  async #read(stream: FrameStream): Promise<void> {
    for await (const frame of stream.frames) {
      const answer = this.#asker.receive(frame);
      if (answer.kind === 'absent') throw new BlobAbsentError('the donor has nothing of it');
      this.#hasAnswered = true;
      this.#heardMs = this.#c.clock.now();
      if (answer.kind === 'chunk') this.#gained += 1;
      if (this.#blob.bytes !== null) return;
      this.fill();
    }
    throw new StreamGivenUpError('the donor closed the stream before the blob was whole');
  }
}
