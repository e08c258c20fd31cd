/** One end of a reliable, ordered stream between two simulated peers: delayed, reset or stalled by the network. */
import type { FrameStream, StreamKind } from '../interfaces.js';
import { SYNC_FRAME_BYTES_MAX } from '../../protocol/limits.js';
import type { SimNetwork } from './network.js';

/** First byte of a SyncFrame that holds a Chunk: field 3, length-delimited. */
const CHUNK_TAG = (3 << 3) | 2;

/** Thrown into streams that a fault, a partition or a crash cut. */
export class SimulatedReset extends Error {
  override readonly name = 'SimulatedReset';
}

/** One end of a reliable, ordered stream. */
export class SimStream implements FrameStream {
  onEnd: () => void = () => undefined;
  readonly #inbox: Uint8Array[] = [];
  #isRemoteClosed = false;
  #isClosed = false;
  #error: Error | null = null;
  #wake: () => void = () => undefined;
  #remote: SimStream | undefined;
  /** TCP keeps order: no frame overtakes an earlier one. */
  #lastArrivalMs = 0;

  private constructor(
    readonly network: SimNetwork,
    readonly kind: StreamKind,
    readonly localId: string,
    readonly remoteId: string,
  ) {}

  static pair(
    network: SimNetwork,
    kind: StreamKind,
    near: string,
    far: string,
  ): [SimStream, SimStream] {
    const a = new SimStream(network, kind, near, far);
    const b = new SimStream(network, kind, far, near);
    a.#remote = b;
    b.#remote = a;
    return [a, b];
  }

  readonly frames: AsyncIterable<Uint8Array> = {
    [Symbol.asyncIterator]: () => ({ next: () => this.#next() }),
  };

  async send(frame: Uint8Array): Promise<void> {
    if (this.#error) throw this.#error;
    if (this.#isClosed) throw new SimulatedReset('this side is closed');
    if (frame.length > SYNC_FRAME_BYTES_MAX) throw new SimulatedReset('a frame over the bound');
    this.#count(frame);
    if (this.network.chance(this.network.faults.reset)) {
      this.breakLink();
      throw new SimulatedReset('reset by the network');
    }
    const copy = frame.slice();
    this.#arrive((remote) => remote.#inbox.push(copy));
  }

  #count(frame: Uint8Array): void {
    const { counts, blobBytes } = this.network;
    if (this.kind === 'blob') {
      blobBytes.set(this.localId, (blobBytes.get(this.localId) ?? 0) + frame.length);
    } else if (frame[0] === CHUNK_TAG) counts.bytesRepair += frame.length;
    else counts.bytesVectors += frame.length;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#arrive((remote) => (remote.#isRemoteClosed = true));
    this.#endWhenDone();
  }

  abort(error: Error): void {
    this.#fail(error);
    this.#arrive((remote) => remote.#fail(new SimulatedReset('reset by the remote')));
  }

  /** Cuts both ends at once. */
  breakLink(): void {
    const error = new SimulatedReset('the connection broke');
    this.#fail(error);
    if (this.#remote) this.#remote.#fail(error);
  }

  #arrive(effect: (remote: SimStream) => void): void {
    const { time } = this.network;
    const arrivalMs = Math.max(this.#lastArrivalMs, time.nowMs + this.network.delayMs());
    this.#lastArrivalMs = arrivalMs;
    time.after(arrivalMs - time.nowMs, () => {
      // A silent direction loses nothing of a stream: what waits comes when it is heard again, in order.
      this.network.cuts.whenHeard(this.localId, this.remoteId, () => {
        if (!this.#remote || this.#remote.#error) return;
        effect(this.#remote);
        this.#remote.#wake();
        this.#remote.#endWhenDone();
      });
    });
  }

  async #next(): Promise<IteratorResult<Uint8Array>> {
    for (;;) {
      const frame = this.#inbox.shift();
      if (frame) return { done: false, value: frame };
      if (this.#error) throw this.#error;
      if (this.#isRemoteClosed) return { done: true, value: undefined };
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  #fail(error: Error): void {
    this.#error ??= error;
    this.#wake();
    this.onEnd();
  }

  #endWhenDone(): void {
    if (this.#isClosed && this.#isRemoteClosed) this.onEnd();
  }
}
