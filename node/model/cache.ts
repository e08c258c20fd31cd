/**
 * The key/value cache inside a graph: what attention remembers of the tokens that earlier runs have read.
 * It is fed and never changes there; the graph returns the rows of its own tokens, to be written into it.
 */
import { ExecutorError } from '../engine/errors.js';
import type { CompiledGraph, Feeds, TensorData } from '../engine/executor.js';
import { constant, elementCount, input, scalar, type Value } from '../engine/graph.js';
import { concat, expand, lessThan, reshape, select } from '../engine/ops/index.js';
import { MASKED } from '../engine/ops/causal-attention-plan.js';

/** Keys and values of one layer: [B, KV, any, D] float32 each. */
export interface KeysAndValues {
  readonly keys: Value;
  readonly values: Value;
}

/** Collects the inputs and outputs of one graph while its layers are built in order. */
export class KeyValueCache {
  /** Of the tokens of this graph, by the name of the input that they go to: [B, KV, T, D] float32. */
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
   * positions: [B, T] int32 -> [B, 1, T, capacity] float32: 0 for the tokens that the cache holds, with `window` only
   * where the position still sees them, else MASKED.
   */
  mask(positions: Value, window: number | null): Value {
    const { capacity } = this;
    const [B, T] = positions.shape as [number, number];
    const placesFrom = (first: number): Value =>
      constant(
        Int32Array.from({ length: capacity }, (_, place) => first + place),
        [1, 1, 1, capacity],
      );
    const held = reshape(this.held, [1, 1, 1, 1]);
    const filled = select(lessThan(placesFrom(0), held), scalar(0), scalar(MASKED));
    if (window === null) return expand(filled, [B, 1, T, capacity]);
    // A token is in sight until `window` positions later.
    const near = lessThan(reshape(positions, [B, 1, T, 1]), placesFrom(window));
    return select(near, filled, scalar(MASKED));
  }

  /** The next layer's keys and values, those of earlier tokens first: [B, KV, capacity + T, D]. */
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

/** The caches of one reader of a graph, outside of it. */
export class HeldKeys {
  /** By the name of the input, [B, KV, capacity, D] float32 each. */
  private readonly arrays = new Map<string, Float32Array>();

  /** `rows`: see KeyValueCache. */
  constructor(
    graph: CompiledGraph,
    private readonly rows: Readonly<Record<string, Value>>,
  ) {
    for (const name of Object.keys(rows)) {
      const type = graph.inputs.get(name);
      if (type === undefined) throw new ExecutorError(`the graph has no input "${name}"`);
      this.arrays.set(name, new Float32Array(elementCount(type.shape)));
    }
  }

  /** What the graph is fed. */
  get feeds(): Feeds {
    return Object.fromEntries(this.arrays);
  }

  /** Writes the first `count` tokens of each head, of data: [B, KV, T, D], to those from `place` on. */
  write(data: Readonly<Record<string, TensorData>>, place: number, count: number): void {
    for (const [name, target] of this.arrays) {
      const [B, KV, T, D] = this.rows[name]!.shape as [number, number, number, number];
      const capacity = target.length / (B * KV * D);
      for (let head = 0; head < B * KV; head++) {
        const start = head * T * D;
        const tokens = data[name]!.subarray(start, start + count * D);
        target.set(tokens, (head * capacity + place) * D);
      }
    }
  }
}
