/**
 * Frames after their lengths, out of chunks that were cut anywhere. A frame is gathered in memory of its own that grows
 * as it comes: it-length-prefixed keeps every chunk, some 250 bytes for a chunk of one byte, and looks through all of
 * them each time.
 */
import type { Uint8ArrayList } from 'uint8arraylist';
import { FrameTooLargeError, StreamTruncatedError } from './errors.js';

/** Bytes of a length: a varint up to 2^28. */
const LENGTH_BYTES_MAX = 4;

export class FrameReader {
  readonly #bytesMax: number;
  /** The length of the frame that comes, as far as it is known, and its bytes. */
  #length = 0;
  #lengthBytes = 0;
  #isLengthKnown = false;
  #frame = new Uint8Array();
  #used = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** The frames that `chunk` completes. @throws FrameTooLargeError. */
  *take(chunk: Uint8Array | Uint8ArrayList): Generator<Uint8Array> {
    for (const part of chunk instanceof Uint8Array ? [chunk] : chunk) {
      for (let at = 0; at < part.length;) {
        if (this.#isLengthKnown) at += this.#gather(part.subarray(at));
        else this.#readLength(part[at++] ?? 0);
        if (!this.#isLengthKnown || this.#used < this.#length) continue;
        yield this.#frame;
        [this.#length, this.#lengthBytes, this.#isLengthKnown] = [0, 0, false];
        [this.#frame, this.#used] = [new Uint8Array(), 0];
      }
    }
  }

  /** @throws StreamTruncatedError when a frame has begun. */
  end(): void {
    if (this.#lengthBytes > 0) throw new StreamTruncatedError();
  }

  #readLength(byte: number): void {
    this.#length += (byte % 128) * 128 ** this.#lengthBytes;
    this.#lengthBytes += 1;
    this.#isLengthKnown = byte < 128;
    const isTooLong = !this.#isLengthKnown && this.#lengthBytes === LENGTH_BYTES_MAX;
    if (this.#length > this.#bytesMax || isTooLong) {
      throw new FrameTooLargeError(this.#length, this.#bytesMax);
    }
  }

  /** Takes what of `bytes` belongs to the frame, and says how many those are. */
  #gather(bytes: Uint8Array): number {
    const count = Math.min(bytes.length, this.#length - this.#used);
    const needed = this.#used + count;
    if (needed > this.#frame.length) {
      const larger = new Uint8Array(Math.min(this.#length, Math.max(needed, 2 * this.#used)));
      larger.set(this.#frame.subarray(0, this.#used));
      this.#frame = larger;
    }
    this.#frame.set(bytes.subarray(0, count), this.#used);
    this.#used = needed;
    return count;
  }
}
