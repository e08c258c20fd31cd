/**
 * Reverse-mode differentiation over the graph: the backward pass is more graph (Linnainmaa 1970; Griewank
 * and Walther, "Evaluating Derivatives"). Only values on a path from `wrt` to the loss get a gradient, so
 * frozen weights cost nothing.
 */
import { ShapeError } from './errors.js';
import {
  apply,
  constant,
  describeType,
  elementCount,
  sameShape,
  scalar,
  topologicalOrder,
  type Value,
} from './graph.js';
import { reshape } from './ops/broadcast.js';
import { add, mul } from './ops/elementwise.js';
import { joinPadded, slice } from './ops/layout.js';
import { addMatmul, matmulFactors } from './ops/matmul.js';

/** What `propagate` may be told. */
export interface PropagateOptions {
  /**
   * Values of one chain, each of which the next depends on. What lies between two of them is not kept for the
   * backward pass but computed again there from the earlier one (checkpointing: Chen et al. 2016, 1604.06174).
   */
  readonly stages?: readonly Value[];
}

/**
 * d loss / d w for each w of `wrt`, in that order, with w's shape (zeros when the loss does not depend
 * on w). `loss` is float32 with one element. Throws ShapeError for a loss that is not a scalar or a w
 * that is not float32.
 */
export function gradients(
  loss: Value,
  wrt: readonly Value[],
  options: PropagateOptions = {},
): Value[] {
  if (loss.dtype !== 'float32' || elementCount(loss.shape) !== 1) {
    throw new ShapeError(`gradients of ${describeType(loss)}: the loss must be one float32`);
  }
  return propagate(new Map([[loss, constant(Float32Array.of(1), loss.shape)]]), wrt, options);
}

/**
 * As `gradients`, of a loss that is not at hand: `known` holds d loss / d v for values v that lie between it
 * and `wrt` and do not depend on each other.
 */
export function propagate(
  known: ReadonlyMap<Value, Value>,
  wrt: readonly Value[],
  { stages = [] }: PropagateOptions = {},
): Value[] {
  for (const value of wrt) {
    if (value.dtype !== 'float32') {
      throw new ShapeError(`gradients by ${describeType(value)}: only float32 has a gradient`);
    }
  }
  const order = topologicalOrder([...known.keys()]);
  const active = dependents(order, new Set(wrt));
  const upstreams = new Map(known);
  const memory = new StageMemory(order, stages);
  for (const value of order.reverse()) {
    const upstream = upstreams.get(value);
    if (upstream === undefined || !active.has(value) || value.source.kind !== 'operation') continue;
    memory.reach(value, upstream);
    const { operation, inputs, attributes } = value.source;
    const parts = operation.gradient({
      inputs: inputs.map((one) => memory.recall(one)),
      attributes,
      output: memory.recall(value),
      upstream,
    });
    for (const [i, one] of inputs.entries()) {
      const part = parts[i];
      if (part === undefined || part === null || !active.has(one)) continue;
      if (!sameShape(part.shape, one.shape)) {
        throw new ShapeError(
          `gradient of ${operation.name}, input ${i}: ${describeType(part)} for ${describeType(one)}`,
        );
      }
      const sofar = upstreams.get(one);
      upstreams.set(one, sofar === undefined ? part : accumulate(sofar, part));
    }
  }
  return wrt.map(
    (value) =>
      upstreams.get(value) ?? constant(new Float32Array(elementCount(value.shape)), value.shape),
  );
}

/** What the backward pass reads of the forward pass: values that were kept, or that are computed again. */
class StageMemory {
  private readonly numbers: ReadonlyMap<Value, number>;
  /** The number of the last stage that a value depends on; absent for those before the first. */
  private readonly stageOf = new Map<Value, number>();
  /** The stage from which values are computed again; null as long as those after the last are read, which are kept. */
  private current: number | null = null;
  private readonly copies = new Map<Value, Value>();

  constructor(
    order: readonly Value[],
    private readonly stages: readonly Value[],
  ) {
    this.numbers = new Map(stages.map((stage, i) => [stage, i]));
    for (const value of order) {
      const inputs = value.source.kind === 'operation' ? value.source.inputs : [];
      const before = Math.max(-1, ...inputs.map((one) => this.stageOf.get(one) ?? -1));
      const stage = this.numbers.get(value) ?? before;
      if (stage >= 0) this.stageOf.set(value, stage);
    }
  }

  /** The backward pass comes to `value`: at a stage, it goes on with what lies before that. */
  reach(value: Value, upstream: Value): void {
    const number = this.numbers.get(value);
    if (number === undefined || number === 0) return;
    this.current = number - 1;
    this.copies.clear();
    const stage = this.stages[this.current]!;
    // Else an executor might compute everything again at once, and keep it.
    this.copies.set(stage, after(stage, upstream));
  }

  /** `value`, or the copy of it that is computed again. */
  recall(value: Value): Value {
    const known = this.copies.get(value);
    if (known !== undefined) return known;
    const { source } = value;
    if (this.current === null || this.stageOf.get(value) !== this.current) return value;
    if (source.kind !== 'operation') return value;
    const inputs = source.inputs.map((one) => this.recall(one));
    const copy = apply(source.operation, inputs, source.attributes);
    this.copies.set(value, copy);
    return copy;
  }
}

/**
 * `value`, once all of `earlier` is there: an executor takes the nodes in an order of its own, but none before what
 * it reads. All float32; NaN where the first element of one of `earlier` is not finite.
 */
export function after(value: Value, ...earlier: readonly Value[]): Value {
  return earlier.reduce((sofar, one) => {
    const first = slice(reshape(one, [elementCount(one.shape)]), 0, 0, 1);
    return add(sofar, mul(first, scalar(0)));
  }, value);
}

/** The values of `order` that depend on one of `roots`, themselves included. */
function dependents(order: readonly Value[], roots: ReadonlySet<Value>): Set<Value> {
  const active = new Set<Value>();
  for (const value of order) {
    const inputs = value.source.kind === 'operation' ? value.source.inputs : [];
    if (roots.has(value) || inputs.some((one) => active.has(one))) active.add(value);
  }
  return active;
}

/**
 * sofar + part; a product of two matrices is added while it is computed, and the gradients of slices that lie side
 * by side are joined.
 */
function accumulate(sofar: Value, part: Value): Value {
  const joined = joinPadded(sofar, part);
  if (joined !== null) return joined;
  const factors = matmulFactors(part);
  if (factors === null || part.shape.length !== 2) return add(sofar, part);
  return addMatmul(sofar, factors.a, factors.b, factors.attributes);
}
