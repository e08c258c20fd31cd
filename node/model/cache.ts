/**
 * The key/value cache inside a graph: what attention remembers of the tokens that earlier runs have read.
 * It is fed and never changes there; the graph returns the rows of its own tokens, to be written into it.
 */
import { constant, input, scalar, type Value } from '../engine/graph.js';
import { concat, expand, lessThan, reshape, select } from '../engine/ops/index.js';
import { MASKED } from '../engine/ops/causal-attention-plan.js';

/** Keys and values of one layer: [1, KV, any, D] float32 each. */
export interface KeysAndValues {
  readonly keys: Value;
  readonly values: Value;
}

/** Collects the inputs and outputs of one graph while its layers are built in order. */
export class KeyValueCache {
  /** Of the tokens of this graph, by the name of the input that they go to: [1, KV, T, D] float32. */
  readonly rows: Record<string, Value> = {};
  private layers = 0;

  /**
   * `capacity`: tokens that fit. `held`: [1] int32, how many the cache holds: an input, as WebGPU would leave it to the CPU
   * to take it out of the positions.
   */
  constructor(
    readonly capacity: number,
    private readonly held: Value,
  ) {}

  /**
   * positions: [1, T] int32 -> [1, 1, T, capacity] float32: 0 for the tokens that the cache holds, with `window` only where the position still sees them, else MASKED.
   */
  mask(positions: Value, window: number | null): Value {
    const { capacity } = this;
    const T = positions.shape[1]!;
    const placesFrom = (first: number): Value =>
      constant(
        Int32Array.from({ length: capacity }, (_, place) => first + place),
        [1, 1, 1, capacity],
      );
    const held = reshape(this.held, [1, 1, 1, 1]);
    const filled = select(lessThan(placesFrom(0), held), scalar(0), scalar(MASKED));
    if (window === null) return expand(filled, [1, 1, T, capacity]);
    // A token is in sight until `window` positions later.
    const near = lessThan(reshape(positions, [1, 1, T, 1]), placesFrom(window));
    return select(near, filled, scalar(MASKED));
  }

  /** The next layer's keys and values, those of earlier tokens first: [1, KV, capacity + T, D]. */
  extend({ keys, values }: KeysAndValues): KeysAndValues {
    const layer = this.layers++;
    return {
      keys: this.append(`keys of layer ${layer}`, keys),
      values: this.append(`values of layer ${layer}`, values),
    };
  }

  private append(name: string, rows: Value): Value {
    this.rows[name] = rows;
    const [B, heads, , D] = rows.shape as [number, number, number, number];
    return concat([input(name, 'float32', [B, heads, this.capacity, D]), rows], 2);
  }
}
