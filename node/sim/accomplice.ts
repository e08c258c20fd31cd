/** What hostile peers know of the honest ones, and what one of them needs to send messages of its own. */
import type { Run } from '../../protocol/manifest.js';
import type { SimNode } from './swarm.js';

/** The honest deltas of one epoch, and their sums by coordinate. */
interface Sums {
  count: number;
  sum: Float64Array;
  squares: Float64Array;
  /** Half as much memory as float64, and near enough for whoever hides between them. */
  rows: Float32Array[];
}

/** What hostile peers see of one epoch, [adapterSize] each. */
export interface HonestRows {
  mean: Float64Array;
  deviation: Float64Array;
  rows: readonly Float32Array[];
}

/** All honest deltas. */
export class Spying {
  readonly #epochs = new Map<number, Sums>();

  record(epoch: number, delta: Float64Array): void {
    const size = delta.length;
    const sums = this.#epochs.get(epoch) ?? {
      count: 0,
      sum: new Float64Array(size),
      squares: new Float64Array(size),
      rows: [],
    };
    sums.count += 1;
    sums.rows.push(Float32Array.from(delta));
    for (let i = 0; i < size; i++) {
      const value = delta[i] ?? 0;
      sums.sum[i] = (sums.sum[i] ?? 0) + value;
      sums.squares[i] = (sums.squares[i] ?? 0) + value * value;
    }
    this.#epochs.set(epoch, sums);
  }

  /** By coordinate over the honest peers that have trained in `epoch`; null when none has. */
  honest(epoch: number): HonestRows | null {
    const sums = this.#epochs.get(epoch);
    if (sums === undefined) return null;
    const mean = sums.sum.map((value) => value / sums.count);
    const deviation = sums.squares.map((value, i) =>
      Math.sqrt(Math.max(0, value / sums.count - (mean[i] ?? 0) ** 2)),
    );
    return { mean, deviation, rows: sums.rows };
  }
}

/** A hostile peer beside its process: its key, its disk, its connections. */
export interface Accomplice {
  node: SimNode;
  run: Run;
  spying: Spying;
  /** Peer ids of all honest members, in order. */
  honest: readonly string[];
}
