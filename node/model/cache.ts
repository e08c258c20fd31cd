/**
 * The key/value cache inside a graph: what attention remembers of the tokens that earlier runs have read.
 * It is fed and never changes there; the graph returns the rows of its own tokens, to be written into it.
 */
import { constant, input, scalar, type Value } from '../engine/graph.js';
import { concat, expand, lessThan, reshape, select, slice } from '../engine/ops/index.js';
import { MASKED } from './attention.js';

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

  /** `capacity`: tokens that fit. */
  constructor(readonly capacity: number) {}

  /**
   * positions: [1, T] int32, of which the first says how many tokens the cache holds -> [1, 1, 1, T,
   * capacity] float32: 0 for those, else MASKED.
   */
  mask(positions: Value): Value {
    const { capacity } = this;
    const places = constant(
      Int32Array.from({ length: capacity }, (_, place) => place),
      [1, 1, 1, 1, capacity],
    );
    const held = reshape(slice(positions, 1, 0, 1), [1, 1, 1, 1, 1]);
    const seen = select(lessThan(places, held), scalar(0), scalar(MASKED));
    return expand(seen, [1, 1, 1, positions.shape[1]!, capacity]);
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
