/**
 * The gradient of each example by itself, in one graph. Layers compute with all examples together, as in training; the
 * gradient of a low-rank factor is a product over tokens, and is summed over those of one example only: with
 * y = x W^T + (s x A^T) B^T, dA_i = s (dy_i B)^T x_i and dB_i = dy_i^T (s x_i A^T), where i takes the rows of example i.
 */
import { gradients } from '../engine/autodiff.js';
import { scalar, type Value } from '../engine/graph.js';
import { concat, div, matmul, maximum, reshape, sum } from '../engine/ops/index.js';
import type { AdapterShape, AdapterValues, LoraUse } from './lora-graph.js';
import type { LossInputs } from './loss-head.js';
import { tokenLosses } from './token-losses.js';

/** hidden: [N, C], table: [V, C] float32, targets: [B, T] int32, N = B T -> mean nats of each row, [B] float32. */
export function exampleLosses({ hidden, table, targets, product }: LossInputs): Value {
  const { nats, trained } = tokenLosses(hidden, table, targets, product);
  const perExample = (value: Value): Value => sum(reshape(value, targets.shape), [1]);
  return div(perExample(nats), maximum(perExample(trained), scalar(1)));
}

/**
 * losses: [B] -> d losses_i / d theta: [B, adapterSize] float32. `uses`: where each module computes. Throws RangeError
 * for a module that is used elsewhere (merged into the output layer), unless B is 1.
 */
export function exampleGradients(
  losses: Value,
  { tensors, factors }: AdapterValues,
  uses: ReadonlyMap<string, LoraUse>,
  { modules }: AdapterShape,
): Value {
  const [B] = losses.shape as [number];
  const loss = sum(losses, [0]);
  if (B === 1) return flatRows(gradients(loss, tensors), 1);
  const used = modules.map(({ name }) => {
    const use = uses.get(name);
    if (use === undefined) {
      throw new RangeError(`examples cannot be told apart in ${name}: take one at a time`);
    }
    return { ...use, scale: factors.get(name)!.scale };
  });
  const upstreams = gradients(
    loss,
    used.flatMap(({ low, y }) => [low, y]),
  );
  const parts = used.flatMap(({ x, low, scale }, i) => {
    const perExample = (value: Value): Value =>
      reshape(value, [B, value.shape[0]! / B, value.shape[1]!]); // [B, T, features]
    const [dLow, dy] = [upstreams[2 * i]!, upstreams[2 * i + 1]!];
    return [
      matmul(perExample(dLow), perExample(x), { transA: true, alpha: scale }), // [B, r, in]
      matmul(perExample(dy), perExample(low), { transA: true }), // [B, out, r]
    ];
  });
  return flatRows(parts, B);
}

/** Values of B rows each, or the parts of one row -> [B, all of their elements]. */
function flatRows(parts: readonly Value[], B: number): Value {
  const rows = parts.map((part) =>
    reshape(part, [B, part.shape.reduce((product, n) => product * n, 1) / B]),
  );
  return concat(rows, 1);
}
