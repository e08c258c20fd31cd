/**
 * How the flat adapter enters a graph: tensor by tensor where the executor reads arrays where they lie, so that the graph
 * holds no slices of it; else whole, for one transfer to a device is quicker than hundreds. Its gradient leaves whole
 * everywhere: with an output for each tensor ONNX Runtime held up to 80 MB more of what lies in between.
 */
import { adapterLayout, type AdapterTensor } from '../../protocol/adapter.js';
import type { Feeds } from '../engine/executor.js';
import { input } from '../engine/graph.js';
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
  /** Null where the adapter comes whole. */
  readonly #tensors: readonly AdapterTensor[] | null;

  constructor(adapter: AdapterShape, { isInPlace }: { isInPlace: boolean }) {
    const { size, tensors } = adapterLayout(adapter);
    this.size = size;
    this.#adapter = adapter;
    this.#tensors = isInPlace ? tensors : null;
  }

  /** The adapter inside a graph; `onUse` as sliceAdapter. */
  values(onUse?: (module: string, use: LoraUse) => void): AdapterValues {
    if (this.#tensors !== null) return fedAdapter(this.#adapter, nameOf, onUse);
    return sliceAdapter(input('theta', 'float32', [this.size]), this.#adapter, onUse);
  }

  /** What a graph with values() is fed. theta: [size] float32. */
  feeds(theta: Float32Array): Feeds {
    if (this.#tensors === null) return { theta };
    const parts = this.#tensors.map(({ offset, length }, i) => [
      nameOf(i),
      theta.subarray(offset, offset + length),
    ]);
    return Object.fromEntries(parts) as Feeds;
  }
}

function nameOf(i: number): string {
  return `theta.${i}`;
}
