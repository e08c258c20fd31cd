/**
 * One epoch of the fold: the weighted mean of its rows (dequantised updates), filtered or not, or their robust mean, in
 * whole steps (docs/PROTOCOL.md, "Fold").
 */
import { fromHex } from './bytes.js';
import { agreements, comparingCost, droppedRows, FILTERED_ROWS_MIN, type Rows } from './filter.js';
import { GRID, roundToSteps } from './grid.js';
import type { Kernel, WeightedRow } from './kernel.js';
import type { AlphaPhase, Run } from './manifest.js';
import { median } from './median.js';
import { Prng } from './prng.js';
import { hasFiniteScales, type Quantised } from './quantise.js';
import { tileOf } from './residual.js';
import { RobustMean } from './robust.js';
import { RowFormats, TILE_BLOCKS, TILE_COORDINATES, type RowFormat } from './row-format.js';
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

/** Blocks of a row whose norm is computed without a pause: a millisecond or two. */
const NORM_BLOCKS = 1 << 16;

/** An update that the filter left out of its epoch. */
export interface Dropped {
  readonly author: string;
  /** Median of its cosines with the other updates of the epoch, below AGREEMENT_MIN. */
  readonly agreement: number;
}

/** What one set of updates of one epoch does to the sum. */
export interface EpochSteps {
  /** In ascending order of peer id. */
  readonly dropped: readonly Dropped[];
  /** sum <- sum + sign x these steps, tile by tile. Yields the coordinates of all rows in each tile. */
  addTo(sum: Float64Array, sign: 1 | -1): Generator<number>;
}

/** Of an epoch without updates. */
const NO_STEPS: EpochSteps = { dropped: [], *addTo() {} };

export class EpochFold {
  readonly #run: Run;
  readonly #formats: RowFormats;
  readonly #kernel: Kernel;
  readonly #weights: ReadonlyMap<string, number>;
  /** Of those that the manifest does not list. */
  readonly #otherWeight: number;
  /** Norms of rows, which depend on the update alone: folding an epoch again saves a pass. */
  readonly #norms = new WeakMap<UpdateHeader, number>();
  /** Of sets of updates that were compared: the agreement of each. What is folded is later taken out as the same set. */
  readonly #agreements = new WeakMap<readonly UpdateHeader[], readonly number[]>();

  constructor(run: Run, formats = new RowFormats(run), kernel: Kernel = fastestKernel()) {
    this.#run = run;
    this.#formats = formats;
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
    const format = this.#formats.at(epoch);
    if (headers.length === 0) return NO_STEPS;
    const bodies: Quantised[] = [];
    for (const header of headers) {
      const body = source.read(header);
      if (!hasFiniteScales(body, format)) {
        throw new RangeError(
          `update ${header.id} has a scale that is missing, negative or not finite`,
        );
      }
      bodies.push(body);
      yield format.blocks;
    }
    const { mode, clip, trimFraction } = this.#run.manifest.fold;
    const isFiltered = mode === 'filtered' && bodies.length >= FILTERED_ROWS_MIN;
    const norms = clip > 0 || isFiltered ? yield* this.#lengths(headers, bodies, format) : [];
    const clips = clipsOf(norms, clip);
    const { numerator, denominator } = alphaAt(this.#run.manifest.fold.alpha, epoch);
    const factor = (numerator / denominator) * GRID;
    if (mode === 'robust') {
      const rows = bodies.map((quantised, i) => {
        const header = headers[i];
        const factor = (header === undefined ? 0 : staleness(header)) * (clips[i] ?? 1);
        return { quantised, factor };
      });
      const robust = new RobustMean(rows, format, trimFraction, this.#kernel);
      yield* robust.prepare();
      return { dropped: [], addTo: (sum, sign) => addRobust(robust, format, factor, sum, sign) };
    }
    const agreement = isFiltered
      ? yield* this.#agreement(epoch, headers, { bodies, norms }, format)
      : [];
    const isDropped = droppedRows(agreement);
    const rows = this.#weightedRows(headers, bodies, clips, isDropped);
    return {
      dropped: headers.flatMap(({ author }, i) =>
        isDropped[i] === true ? { author, agreement: agreement[i] ?? 0 } : [],
      ),
      addTo: (sum, sign) => this.#addMean(rows, format, factor, sum, sign),
    };
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

  /** Rows of which `count` updates cost the time: robust, each goes through all; filtered, it is compared with some. */
  cost(count: number): number {
    const { mode } = this.#run.manifest.fold;
    if (mode === 'robust') return count * count;
    return mode === 'filtered' ? count * (1 + comparingCost(count)) : count;
  }

  *#addMean(
    rows: readonly WeightedRow[],
    format: RowFormat,
    factor: number,
    sum: Float64Array,
    sign: 1 | -1,
  ): Generator<number> {
    for (let block = 0; block < format.blocks; block += TILE_BLOCKS) {
      const tile = tileOf(sum, block);
      const steps = this.#kernel.steps(rows, format, block, tile.length, factor);
      addSigned(tile, steps, sign);
      yield tile.length * rows.length;
    }
  }

  *#lengths(
    headers: readonly UpdateHeader[],
    bodies: readonly Quantised[],
    format: RowFormat,
  ): Generator<number, number[]> {
    const lengths: number[] = [];
    for (const [i, header] of headers.entries()) {
      const body = bodies[i];
      if (body === undefined) continue;
      const length = this.#norms.get(header) ?? (yield* rowNorm(body, format, this.#kernel));
      this.#norms.set(header, length);
      lengths.push(length);
    }
    return lengths;
  }

  *#agreement(
    epoch: number,
    headers: readonly UpdateHeader[],
    rows: Rows,
    format: RowFormat,
  ): Generator<number, readonly number[]> {
    const known = this.#agreements.get(headers);
    if (known !== undefined) return known;
    const random = (): Prng => new Prng(fromHex(this.#run.id), `filter/${epoch}`);
    const agreement = yield* agreements(rows, format, random, this.#kernel);
    this.#agreements.set(headers, agreement);
    return agreement;
  }

  /** The rows that are not dropped share the weight. */
  #weightedRows(
    headers: readonly UpdateHeader[],
    bodies: readonly Quantised[],
    clips: readonly number[],
    isDropped: readonly boolean[],
  ): WeightedRow[] {
    const weights = headers.map(({ author }, i) =>
      isDropped[i] === true ? 0 : this.#weight(author),
    );
    const totalWeight = weights.reduce((sum, weight) => sum + weight, 0);
    return bodies.flatMap((quantised, i) => {
      const header = headers[i];
      if (header === undefined || isDropped[i] === true) return [];
      const weight = (weights[i] ?? 0) * staleness(header);
      return { quantised, factor: (weight * (clips[i] ?? 1)) / totalWeight };
    });
  }

  #weight(author: string): number {
    return this.#weights.get(author) ?? this.#otherWeight;
  }
}

function* addRobust(
  robust: RobustMean,
  { blocks }: RowFormat,
  factor: number,
  sum: Float64Array,
  sign: 1 | -1,
): Generator<number> {
  const scratch = new Float64Array(TILE_COORDINATES);
  for (let block = 0; block < blocks; block += TILE_BLOCKS) {
    const tile = tileOf(sum, block);
    const mean = scratch.subarray(0, tile.length);
    robust.tile(block, mean);
    roundToSteps(mean, factor);
    addSigned(tile, mean, sign);
    yield robust.work(tile.length);
  }
}

/** tile <- tile + sign x steps. */
function addSigned(tile: Float64Array, steps: Float64Array, sign: 1 | -1): void {
  for (let i = 0; i < tile.length; i++) tile[i] = (tile[i] ?? 0) + sign * (steps[i] ?? 0);
}

/** What each row is scaled down by, so that none is longer than clip x the median; no clip, no bound. */
function clipsOf(lengths: readonly number[], clip: number): number[] {
  if (clip === 0) return [];
  const bound = clip * median(lengths.filter((value) => value > 0));
  return lengths.map((length) => (length > bound ? bound / length : 1));
}

/** L2 norm of a row: the square root of the sum of the squared lengths of its scales' parts, each exact, in order. */
function* rowNorm(row: Quantised, format: RowFormat, kernel: Kernel): Generator<number, number> {
  let sum = 0;
  for (let block = 0; block < format.blocks; block += NORM_BLOCKS) {
    const end = Math.min(block + NORM_BLOCKS, format.blocks);
    sum = kernel.addSquares(row, format, block, end, sum);
    yield end - block;
  }
  return Math.sqrt(sum);
}

/** Weight of an update whose base was folded `lag` epochs earlier: 1 up to 2, then 2 / lag. */
export function staleness({ epoch, baseEpoch }: Pick<UpdateHeader, 'epoch' | 'baseEpoch'>): number {
  const lag = epoch - baseEpoch;
  return lag <= 2 ? 1 : 2 / lag;
}

/** The entry of the table that holds at `epoch`: the last whose fromEpoch is not later. */
function alphaAt(phases: readonly AlphaPhase[], epoch: number): AlphaPhase {
  const phase = phases.findLast(({ fromEpoch }) => fromEpoch <= epoch);
  if (phase === undefined) throw new RangeError(`no phase covers epoch ${epoch}`);
  return phase;
}
