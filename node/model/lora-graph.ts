/** The adapted layer W x + (alpha / r) B A x (LoRA, Hu et al. 2021) as graph. */
import { adapterLayout, type AdapterSpec, type AdapterTensor } from '../../protocol/adapter.js';
import { constant, input, type Value } from '../engine/graph.js';
import { addMatmul, concat, matmul, mul, reshape, slice } from '../engine/ops/index.js';

/** What the model needs to know of the adapter. */
export type AdapterShape = Pick<AdapterSpec, 'rank' | 'alpha' | 'modules'>;

/** lora_A [r, in] and lora_B [out, r] of one layer, and alpha / r. */
export interface LoraFactors {
  readonly a: Value;
  readonly b: Value;
  readonly scale: number;
  /** Of an adapter that holds several side by side: 1 where a token's expert has the rank, else 0: [N, r]. */
  readonly mask?: Value | undefined;
  /** Told where the layer computes with them; not told of a merged weight. */
  readonly onUse?: ((use: LoraUse) => void) | undefined;
}

/** One adapted layer inside a graph; N tokens. */
export interface LoraUse {
  /** What the layer reads: [N, in]. */
  readonly x: Value;
  /** scale x A^T: [N, r]. */
  readonly low: Value;
  /** What the layer gives, adapter included: [N, out]. */
  readonly y: Value;
}

/** The adapter inside a graph. */
export interface AdapterValues {
  /** By the layer's name. */
  readonly factors: ReadonlyMap<string, LoraFactors>;
  /** The tensors in the order of the flat vector, to differentiate by. */
  readonly tensors: readonly Value[];
}

/** Cuts theta: [adapterSize] float32, the flat adapter, into its tensors. `onUse` is told of each use by the module's name. */
export function sliceAdapter(
  theta: Value,
  adapter: AdapterShape,
  onUse?: (module: string, use: LoraUse) => void,
): AdapterValues {
  return adapterValues(
    adapter,
    ({ offset, length, shape }) => reshape(slice(theta, 0, offset, offset + length), shape),
    onUse,
  );
}

/** As sliceAdapter, of an adapter that is fed tensor by tensor; `name` gives the input of each by its number. */
export function fedAdapter(
  adapter: AdapterShape,
  name: (i: number) => string,
  onUse?: (module: string, use: LoraUse) => void,
): AdapterValues {
  let count = 0;
  return adapterValues(adapter, ({ shape }) => input(name(count++), 'float32', shape), onUse);
}

/** theta: [adapterSize], the flat adapter, as a part of the graph that never changes; it is not copied. */
export function constantAdapter(theta: Float32Array, adapter: AdapterShape): AdapterValues {
  return adapterValues(adapter, ({ offset, length, shape }) =>
    constant(theta.subarray(offset, offset + length), shape),
  );
}

function adapterValues(
  adapter: AdapterShape,
  valueOf: (tensor: AdapterTensor) => Value,
  onUse?: (module: string, use: LoraUse) => void,
): AdapterValues {
  const scale = adapter.alpha / adapter.rank;
  const factors = new Map<string, { a?: Value; b?: Value }>();
  const tensors = adapterLayout(adapter).tensors.map((tensor) => {
    const { module, factor } = tensor;
    const value = valueOf(tensor);
    factors.set(module, { ...factors.get(module), [factor === 'A' ? 'a' : 'b']: value });
    return value;
  });
  const complete = [...factors].map(([module, { a, b }]) => {
    const tell = onUse && ((use: LoraUse): void => onUse(module, use));
    return [module, { a: a!, b: b!, scale, onUse: tell }] as const;
  });
  return { tensors, factors: new Map(complete) };
}

/** W + scale B A: [out, in] float32, the weight that the layer computes with; W without an adapter. */
export function mergedWeight(weight: Value, lora: LoraFactors | undefined): Value {
  return lora === undefined ? weight : addMatmul(weight, lora.b, lora.a, { alpha: lora.scale });
}

/**
 * scale x A^T: [N, r] for each of the layers that read x: [N, in], null for those without an adapter. They are parts of
 * one product, for which x is read once, and so is it for the gradient by all of their A. `loras` are of one adapter.
 */
export function lowRankParts(
  x: Value,
  loras: readonly (LoraFactors | undefined)[],
): (Value | null)[] {
  const adapted = loras.filter((lora) => lora !== undefined);
  const [first] = adapted;
  if (first === undefined) return loras.map(() => null);
  const factors = adapted.map(({ a }) => a);
  const stacked = factors.length === 1 ? first.a : concat(factors, 0); // [layers r, in]
  const all = matmul(x, stacked, { transB: true, alpha: first.scale }); // [N, layers r]
  const { mask } = first;
  const low =
    mask === undefined
      ? all
      : mul(
          all,
          concat(
            adapted.map(() => mask),
            1,
          ),
        );
  const [rank] = first.a.shape as [number, number];
  let start = 0;
  return loras.map((lora) => {
    if (lora === undefined) return null;
    start += rank;
    return adapted.length === 1 ? low : slice(low, 1, start - rank, start);
  });
}

/** y: [N, out], what a layer's own weight makes of x: [N, in] -> the same with its adapter. `low`: of lowRankParts. */
export function adapted(
  x: Value,
  y: Value,
  lora: LoraFactors | undefined,
  low: Value | null,
): Value {
  if (lora === undefined || low === null) return y;
  const sum = addMatmul(y, low, lora.b, { transB: true });
  lora.onUse?.({ x, low, y: sum });
  return sum;
}
