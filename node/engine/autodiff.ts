/**
 * Reverse-mode differentiation over the graph: the backward pass is more graph (Linnainmaa 1970; Griewank
 * and Walther, "Evaluating Derivatives"). Only values on a path from `wrt` to the loss get a gradient, so
 * frozen weights cost nothing.
 */
import { ShapeError } from './errors.js';
import {
  constant,
  describeType,
  elementCount,
  sameShape,
  topologicalOrder,
  type Value,
} from './graph.js';
import { add } from './ops/elementwise.js';
import { joinPadded } from './ops/layout.js';
import { addMatmul, matmulFactors } from './ops/matmul.js';

/**
 * d loss / d w for each w of `wrt`, in that order, with w's shape (zeros when the loss does not depend
 * on w). `loss` is float32 with one element. Throws ShapeError for a loss that is not a scalar or a w
 * that is not float32.
 */
export function gradients(loss: Value, wrt: readonly Value[]): Value[] {
  if (loss.dtype !== 'float32' || elementCount(loss.shape) !== 1) {
    throw new ShapeError(`gradients of ${describeType(loss)}: the loss must be one float32`);
  }
  for (const value of wrt) {
    if (value.dtype !== 'float32') {
      throw new ShapeError(`gradients by ${describeType(value)}: only float32 has a gradient`);
    }
  }
  const order = topologicalOrder([loss]);
  const active = dependents(order, new Set(wrt));
  const upstreams = new Map<Value, Value>([[loss, constant(Float32Array.of(1), loss.shape)]]);
  for (const value of order.reverse()) {
    const upstream = upstreams.get(value);
    if (upstream === undefined || !active.has(value) || value.source.kind !== 'operation') continue;
    const { operation, inputs, attributes } = value.source;
    const parts = operation.gradient({ inputs, attributes, output: value, upstream });
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
