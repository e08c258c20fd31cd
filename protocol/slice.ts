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

/** [adapterSize]; what is kept between epochs is float32, what is summed float64. */
export type Vector = Float32Array | Float64Array;

/** Derives slices of one run; the last permutation and the last slice are kept. */
export class Slicer {
  readonly #run: Run;
  readonly #size: number;
  #cycle: { start: number; order: Uint32Array } | undefined;
  #last: { epoch: number; slice: Slice } | undefined;

  constructor(run: Run) {
    this.#run = run;
    this.#size = adapterLayout(run.manifest.adapter).size;
  }

  /** Its blocks are only to be read: whoever asks next may get the same array. */
  slice(epoch: number): Slice {
    if (this.#last?.epoch !== epoch) this.#last = { epoch, slice: this.#derive(epoch) };
    return this.#last.slice;
  }

  #derive(epoch: number): Slice {
    const { blockSize, phases } = this.#run.manifest.compression;
    const { fromEpoch, slices, bits } = phaseAt(phases, epoch);
    const blockCount = Math.ceil(this.#size / blockSize);
    const index = (epoch - fromEpoch) % slices;
    const blocks =
      slices === 1
        ? countTo(blockCount)
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

/** 0, 1, ... In a loop, because Uint32Array.from() takes 20 ms for the blocks of 40 M coordinates. */
function countTo(end: number): Uint32Array {
  const numbers = new Uint32Array(end);
  for (let i = 0; i < end; i++) numbers[i] = i;
  return numbers;
}

/** A run of coordinates that lie side by side in the adapter and in the slice. */
interface Stretch {
  /** Where it begins in the adapter, and in the tile. */
  offset: number;
  from: number;
  to: number;
}

/** The stretches of `length` coordinates from block `firstBlock` of the slice on. */
export function* stretches(
  { blocks, blockSize }: Slice,
  firstBlock: number,
  length: number,
): Generator<Stretch> {
  for (let block = firstBlock, from = 0; from < length;) {
    const first = blocks[block] ?? 0;
    let to = from;
    for (let next = first; to < length && blocks[block] === next; next++, block++)
      to = Math.min(to + blockSize, length);
    yield { offset: first * blockSize, from, to };
    from = to;
  }
}

/** The slice's coordinates of `vector`: [slice.coordinates] float64. */
export function gather(vector: Float64Array, slice: Slice): Float64Array {
  const out = new Float64Array(slice.coordinates);
  gatherTile(vector, slice, 0, out);
  return out;
}

/** tile <- the coordinates of `vector` from block `firstBlock` of the slice on, as far as `tile` goes. */
export function gatherTile(
  vector: Vector,
  slice: Slice,
  firstBlock: number,
  tile: Float64Array,
): void {
  for (const { offset, from, to } of stretches(slice, firstBlock, tile.length))
    tile.set(vector.subarray(offset, offset + to - from), from);
}

/** The other way round. */
export function scatterTile(
  vector: Vector,
  slice: Slice,
  firstBlock: number,
  tile: Float64Array,
): void {
  for (const { offset, from, to } of stretches(slice, firstBlock, tile.length))
    vector.set(tile.subarray(from, to), offset);
}

/** vector[slice] += factor x values, which are those from block `firstBlock` of the slice on. */
export function scatterAdd(
  vector: Vector,
  slice: Slice,
  values: Float64Array,
  factor: number,
  firstBlock = 0,
): void {
  for (const { offset, from, to } of stretches(slice, firstBlock, values.length)) {
    const shift = offset - from;
    for (let i = from; i < to; i++)
      vector[shift + i] = (vector[shift + i] ?? 0) + factor * (values[i] ?? 0);
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
