/**
 * How the rows of one epoch are coded. A row is what one update says of all coordinates of the adapter; manifest and
 * epoch fix its format, so that its length is checked, never trusted.
 */
import { adapterLayout } from './adapter.js';
import { fromHex } from './bytes.js';
import type { Run } from './manifest.js';
import { Prng } from './prng.js';

/** Coordinates that are rotated together and share one scale. The last block of an adapter is filled up with zeros. */
export const BLOCK_COORDINATES = 256;

/** Bytes of a block: its scale, and one bit for each coordinate. */
export const SCALE_BYTES = 2;
export const CODE_BYTES = BLOCK_COORDINATES / 8;

export interface RowFormat {
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
  #last: { epoch: number; format: RowFormat } | undefined;

  constructor(run: Run) {
    this.#seed = fromHex(run.id);
    this.#coordinates = adapterLayout(run.manifest.adapter).size;
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
    return { coordinates, blocks: Math.ceil(coordinates / BLOCK_COORDINATES), signs };
  }
}

/** Bytes of scales and codes of every update of a run. */
export function updateBytes({ manifest }: Run): number {
  const blocks = Math.ceil(adapterLayout(manifest.adapter).size / BLOCK_COORDINATES);
  return blocks * (SCALE_BYTES + CODE_BYTES);
}
