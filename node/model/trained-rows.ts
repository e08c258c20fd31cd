/**
 * The output layer over the trained tokens alone: where most tokens are a prompt, most of its work is for nothing.
 * Graphs have static shapes, so that there are places for a number of tokens that is fixed beforehand.
 */
import { IGNORED_TARGET, type TokenBatch } from './token-batch.js';

/** Trained tokens of a batch in the places of one run. */
export interface TrainedRows {
  /** Their positions in the batch, position 0 in places left over: [places] int32. */
  readonly rows: Int32Array;
  /** Their targets, IGNORED_TARGET in places left over: [places] int32. */
  readonly targets: Int32Array;
  /** How many they are, 1 to `places`; 0 only in a batch in which nothing is trained. */
  readonly count: number;
}

/** The trained tokens of `batch` in as few runs as `places` (from 1) allows, at least one. */
export function trainedRows(
  { targets }: Pick<TokenBatch, 'targets'>,
  places: number,
): TrainedRows[] {
  const positions: number[] = [];
  for (const [i, target] of targets.entries()) if (target !== IGNORED_TARGET) positions.push(i);
  const runs = Math.max(1, Math.ceil(positions.length / places));
  return Array.from({ length: runs }, (_, run) => {
    const own = positions.slice(run * places, (run + 1) * places);
    const rows = new Int32Array(places);
    rows.set(own);
    const some = new Int32Array(places).fill(IGNORED_TARGET);
    some.set(own.map((i) => targets[i]!));
    return { rows, targets: some, count: own.length };
  });
}

/** Places are counted in these. */
const PLACES = 32;
/** More than the most that was seen, for what was not seen. */
const MARGIN = 1.1;
/** Where more of a batch is trained, picking its rows saves nothing worth the while. */
const SHARE_MAX = 0.75;

/**
 * Places for batches of so many positions, of which `seen` had so many trained tokens each; null where all
 * positions get one.
 */
export function placesFor(positions: number, seen: Iterable<number>): number | null {
  const most = Math.max(1, ...seen);
  const places = PLACES * Math.ceil((MARGIN * most) / PLACES);
  return places > SHARE_MAX * positions ? null : places;
}
