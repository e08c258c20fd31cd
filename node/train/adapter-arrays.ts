/**
 * The adapter-sized arrays of a training process that its parent writes and reads, in pieces: one message of all of them
 * would be held three times over at each end. Each is made when it is first used, and kept.
 */

/**
 * theta: what training starts from, and what it leads to; also what is measured. m, v: the moments. theta0: what the run
 * began from, where that was an adapter. continued, alone, single: see personal.ts.
 */
export const ADAPTER_ARRAYS = [
  'theta',
  'm',
  'v',
  'theta0',
  'continued',
  'alone',
  'single',
] as const;
export type AdapterArray = (typeof ADAPTER_ARRAYS)[number];

/** Coordinates of a piece: 256 kB, so that what is made on its way comes to little. */
export const PIECE_COORDINATES = 1 << 16;

/** Neighbouring coordinates of an array. */
export interface ArrayPiece {
  array: AdapterArray;
  /** The first of them. */
  start: number;
  /** 1 to PIECE_COORDINATES. */
  values: Float32Array;
}

export class AdapterArrays {
  readonly #size: number;
  readonly #arrays = new Map<AdapterArray, Float32Array>();
  /** Coordinates that were written since the last take(). */
  readonly #written = new Map<AdapterArray, number>();

  /** `size`: coordinates of the adapter. */
  constructor(size: number) {
    this.#size = size;
  }

  /** Pieces come in order, the first at 0. Throws RangeError for one that does not follow. */
  write({ array, start, values }: ArrayPiece): void {
    const follows = start === 0 || start === this.#written.get(array);
    if (!follows || start + values.length > this.#size) {
      throw new RangeError(
        `the adapter of this run has ${this.#size} coordinates, and ${values.length} of ${array} from ${start} on do not ` +
          'follow what came before',
      );
    }
    this.#get(array).set(values, start);
    this.#written.set(array, start + values.length);
  }

  /** What was written, whole. Throws RangeError where something is missing. */
  take(array: AdapterArray): Float32Array {
    const written = this.#written.get(array) ?? 0;
    this.#written.delete(array);
    if (written === this.#size) return this.#get(array);
    throw new RangeError(
      `${array} has ${written} coordinates, but the adapter of this run has ${this.#size}`,
    );
  }

  /** As an array that is about to be filled here: what it holds is of no account. */
  blank(array: AdapterArray): Float32Array {
    this.#written.delete(array);
    return this.#get(array);
  }

  /** A piece of what lies there. Throws RangeError for one beyond the end. */
  read(array: AdapterArray, start: number, length: number): Float32Array {
    if (start + length > this.#size) {
      throw new RangeError(`${array} has ${this.#size} coordinates, not ${start + length}`);
    }
    return this.#get(array).subarray(start, start + length);
  }

  #get(array: AdapterArray): Float32Array {
    const values = this.#arrays.get(array) ?? new Float32Array(this.#size);
    this.#arrays.set(array, values);
    return values;
  }
}
