/** What the blocks of ggml's types stand for (dequantize_row_* of its ggml-quants.c), as float32. */
import { decodeFloats } from '../../engine/storage.js';

/** Decodes whole blocks into `values`. */
export type BlockDecoder = (bytes: Uint8Array<ArrayBuffer>, values: Float32Array) => void;

/** binary16 [1] at `at`. */
function half(bytes: Uint8Array<ArrayBuffer>, at: number): number {
  return decodeFloats(bytes.subarray(at, at + 2), 'F16')[0]!;
}

function floats(storage: 'F32' | 'F16' | 'BF16'): BlockDecoder {
  return (bytes, values) => values.set(decodeFloats(bytes, storage));
}

/** 32 values: a scale, and 16 bytes with the first 16 codes in their low halves. */
const q4_0: BlockDecoder = (bytes, values) => {
  for (let at = 0, to = 0; at < bytes.length; at += 18, to += 32) {
    const scale = half(bytes, at);
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + 2 + i]!;
      values[to + i] = scale * ((pair & 15) - 8);
      values[to + 16 + i] = scale * ((pair >> 4) - 8);
    }
  }
};

/** 32 values: a scale and 32 signed bytes. */
const q8_0: BlockDecoder = (bytes, values) => {
  for (let at = 0, to = 0; at < bytes.length; at += 34, to += 32) {
    const scale = half(bytes, at);
    for (let i = 0; i < 32; i++) values[to + i] = scale * ((bytes[at + 2 + i]! << 24) >> 24);
  }
};

/**
 * 256 values: 128 bytes of lower halves, 64 of two upper bits, 16 signed scales, and a scale for all. Files of Q4_0 have
 * the embeddings or the output layer so.
 */
const q6_k: BlockDecoder = (bytes, values) => {
  for (let at = 0, to = 0; at < bytes.length; at += 210, to += 256) {
    const scale = half(bytes, at + 208);
    for (let i = 0; i < 256; i++) {
      // Two halves of 128 values, each in four rows of 32: the rows share bytes.
      const [part, row, column] = [i >> 7, (i >> 5) & 3, i & 31];
      const low = bytes[at + 64 * part + 32 * (row & 1) + column]! >> (row < 2 ? 0 : 4);
      const high = bytes[at + 128 + 32 * part + column]! >> (2 * row);
      const code = ((low & 15) | ((high & 3) << 4)) - 32;
      const factor = (bytes[at + 192 + (i >> 4)]! << 24) >> 24;
      values[to + i] = Math.fround(scale * factor) * code;
    }
  }
};

/** By ggml's number of the type. */
export const BLOCK_DECODERS: Readonly<Record<number, BlockDecoder>> = {
  0: floats('F32'),
  1: floats('F16'),
  2: q4_0,
  8: q8_0,
  14: q6_k,
  30: floats('BF16'),
};
