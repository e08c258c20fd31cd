/**
 * Attention over long sequences in memory that grows with the tokens and not with their square: one block of queries
 * after another, forward and backward. The backward pass computes the probabilities of a block again from queries and
 * keys, as FlashAttention does (Dao et al. 2022), instead of keeping those of all blocks.
 */
import { apply, sameShape, type Value } from '../graph.js';
import { demand, refuse, type Operation } from '../operation.js';
import { writeAttention, writeAttentionGradient } from './causal-attention-onnx.js';
import {
  attentionPlan,
  backwardWorkspace,
  forwardWorkspace,
  type CausalAttentionAttributes,
} from './causal-attention-plan.js';
import { tfjsAttention, tfjsAttentionGradient } from './causal-attention-tfjs.js';
import { slice } from './layout.js';

/** softmax(alpha q k^T) v in each head, over the keys that a token sees. */
export const causalAttentionOperation: Operation<CausalAttentionAttributes> = {
  name: 'causalAttention',
  type(inputs, attributes) {
    checkOperands('causalAttention', inputs, attributes);
    return inputs[0]!;
  },
  gradient({ inputs, attributes, output, upstream }) {
    const all = apply(causalAttentionGradientOperation, [...inputs, output, upstream], attributes);
    let start = 0;
    const parts = inputs.slice(0, 3).map(({ shape }) => {
      start += shape[2]!;
      return slice(all, 2, start - shape[2]!, start);
    });
    return [...parts, null];
  },
  onnx: (context) => writeAttention(context, attentionPlan(context.output, context.attributes)),
  tfjs: (context) => tfjsAttention(context, attentionPlan(context.output, context.attributes)),
};

/** d loss / d q, k and v, given causalAttention's operands, its result and its upstream gradient. */
export const causalAttentionGradientOperation: Operation<CausalAttentionAttributes> = {
  name: 'causalAttentionGradient',
  type(inputs, attributes) {
    checkOperands('causalAttentionGradient', inputs, attributes);
    const [q, k] = inputs as [Value, Value];
    const [B, T, width] = q.shape as [number, number, number];
    return { dtype: 'float32', shape: [B, T, width + 2 * k.shape[2]!] };
  },
  gradient: ({ inputs }) =>
    refuse('causalAttentionGradient', inputs, 'it has no gradient of its own'),
  onnx: (context) =>
    writeAttentionGradient(context, attentionPlan(context.inputs[0]!, context.attributes)),
  tfjs: (context) =>
    tfjsAttentionGradient(context, attentionPlan(context.inputs[0]!, context.attributes)),
};

function checkOperands(
  name: string,
  inputs: readonly Value[],
  { heads, keyValueHeads, window }: CausalAttentionAttributes,
): void {
  const [q, k, v, positions, ...others] = inputs as [Value, Value, Value, Value, ...Value[]];
  const [B = 0, T = 0, width = 0] = q.shape;
  const D = width / heads;
  demand(
    [q, k, v, ...others].every(({ dtype }) => dtype === 'float32') &&
      positions.dtype === 'int32' &&
      sameShape(positions.shape, [B, T]) &&
      [heads / keyValueHeads, D, window].every(Number.isInteger) &&
      [q, ...others].every(({ shape }) => sameShape(shape, [B, T, heads * D])) &&
      [k, v].every(({ shape }) => sameShape(shape, [B, T, keyValueHeads * D])),
    name,
    inputs,
    `needs queries [B, T, ${heads} D], keys and values [B, T, ${keyValueHeads} D] and int32 positions [B, T]`,
  );
}

/**
 * q: [B, T, heads D], k and v: [B, T, keyValueHeads D] float32, positions: [B, T] int32 -> [B, T, heads D] float32.
 * Token t sees itself and the positions[b, t] (from 0) tokens before it, or as many of them as there are and a window
 * leaves.
 */
export function causalAttention(
  [q, k, v]: readonly [Value, Value, Value],
  positions: Value,
  attributes: CausalAttentionAttributes,
): Value {
  return apply(causalAttentionOperation, [q, k, v, positions], attributes);
}

/** The gradient alone: see causalAttentionGradientOperation. All but positions float32. */
export function causalAttentionGradient(
  operands: readonly [q: Value, k: Value, v: Value, positions: Value, result: Value, up: Value],
  attributes: CausalAttentionAttributes,
): Value {
  return apply(causalAttentionGradientOperation, operands, attributes);
}

/** Bytes that either operation takes beside operands and result; 0 for others. */
export function attentionWorkspace({ source }: Value): number {
  if (source.kind !== 'operation') return 0;
  const { operation, inputs } = source;
  const planOf = () => attentionPlan(inputs[0]!, source.attributes as CausalAttentionAttributes);
  if (operation === causalAttentionOperation) return forwardWorkspace(planOf());
  return operation === causalAttentionGradientOperation ? backwardWorkspace(planOf()) : 0;
}
