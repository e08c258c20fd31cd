/**
 * One epoch of the fold: the weighted or robust mean of its rows (dequantised updates), in whole steps
 * (docs/PROTOCOL.md, "Fold").
 */
import { GRID, roundToSteps } from './grid.js';
import { TILE_COORDINATES, type Kernel, type WeightedRow } from './kernel.js';
import type { AlphaPhase, Run } from './manifest.js';
import { addSquares, hasFiniteScales, type Quantised } from './quantise.js';
import { RobustMean } from './robust.js';
import { phaseAt, scatterAdd, Slicer, type Slice } from './slice.js';
import type { UpdateHeader } from './update.js';
import { fastestKernel } from './wasm-kernel.js';

/** What the fold reads: the headers of each epoch, and their bodies, which may lie on disk. */
export interface FoldSource {
  /** -1 without any. */
  readonly newestEpoch: number;
  /** In ascending order of peer id. */
  inEpoch(epoch: number): readonly UpdateHeader[];
  /**
   * The body, already checked. Also of an update that inEpoch() gave before and that was taken out since: the
   * fold needs it once more, to subtract what it did.
   */
  read(header: UpdateHeader): Quantised;
}

/** Coordinates of a row whose norm is computed without a pause: a millisecond or two. */
const NORM_COORDINATES = 1 << 20;

/** What one set of updates of one epoch does to the sum. */
export interface EpochSteps {
  /** sum <- sum + sign x these steps, tile by tile. Yields the coordinates of all rows in each tile. */
  addTo(sum: Float64Array, sign: 1 | -1): Generator<number>;
}

/** Of an epoch without updates. */
const NO_STEPS: EpochSteps = { *addTo() {} };

export class EpochFold {
  readonly #run: Run;
  readonly #slicer: Slicer;
  readonly #kernel: Kernel;
  readonly #weights: ReadonlyMap<string, number>;
  /** Of those that the manifest does not list. */
  readonly #otherWeight: number;
  /** Norms of rows, which depend on the update alone: folding an epoch again saves a pass. */
  readonly #norms = new WeakMap<UpdateHeader, number>();

  constructor(run: Run, slicer = new Slicer(run), kernel: Kernel = fastestKernel()) {
    this.#run = run;
    this.#slicer = slicer;
    this.#kernel = kernel;
    const { membership } = run.manifest;
    this.#weights = new Map(
      membership.mode === 'open' ? [] : membership.members.map((m) => [m.peerId, m.weight]),
    );
    this.#otherWeight = membership.mode === 'invite' ? membership.inviteWeight : 1;
  }

  /**
   * Reads the rows of `epoch`, whose headers come in ascending order of peer id, and does all that can fail or
   * needs every coordinate before the first one changes. Yields the coordinates of each piece.
   */
  *prepare(
    epoch: number,
    headers: readonly UpdateHeader[],
    source: Pick<FoldSource, 'read'>,
  ): Generator<number, EpochSteps> {
    const slice = this.#slicer.slice(epoch);
    if (headers.length === 0) return NO_STEPS;
    const bodies: Quantised[] = [];
    for (const header of headers) {
      const body = source.read(header);
      if (!hasFiniteScales(body, slice)) {
        throw new RangeError(
          `update ${header.id} has a scale that is missing, negative or not finite`,
        );
      }
      bodies.push(body);
      yield slice.blocks.length;
    }
    const clips = yield* this.#clips(headers, bodies, slice);
    const { numerator, denominator } = phaseAt<AlphaPhase>(this.#run.manifest.fold.alpha, epoch);
    const factor = (numerator / denominator) * GRID;
    const { mode, trimFraction } = this.#run.manifest.fold;
    if (mode === 'mean') {
      const rows = this.#weightedRows(headers, bodies, clips);
      return { addTo: (sum, sign) => this.#addMean(rows, slice, factor, sum, sign) };
    }
    const rows = bodies.map((quantised, i) => {
      const header = headers[i];
      const factor = (header === undefined ? 0 : staleness(header)) * (clips[i] ?? 1);
      return { quantised, factor };
    });
    const robust = new RobustMean(rows, slice, trimFraction, this.#kernel);
    yield* robust.prepare();
    return { addTo: (sum, sign) => addRobust(robust, slice, factor, sum, sign) };
  }

  /** sum <- sum + sign x the steps of these updates of `epoch`. */
  *add(
    sum: Float64Array,
    sign: 1 | -1,
    epoch: number,
    headers: readonly UpdateHeader[],
    source: Pick<FoldSource, 'read'>,
  ): Generator<number> {
    const steps = yield* this.prepare(epoch, headers, source);
    yield* steps.addTo(sum, sign);
  }

  /** Rows of which `count` updates cost the time: robust, each goes through all. */
  cost(count: number): number {
    return this.#run.manifest.fold.mode === 'robust' ? count * count : count;
  }

  *#addMean(
    rows: readonly WeightedRow[],
    slice: Slice,
    factor: number,
    sum: Float64Array,
    sign: 1 | -1,
  ): Generator<number> {
    const { blocks, blockSize, coordinates } = slice;
    const tileBlocks = Math.floor(TILE_COORDINATES / blockSize);
    for (let block = 0; block < blocks.length; block += tileBlocks) {
      const length = Math.min(tileBlocks * blockSize, coordinates - block * blockSize);
      const steps = this.#kernel.steps(rows, slice, block, length, factor);
      scatterAdd(sum, slice, steps, sign, block);
      yield length * rows.length;
    }
  }

  /** What each row is scaled down by, so that none is longer than clip x the median. */
  *#clips(
    headers: readonly UpdateHeader[],
    bodies: readonly Quantised[],
    slice: Slice,
  ): Generator<number, number[]> {
    const { clip } = this.#run.manifest.fold;
    if (clip === 0) return bodies.map(() => 1);
    const lengths: number[] = [];
    for (const [i, header] of headers.entries()) {
      const body = bodies[i];
      if (body === undefined) continue;
      const length = this.#norms.get(header) ?? (yield* rowNorm(body, slice));
      this.#norms.set(header, length);
      lengths.push(length);
    }
    const bound = clip * median(lengths.filter((value) => value > 0));
    return lengths.map((length) => (length > bound ? bound / length : 1));
  }

  #weightedRows(
    headers: readonly UpdateHeader[],
    bodies: readonly Quantised[],
    clips: readonly number[],
  ): WeightedRow[] {
    const totalWeight = headers.reduce((sum, { author }) => sum + this.#weight(author), 0);
    return bodies.flatMap((quantised, i) => {
      const header = headers[i];
      if (header === undefined) return [];
      const weight = this.#weight(header.author) * staleness(header);
      return { quantised, factor: (weight * (clips[i] ?? 1)) / totalWeight };
    });
  }

  #weight(author: string): number {
    return this.#weights.get(author) ?? this.#otherWeight;
  }
}

function* addRobust(
  robust: RobustMean,
  slice: Slice,
  factor: number,
  sum: Float64Array,
  sign: 1 | -1,
): Generator<number> {
  const { blocks, blockSize, coordinates } = slice;
  const { tileBlocks } = robust;
  const tile = new Float64Array(tileBlocks * blockSize);
  for (let block = 0; block < blocks.length; block += tileBlocks) {
    const length = Math.min(tile.length, coordinates - block * blockSize);
    const mean = tile.subarray(0, length);
    robust.tile(block, mean);
    roundToSteps(mean, factor);
    scatterAdd(sum, slice, mean, sign, block);
    yield robust.work(length);
  }
}

/** L2 norm of a row: the square root of the sum of its blocks' sums of squares, each exact, in order. */
function* rowNorm(row: Quantised, slice: Slice): Generator<number, number> {
  const piece = Math.max(1, Math.floor(NORM_COORDINATES / slice.blockSize));
  let sum = 0;
  for (let block = 0; block < slice.blocks.length; block += piece) {
    const end = Math.min(block + piece, slice.blocks.length);
    sum = addSquares(row, slice, block, end, sum);
    // One look-up a byte of codes, none where all levels have one square.
    const bytes = slice.bits === 1 ? 1 : (slice.blockSize * slice.bits) / 8;
    yield (end - block) * bytes;
  }
  return Math.sqrt(sum);
}

/** Weight of an update whose base was folded `lag` epochs earlier: 1 up to 2, then 2 / lag. */
export function staleness({ epoch, baseEpoch }: Pick<UpdateHeader, 'epoch' | 'baseEpoch'>): number {
  const lag = epoch - baseEpoch;
  return lag <= 2 ? 1 : 2 / lag;
}

/** Mean of the two middle values when their number is even; 0 for none. */
function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >>> 1;
  if (sorted.length % 2 === 1) return sorted[middle] ?? 0;
  return ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}
