/** What a packer is: it makes codes and scales of rows of weights. */
import type { FloatStorage } from '../../engine/storage.js';

/** Bytes of a region that rows are read into: the longest row that a config may ask for, in float32. */
export const INPUT_BYTES = 1 << 22;
/** Two input bytes at least are a value, which takes at most one byte of codes. */
export const CODES_BYTES = INPUT_BYTES / 2;
/** Scales of one call: of blocks of 32 in a region full of 16-bit values. */
export const SCALES_MAX = 65_536;

/** Two regions to read into, so that one is filled while the other is packed. */
export type InputSlot = 0 | 1;

/**
 * Calls pack the first `rows` rows of `width` values in a region into `codes` and `scales`. They return the first row
 * with a value that cannot be packed (not finite; as bfloat16 also one that would be rounded to infinity), else -1.
 * A scale that would be no normal float32 is 0, and so are its codes.
 */
export interface Packer {
  readonly name: 'webassembly' | 'javascript';
  /** INPUT_BYTES each, little-endian. */
  readonly inputs: readonly [Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>];
  /** CODES_BYTES. */
  readonly codes: Uint8Array;
  /** Little-endian float32 [SCALES_MAX]. */
  readonly scales: Uint8Array;
  /** One code a byte, from -largestCode to largestCode, and one scale a row: the largest size / largestCode. */
  int8(
    storage: FloatStorage,
    slot: InputSlot,
    rows: number,
    width: number,
    largestCode: number,
  ): number;
  /**
   * Codes from -8 to 7, two a byte, the first in the low half; `width` is even. One scale for each `block` values of a
   * row (the last block may be shorter): the value of the largest size / -8, so that this value is exact.
   */
  int4(storage: FloatStorage, slot: InputSlot, rows: number, width: number, block: number): number;
  /** From float32, rounded to the nearest, ties to even. */
  bfloat16(slot: InputSlot, rows: number, width: number): number;
}
