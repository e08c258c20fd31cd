/**
 * How the rows of one epoch are coded. A row is what one update says of all coordinates of the adapter; manifest and
 * epoch fix its format, so that its length is checked, never trusted.
 */
import { adapterLayout } from './adapter.js';
import { fromHex } from './bytes.js';
import type { Compression, Run } from './manifest.js';
import { Prng } from './prng.js';

/** Coordinates that are rotated together. The last block of an adapter is filled up with zeros. */
export const BLOCK_COORDINATES = 256;

/** Coordinates of a tile, whose sums fit into the cache nearest to the core; the last tile may be shorter. */
export const TILE_COORDINATES = 4096;
export const TILE_BLOCKS = TILE_COORDINATES / BLOCK_COORDINATES;

/** Bytes of a scale, and of the codes of a block that has one bit for each coordinate. */
export const SCALE_BYTES = 2;
export const SIGN_BYTES = BLOCK_COORDINATES / 8;

/** How the rotated values of a row are written. */
export interface Code {
  /** Consecutive blocks that share a scale: 1, or those of a tile. */
  readonly scaleBlocks: number;
  /** Bytes of the codes of a block. */
  readonly codeBytes: number;
  /** 0: the sign of each value (signs.ts). Else the divisor of the gaps between the largest (sparse.ts). */
  readonly divisor: number;
  /** The scale in units of the mean magnitude that it stands for. Only authors need to know it. */
  readonly factor: number;
}

/**
 * A factor of 1 would make the rounding error least; more lets error feedback hold back less, and errors of many peers
 * average out (docs/PROTOCOL.md, "Compression").
 */
const CODES: Record<Compression['codec'], Code> = {
  rot1: { scaleBlocks: 1, codeBytes: SIGN_BYTES, divisor: 0, factor: 1.4 },
  rec20: { scaleBlocks: TILE_BLOCKS, codeBytes: 20, divisor: 6, factor: 1.4 },
  rec10: { scaleBlocks: TILE_BLOCKS, codeBytes: 10, divisor: 15, factor: 1.4 },
};

export interface RowFormat {
  readonly code: Code;
  /** Coordinates of the adapter. */
  readonly coordinates: number;
  readonly blocks: number;
  /** The signs of the rotation, +1 or -1: [BLOCK_COORDINATES], the same for all blocks and all peers. */
  readonly signs: Float64Array;
}

/** [coordinates]; what is kept between epochs is float32, what is summed float64. */
export type Vector = Float32Array | Float64Array;

/** The formats of one run; the last one is kept. */
export class RowFormats {
  readonly #seed: Uint8Array;
  readonly #coordinates: number;
  readonly #code: Code;
  #last: { epoch: number; format: RowFormat } | undefined;

  constructor(run: Run) {
    this.#seed = fromHex(run.id);
    this.#coordinates = adapterLayout(run.manifest.adapter).size;
    this.#code = codeOf(run.manifest.compression.codec);
  }

  at(epoch: number): RowFormat {
    if (this.#last?.epoch !== epoch) this.#last = { epoch, format: this.#derive(epoch) };
    return this.#last.format;
  }

  /** Other signs in each epoch: no vector is badly rounded twice. */
  #derive(epoch: number): RowFormat {
    const random = new Prng(this.#seed, `rotation/${epoch}`);
    const signs = new Float64Array(BLOCK_COORDINATES);
    for (let word = 0; word < BLOCK_COORDINATES; word += 32) {
      const bits = random.nextUint32();
      for (let bit = 0; bit < 32; bit++) signs[word + bit] = (bits >>> bit) & 1 ? -1 : 1;
    }
    const coordinates = this.#coordinates;
    const blocks = Math.ceil(coordinates / BLOCK_COORDINATES);
    return { code: this.#code, coordinates, blocks, signs };
  }
}

export function codeOf(codec: Compression['codec']): Code {
  return CODES[codec];
}

/** Bytes of the scales and of the codes of a row. */
export function bodyBytes({ code, blocks }: Pick<RowFormat, 'code' | 'blocks'>): {
  scales: number;
  codes: number;
} {
  const scales = SCALE_BYTES * Math.ceil(blocks / code.scaleBlocks);
  return { scales, codes: code.codeBytes * blocks };
}

/** Bytes of scales and codes of every update of a run. */
export function updateBytes({ manifest }: Run): number {
  const blocks = Math.ceil(adapterLayout(manifest.adapter).size / BLOCK_COORDINATES);
  const { scales, codes } = bodyBytes({ code: codeOf(manifest.compression.codec), blocks });
  return scales + codes;
}
