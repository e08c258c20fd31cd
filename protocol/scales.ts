/** Scales: one binary16 each, little-endian. */
import { fromHalf } from './half.js';

/** The value of scale number `index`; 0 where it is missing. */
export function scaleAt(scales: Uint8Array, index: number): number {
  return fromHalf((scales[2 * index] ?? 0) | ((scales[2 * index + 1] ?? 0) << 8));
}

/** Writes the binary16 `half` as scale number `index`. */
export function setScale(scales: Uint8Array, index: number, half: number): void {
  scales[2 * index] = half & 0xff;
  scales[2 * index + 1] = half >>> 8;
}
