/**
 * Nodes that ONNX Runtime computes in one kernel on the CPU and for which its WebGPU provider has none
 * (1.30; it would leave them, all matrix products among them, to the CPU), written with nodes that it has; and
 * bfloat16, which WebGPU does not have, as float16.
 */
import type { OnnxAttribute, OnnxEmitter, OnnxNodeOptions } from '../operation.js';

/** TensorProto.DataType. */
const FLOAT16 = 10;

/** `emit`, without FusedMatMul, LogSoftmax and bfloat16. `rankOf` knows the rank of every tensor by its name. */
export function standardOperators(
  emit: OnnxEmitter,
  rankOf: (name: string) => number,
): OnnxEmitter {
  const halves = new Halves(emit);
  return {
    gathersCodes: false,
    sharesPieces: emit.sharesPieces,
    int64: (values) => emit.int64(values),
    float: (value) => emit.float(value),
    stored(weight, from, to, options = {}) {
      if (weight.storage !== 'BF16') return emit.stored(weight, from, to, options);
      const { elements } = emit.stored(weight, from, to, { ...options, isFixed: true });
      return { elements: halves.of(elements), scales: null };
    },
    node(opType, inputs, options = {}) {
      const isHalf = opType === 'Cast' && halves.has(inputs[0]!);
      if (isHalf) return halves.negatedFloats(inputs[0]!, options);
      const signed = signedOptions(opType, inputs, options, halves);
      if (opType === 'FusedMatMul') return product(emit, rankOf, inputs, signed);
      if (opType === 'LogSoftmax') return logSoftmax(emit, inputs[0]!, options);
      return emit.node(opType, inputs, signed);
    },
  };
}

/**
 * Matrices of bfloat16 as float16, which ONNX Runtime makes of them once, when the graph is compiled. It would make float32
 * of that at once as well, and keep it; but it can't negate float16 on the CPU. So the device negates the matrix in each run
 * before it makes float32 of it, and the product with that gets the other sign.
 */
class Halves {
  private readonly known = new Map<string, string>();
  private readonly names = new Set<string>();
  private readonly negated = new Set<string>();

  constructor(private readonly emit: OnnxEmitter) {}

  /** The float16 of the bfloat16 matrix `name`. */
  of(name: string): string {
    const known = this.known.get(name);
    if (known !== undefined) return known;
    const attributes = { to: { int: FLOAT16 } };
    const half = this.emit.node('Cast', [name], { isEarly: true, rank: 2, attributes });
    this.known.set(name, half);
    this.names.add(half);
    return half;
  }

  has(name: string): boolean {
    return this.names.has(name);
  }

  /** -`half` as float32; `options` are those of the Cast that would make `half` float32. */
  negatedFloats(half: string, options: OnnxNodeOptions): string {
    const negated = this.emit.node('Neg', [half], { isEarly: true, rank: 2 });
    const floats = this.emit.node('Cast', [negated], options);
    this.negated.add(floats);
    return floats;
  }

  isNegated(name: string): boolean {
    return this.negated.has(name);
  }
}

/** `options` with the other sign where the right factor of a product is negated. */
function signedOptions(
  opType: string,
  inputs: readonly string[],
  options: OnnxNodeOptions,
  halves: Halves,
): OnnxNodeOptions {
  const negated = inputs.filter((name) => halves.isNegated(name));
  if (negated.length === 0) return options;
  const isProduct = opType === 'FusedMatMul' || opType === 'Gemm';
  if (isProduct && negated.length === 1 && negated[0] === inputs[1]) return withAlpha(options, -1);
  throw new TypeError(`${opType} would read a matrix with the wrong sign`);
}

/** `options` of a product, for `factor` times it. */
function withAlpha(options: OnnxNodeOptions, factor: number): OnnxNodeOptions {
  const { attributes = {} } = options;
  const { alpha } = attributes;
  const float = factor * (alpha !== undefined && 'float' in alpha ? alpha.float : 1);
  return { ...options, attributes: { ...attributes, alpha: { float } } };
}

/** alpha op(a) op(b): Gemm for two matrices, else MatMul of what is transposed before. */
function product(
  emit: OnnxEmitter,
  rankOf: (name: string) => number,
  inputs: readonly string[],
  { attributes = {}, output }: OnnxNodeOptions,
): string {
  const named = output === undefined ? {} : { output };
  const ranks = inputs.map(rankOf);
  if (ranks.every((rank) => rank === 2)) return emit.node('Gemm', inputs, { ...named, attributes });
  const [a, b] = ['transA', 'transB'].map((flag, i) =>
    isSet(attributes[flag]) ? transposed(emit, inputs[i]!, ranks[i]!) : inputs[i]!,
  ) as [string, string];
  const alpha = attributes['alpha'];
  if (alpha === undefined || !('float' in alpha) || alpha.float === 1) {
    return emit.node('MatMul', [a, b], named);
  }
  return emit.node('Mul', [emit.node('MatMul', [a, b]), emit.float(alpha.float)], named);
}

function isSet(flag: OnnxAttribute | undefined): boolean {
  return flag !== undefined && 'int' in flag && flag.int === 1;
}

/** The last two axes swapped. */
function transposed(emit: OnnxEmitter, name: string, rank: number): string {
  const axes = Array.from({ length: rank }, (_, axis) => axis);
  const perm = { ints: [...axes.slice(0, -2), rank - 1, rank - 2] };
  return emit.node('Transpose', [name], { attributes: { perm } });
}

/** x - max x - ln sum e^(x - max x) over the last axis. */
function logSoftmax(emit: OnnxEmitter, x: string, { output }: OnnxNodeOptions): string {
  const last = emit.int64([-1]);
  const shifted = emit.node('Sub', [x, emit.node('ReduceMax', [x, last])]);
  const sum = emit.node('ReduceSum', [emit.node('Exp', [shifted]), last]);
  const options = output === undefined ? {} : { output };
  return emit.node('Sub', [shifted, emit.node('Log', [sum])], options);
}
