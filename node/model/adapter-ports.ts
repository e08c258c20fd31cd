/**
 * How the flat adapter enters a graph, and how its gradient leaves it: tensor by tensor where the executor reads and
 * writes arrays where they lie, so that the graph holds no copy of either; else whole, for one transfer to a device is
 * quicker than hundreds.
 */
import { adapterLayout, type AdapterTensor } from '../../protocol/adapter.js';
import type { Feeds } from '../engine/executor.js';
import { input, type Value } from '../engine/graph.js';
import { concat, reshape } from '../engine/ops/index.js';
import {
  fedAdapter,
  sliceAdapter,
  type AdapterShape,
  type AdapterValues,
  type LoraUse,
} from './lora-graph.js';

export class AdapterPorts {
  /** Coordinates of the flat adapter. */
  readonly size: number;
  readonly #adapter: AdapterShape;
  /** Null where the adapter comes and goes whole. */
  readonly #tensors: readonly AdapterTensor[] | null;

  constructor(adapter: AdapterShape, { isInPlace }: { isInPlace: boolean }) {
    const { size, tensors } = adapterLayout(adapter);
    this.size = size;
    this.#adapter = adapter;
    this.#tensors = isInPlace ? tensors : null;
  }

  /** The adapter inside a graph; `onUse` as sliceAdapter. */
  values(onUse?: (module: string, use: LoraUse) => void): AdapterValues {
    if (this.#tensors !== null) return fedAdapter(this.#adapter, nameOf('theta'), onUse);
    return sliceAdapter(input('theta', 'float32', [this.size]), this.#adapter, onUse);
  }

  /** What a graph with values() is fed. */
  feeds(theta: Float32Array): Feeds {
    return this.#parts('theta', theta);
  }

  /** The outputs of a graph that gives the gradient of each tensor, in their order. */
  outputs(gradients: readonly Value[]): Record<string, Value> {
    if (this.#tensors === null) return { gradient: flattened(gradients) };
    const name = nameOf('gradient');
    return Object.fromEntries(gradients.map((gradient, i) => [name(i), gradient]));
  }

  /** Where these outputs go so that they are one flat gradient. */
  places(gradient: Float32Array): Record<string, Float32Array> {
    return this.#parts('gradient', gradient);
  }

  #parts(what: string, flat: Float32Array): Record<string, Float32Array> {
    if (this.#tensors === null) return { [what]: flat };
    const name = nameOf(what);
    return Object.fromEntries(
      this.#tensors.map(({ offset, length }, i) => [
        name(i),
        flat.subarray(offset, offset + length),
      ]),
    );
  }
}

function nameOf(what: string): (i: number) => string {
  return (i) => `${what}.${i}`;
}

/** One after another: [size] float32. */
function flattened(parts: readonly Value[]): Value {
  const flat = parts.map((part) =>
    reshape(part, [part.shape.reduce((product, n) => product * n, 1)]),
  );
  return concat(flat, 0);
}
