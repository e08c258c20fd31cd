/**
 * Which coordinates go out in which epoch. The vector is cut into blocks (the quantiser's); every NS
 * epochs a permutation of the blocks is drawn from the run id, and epoch k of the cycle sends every
 * NS-th of them: each coordinate once a cycle, the same for all peers (robust folds need that).
 */
import { Prng } from './prng.js';
import { fromHex } from './bytes.js';
import { adapterLayout } from './adapter.js';
import type { AlphaPhase, CompressionPhase, Run } from './manifest.js';

export interface Slice {
  /** Blocks in ascending order. */
  blocks: Uint32Array;
  blockSize: number;
  bits: CompressionPhase['bits'];
  /** Coordinates in all blocks; the last block of the adapter may be short. */
  coordinates: number;
}

/** The entry of a table that holds at `epoch`: the last whose fromEpoch is not later. */
export function phaseAt<T extends AlphaPhase | CompressionPhase>(
  phases: readonly T[],
  epoch: number,
): T {
  const phase = phases.findLast(({ fromEpoch }) => fromEpoch <= epoch);
  if (phase === undefined) throw new RangeError(`no phase covers epoch ${epoch}`);
  return phase;
}

/** Derives slices of one run; the last permutation is kept. */
export class Slicer {
  readonly #run: Run;
  readonly #size: number;
  #cycle: { start: number; order: Uint32Array } | undefined;

  constructor(run: Run) {
    this.#run = run;
    this.#size = adapterLayout(run.manifest.adapter).size;
  }

  slice(epoch: number): Slice {
    const { blockSize, phases } = this.#run.manifest.compression;
    const { fromEpoch, slices, bits } = phaseAt(phases, epoch);
    const blockCount = Math.ceil(this.#size / blockSize);
    const index = (epoch - fromEpoch) % slices;
    const blocks =
      slices === 1
        ? Uint32Array.from({ length: blockCount }, (_, i) => i)
        : this.#order(epoch - index, blockCount)
            .filter((_, i) => i % slices === index)
            .sort();
    const tail = blockCount * blockSize - this.#size;
    const hasLast = blocks.at(-1) === blockCount - 1;
    const coordinates = blocks.length * blockSize - (hasLast ? tail : 0);
    return { blocks, blockSize, bits, coordinates };
  }

  /** The permutation of the cycle that begins at epoch `start`. */
  #order(start: number, blockCount: number): Uint32Array {
    if (this.#cycle?.start !== start) {
      const random = new Prng(fromHex(this.#run.id), `slice/${start}`);
      this.#cycle = { start, order: random.permutation(blockCount) };
    }
    return this.#cycle.order;
  }
}

/** The slice's coordinates of `vector`, [slice.coordinates] float64. */
export function gather(vector: Float64Array, slice: Slice): Float64Array {
  const out = new Float64Array(slice.coordinates);
  let position = 0;
  for (const block of slice.blocks) {
    const piece = vector.subarray(block * slice.blockSize, (block + 1) * slice.blockSize);
    out.set(piece, position);
    position += piece.length;
  }
  return out;
}

/** vector[slice] += factor x values, where `values` is [slice.coordinates]. */
export function scatterAdd(
  vector: Float64Array,
  slice: Slice,
  values: Float64Array,
  factor: number,
): void {
  let position = 0;
  for (const block of slice.blocks) {
    const end = Math.min((block + 1) * slice.blockSize, vector.length);
    for (let i = block * slice.blockSize; i < end; i++, position++) {
      vector[i] = (vector[i] ?? 0) + factor * (values[position] ?? 0);
    }
  }
}

/** Bytes of scales and codes of the largest update that the run's manifest allows. */
export function maxUpdateBytes({ manifest }: Run): number {
  const { size } = adapterLayout(manifest.adapter);
  const { blockSize, phases } = manifest.compression;
  const bytes = phases.map(({ slices, bits }) => {
    const blocks = Math.ceil(Math.ceil(size / blockSize) / slices);
    return blocks * (2 + (blockSize * bits) / 8);
  });
  return Math.max(...bytes);
}
