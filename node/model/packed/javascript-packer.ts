/** The packer in plain JavaScript: the reference for the one in WebAssembly, and what runs where that is missing. */
import { decodeFloats, STORAGE_BYTES, type FloatStorage } from '../../engine/storage.js';
import { CODES_BYTES, INPUT_BYTES, SCALES_MAX, type InputSlot, type Packer } from './packer.js';

const SMALLEST_NORMAL = 2 ** -126;
/** 1.5 x 2^23: a float32 sum with it rounds a small number to a whole one, ties to even. */
const ROUNDER = 12_582_912;
/** From here on the nearest bfloat16 is infinite. */
const BFLOAT_OVERFLOW = 2 ** 128 - 2 ** 119;

export class JavascriptPacker implements Packer {
  readonly name = 'javascript';
  readonly inputs: Packer['inputs'] = [new Uint8Array(INPUT_BYTES), new Uint8Array(INPUT_BYTES)];
  readonly codes = new Uint8Array(CODES_BYTES);
  readonly scales = new Uint8Array(4 * SCALES_MAX);
  readonly #scales = new DataView(this.scales.buffer);

  int8(
    storage: FloatStorage,
    slot: InputSlot,
    rows: number,
    width: number,
    largestCode: number,
  ): number {
    for (let row = 0; row < rows; row++) {
      const values = this.#row(storage, slot, row, width);
      const size = Math.abs(extremeOf(values));
      if (!Number.isFinite(size)) return row;
      const scale = usableScale(size / largestCode);
      this.#scales.setFloat32(4 * row, scale, true);
      for (let i = 0; i < width; i++) this.codes[row * width + i] = codeOf(values[i]!, scale);
    }
    return -1;
  }

  int4(storage: FloatStorage, slot: InputSlot, rows: number, width: number, block: number): number {
    let blocks = 0;
    for (let row = 0; row < rows; row++) {
      const values = this.#row(storage, slot, row, width);
      if (!Number.isFinite(extremeOf(values))) return row;
      for (let start = 0; start < width; start += block) {
        const part = values.subarray(start, start + block);
        const scale = usableScale(extremeOf(part) / -8);
        this.#scales.setFloat32(4 * blocks++, scale, true);
        const at = (row * width + start) / 2;
        for (let i = 0; i < part.length; i += 2) {
          const low = Math.min(7, codeOf(part[i]!, scale));
          const high = Math.min(7, codeOf(part[i + 1]!, scale));
          this.codes[at + i / 2] = (low & 15) | ((high & 15) << 4);
        }
      }
    }
    return -1;
  }

  bfloat16(slot: InputSlot, rows: number, width: number): number {
    for (let row = 0; row < rows; row++) {
      const values = this.#row('F32', slot, row, width);
      // Not "<": it is false for NaN.
      if (!(Math.abs(extremeOf(values)) < BFLOAT_OVERFLOW)) return row;
      const words = new Uint32Array(values.buffer, values.byteOffset, width);
      for (let i = 0; i < width; i++) {
        const half = (words[i]! + 0x7fff + ((words[i]! >>> 16) & 1)) >>> 16;
        const at = 2 * (row * width + i);
        this.codes[at] = half & 0xff;
        this.codes[at + 1] = half >>> 8;
      }
    }
    return -1;
  }

  #row(storage: FloatStorage, slot: InputSlot, row: number, width: number): Float32Array {
    const bytes = width * STORAGE_BYTES[storage];
    const part = this.inputs[slot].subarray(row * bytes, (row + 1) * bytes);
    return decodeFloats(part, storage);
  }
}

/** The value of the largest size, the positive one of two; NaN where one is NaN. */
function extremeOf(values: Float32Array): number {
  let [highest, lowest] = [0, 0];
  for (const value of values) {
    if (Number.isNaN(value)) return NaN;
    if (value > highest) highest = value;
    if (value < lowest) lowest = value;
  }
  return highest >= -lowest ? highest : lowest;
}

function usableScale(quotient: number): number {
  const scale = Math.fround(quotient);
  return Math.abs(scale) < SMALLEST_NORMAL ? 0 : scale;
}

/** Two roundings to float32, as a machine with nothing wider makes them. */
function codeOf(value: number, scale: number): number {
  if (scale === 0) return 0;
  return Math.fround(Math.fround(value / scale) + ROUNDER) - ROUNDER;
}
