/** The operations of attention over long sequences: cases of several blocks, and what plain loops compute. */
import { input, type Value } from '../../node/engine/graph.js';
import { causalAttention, causalAttentionGradient } from '../../node/engine/ops/index.js';
import type { CausalAttentionAttributes } from '../../node/engine/ops/causal-attention-plan.js';
import type { Operand, OperationCase } from './operands.js';
import { Plain, total } from './tensors.js';

/** Features of one head. */
const D = 2;

interface Shape extends CausalAttentionAttributes {
  readonly B: number;
  /** More than one block has rows, and no multiple of them. */
  readonly T: number;
}

const PACKED: Shape = { B: 2, T: 35, heads: 4, keyValueHeads: 2, alpha: 0.7, window: 0, cap: 0 };
const WINDOW: Shape = { B: 1, T: 35, heads: 2, keyValueHeads: 2, alpha: 0.7, window: 9, cap: 0.8 };

function floats(shape: readonly number[], gradient: boolean): Operand {
  return { shape, dtype: 'float32', gradient, draw: (random) => 2 * random.nextFloat() - 1 };
}

/**
 * q, k, v and positions, some of which are larger than the number of tokens before. Differences by k alone: the gradient's
 * own cases have all of it, and TensorFlow.js is slow.
 */
function operands({ B, T, heads, keyValueHeads }: Shape, gradient: boolean): Operand[] {
  const [q, kv] = [
    [B, T, heads * D],
    [B, T, keyValueHeads * D],
  ] as const;
  const positions: Operand = {
    ...{ shape: [B, T], dtype: 'int32', gradient: false },
    draw: (random) => Math.floor(T * random.nextFloat() ** 2),
  };
  return [floats(q, false), floats(kv, gradient), floats(kv, false), positions];
}

/** The probabilities of row (b, t, h) by key, 0 for what it does not see, and how they grow with q k. */
function probabilities(
  [q, k, , positions]: readonly Plain[],
  { heads, keyValueHeads, alpha, window, cap }: Shape,
  [b, t, h]: readonly [number, number, number],
): { row: number[]; slopes: number[] } {
  const own = Math.floor((h * keyValueHeads) / heads);
  const reach = positions!.at(b, t);
  const keys = Array.from({ length: t + 1 }, (_, s) => s);
  const free = keys.map(
    (s) => alpha * total(D, (d) => q!.at(b, t, h * D + d) * k!.at(b, s, own * D + d)),
  );
  const tanhs = free.map((score) => Math.tanh(score / cap));
  const scores = cap === 0 ? free : tanhs.map((tanh) => cap * tanh);
  const weights = keys.map((s) =>
    t - s > reach || (window > 0 && t - s >= window) ? 0 : Math.exp(scores[s]!),
  );
  const whole = total(weights.length, (s) => weights[s]!);
  return {
    row: weights.map((weight) => weight / whole),
    slopes: tanhs.map((tanh) => alpha * (cap === 0 ? 1 : 1 - tanh ** 2)),
  };
}

function expectedContext(inputs: readonly Plain[], shape: Shape): Plain {
  const { B, T, heads, keyValueHeads } = shape;
  return Plain.from([B, T, heads * D], (b, t, i) => {
    const [h, d] = [Math.floor(i / D), i % D];
    const own = Math.floor((h * keyValueHeads) / heads);
    const { row } = probabilities(inputs, shape, [b, t, h]);
    return total(row.length, (s) => row[s]! * inputs[2]!.at(b, s, own * D + d));
  });
}

/** By q, k and v side by side, of upstream gradient `up`: what the result would be plays no part. */
function expectedGradient(inputs: readonly Plain[], shape: Shape): Plain {
  const { B, T, heads, keyValueHeads } = shape;
  const [q, k, v, , , up] = inputs as [Plain, Plain, Plain, Plain, Plain, Plain];
  const [queries, keys] = [heads * D, keyValueHeads * D];
  const width = queries + 2 * keys;
  const sums = new Float64Array(B * T * width);
  const add = (b: number, t: number, i: number, value: number): void => {
    sums[(b * T + t) * width + i]! += value;
  };
  Plain.from([B, T, heads], (b, t, h) => {
    const own = Math.floor((h * keyValueHeads) / heads) * D;
    const { row, slopes: factors } = probabilities(inputs, shape, [b, t, h]);
    const slopes = row.map((_, s) => total(D, (d) => up.at(b, t, h * D + d) * v.at(b, s, own + d)));
    const mean = total(row.length, (s) => row[s]! * slopes[s]!);
    for (const [s, p] of row.entries()) {
      const slope = factors[s]! * p * (slopes[s]! - mean);
      for (let d = 0; d < D; d++) {
        add(b, t, h * D + d, slope * k.at(b, s, own + d));
        add(b, s, queries + own + d, slope * q.at(b, t, h * D + d));
        add(b, s, queries + keys + own + d, p * up.at(b, t, h * D + d));
      }
    }
    return 0;
  });
  return new Plain([B, T, width], [...sums]);
}

const attend = ([q, k, v, positions]: readonly Value[], shape: Shape): Value =>
  causalAttention([q!, k!, v!], positions!, shape);

/** The gradient takes the result of causalAttention, which is computed here. */
const attendBack = (inputs: readonly Value[], shape: Shape): Value => {
  const [q, k, v, positions, up] = inputs as [Value, Value, Value, Value, Value];
  return causalAttentionGradient([q, k, v, positions, attend(inputs, shape), up], shape);
};

export const ATTENTION: readonly OperationCase[] = [
  ...[PACKED, WINDOW].map((shape) => ({
    operation: 'causalAttention',
    what: shape.window === 0 ? 'packed rows, grouped queries' : 'a window, bounded scores',
    inputs: operands(shape, shape.window > 0),
    build: (inputs: readonly Value[]) => attend(inputs, shape),
    expected: (inputs: readonly Plain[]) => expectedContext(inputs, shape),
  })),
  ...[PACKED, WINDOW].map((shape) => ({
    operation: 'causalAttentionGradient',
    what: shape.window === 0 ? 'packed rows, grouped queries' : 'a window, bounded scores',
    inputs: [...operands(shape, false), floats([shape.B, shape.T, shape.heads * D], false)],
    build: (inputs: readonly Value[]) => attendBack(inputs, shape),
    expected: ([q, k, v, positions, up]: readonly Plain[]) =>
      expectedGradient([q!, k!, v!, positions!, up!, up!], shape),
  })),
];

let named = 0;
const value = (dtype: 'float32' | 'int32', ...shape: number[]): Value =>
  input(`attention ${named++}`, dtype, shape);
const sizes = { heads: 2, keyValueHeads: 1, alpha: 1, window: 0, cap: 0 };
const fit = (): [Value, Value, Value] => [
  value('float32', 1, 3, 4),
  value('float32', 1, 3, 2),
  value('float32', 1, 3, 2),
];

/** Builds that must throw ShapeError, by operation. */
export const ATTENTION_REFUSALS: Readonly<Record<string, readonly (() => Value)[]>> = {
  causalAttention: [
    () => causalAttention(fit(), value('int32', 1, 4), sizes),
    () => causalAttention(fit(), value('float32', 1, 3), sizes),
    () => causalAttention(fit(), value('int32', 1, 3), { ...sizes, keyValueHeads: 2 }),
    () => causalAttention(fit(), value('int32', 1, 3), { ...sizes, heads: 3 }),
    () => causalAttention(fit(), value('int32', 1, 3), { ...sizes, window: 0.5 }),
  ],
  causalAttentionGradient: [
    () => {
      const [q, k, v] = fit();
      const other = value('float32', 1, 3, 2);
      return causalAttentionGradient([q, k, v, value('int32', 1, 3), q, other], sizes);
    },
  ],
};
