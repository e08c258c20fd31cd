/** Cross-entropy of a linear output layer, without a gradient as large as the logits. */
import { apply, elementCount, sameShape, type Value } from '../graph.js';
import { demand, type Operation } from '../operation.js';
import { reshape } from './broadcast.js';
import { exp, mul, sub } from './elementwise.js';
import { frozenMatmul } from './codes.js';
import { frozenRows } from './frozen.js';
import { gather, scatterRows } from './indexing.js';
import { slice } from './layout.js';
import { matmul } from './matmul.js';
import { logSoftmax } from './neural.js';
import { softcap, softcapSlope } from './softcap.js';

/** How the table is multiplied with, and what becomes of the logits. */
export type CrossEntropyAttributes = {
  /** The logits are bounded by softcap, and the log-probabilities of those. */
  readonly cap?: number;
  /** The table stays as its file holds it: see frozen.ts. Default: false. */
  readonly isFrozen?: boolean;
  /** Of a frozen table: how its product with hidden is computed (FrozenMatmulOptions). Default: 0. */
  readonly terms?: 0 | 1 | 2;
};

/**
 * -log p(target) per row, given logProbabilities = logSoftmax(hidden table^T). With upstream g and p the
 * probabilities, d hidden = g (p table - table[target]): the logits' own gradient g (p - onehot), as large
 * as the logits, is never written. The gradient goes to hidden and table, none through logProbabilities.
 * With `cap` a fifth operand has the bounded logits, whose slope is a factor of each class's part of the gradient.
 */
export const linearCrossEntropyOperation: Operation<CrossEntropyAttributes> = {
  name: 'linearCrossEntropy',
  storedOperands: [1],
  type(inputs) {
    const [hidden, table, logProbabilities, targets] = inputs as [Value, Value, Value, Value];
    const [rows = 0, features = 0] = hidden.shape;
    const [classes = 0] = table.shape;
    demand(
      [hidden, table, logProbabilities].every(({ dtype }) => dtype === 'float32') &&
        targets.dtype === 'int32' &&
        sameShape(hidden.shape, [rows, features]) &&
        sameShape(table.shape, [classes, features]) &&
        sameShape(logProbabilities.shape, [rows, classes]) &&
        sameShape(targets.shape, [rows]),
      'linearCrossEntropy',
      inputs,
      'needs hidden [N, C], table [V, C], log-probabilities [N, V] and int32 targets [N]',
    );
    return { dtype: 'float32', shape: [rows] };
  },
  gradient({ inputs, attributes, output, upstream }) {
    const { isFrozen = false, cap } = attributes;
    const [hidden, table, logProbabilities, targets] = inputs as [Value, Value, Value, Value];
    if (cap !== undefined) return cappedGradient({ inputs, output, upstream }, cap, isFrozen);
    const perRow = reshape(upstream, [elementCount(upstream.shape), 1]); // [N, 1]
    const probabilities = exp(logProbabilities); // [N, V]
    const weighted = mul(perRow, hidden); // [N, C]
    const expected = timesTable(probabilities, table, isFrozen);
    return [
      mul(perRow, sub(expected, rowsOf(table, targets, isFrozen))),
      sub(
        matmul(probabilities, weighted, { transA: true }),
        scatterRows(targets, weighted, table.shape[0]!),
      ),
      null,
      null,
    ];
  },
  onnx({ emit, names: [, , logProbabilities, targets], output, outputName }) {
    const column = emit.node('Reshape', [targets!, emit.int64([...output.shape, 1])]);
    const picked = emit.node('GatherElements', [logProbabilities!, column], {
      attributes: { axis: { int: 1 } },
    });
    const flat = emit.node('Reshape', [picked, emit.int64(output.shape)]);
    emit.node('Neg', [flat], { output: outputName });
  },
  tfjs({ tf, inputs: [, , logProbabilities, targets], output }) {
    const rows = tf.range(0, output.shape[0]!, 1, 'int32');
    return tf.neg(tf.gatherND(logProbabilities!, tf.stack([rows, targets!], 1)));
  },
};

/** As the gradient of linearCrossEntropyOperation, of bounded logits: d hidden = g ((p slope) table - slope[target] table[target]). */
function cappedGradient(
  { inputs, output, upstream }: { inputs: readonly Value[]; output: Value; upstream: Value },
  cap: number,
  isFrozen: boolean,
): (Value | null)[] {
  const [hidden, table, logProbabilities, targets, bounded] = inputs as [
    ...[Value, Value, Value, Value, Value],
  ];
  const column = (value: Value): Value => reshape(value, [elementCount(upstream.shape), 1]);
  // log p = logit - log sum: the same sum for every class of a row.
  const logSum = sub(slice(bounded, 1, 0, 1), slice(logProbabilities, 1, 0, 1)); // [N, 1]
  const ofTarget = mul(column(upstream), softcapSlope(sub(logSum, column(output)), cap)); // [N, 1]
  const sloped = mul(exp(logProbabilities), softcapSlope(bounded, cap)); // [N, V]
  return [
    sub(
      mul(column(upstream), timesTable(sloped, table, isFrozen)),
      mul(ofTarget, rowsOf(table, targets, isFrozen)),
    ),
    sub(
      matmul(sloped, mul(column(upstream), hidden), { transA: true }),
      scatterRows(targets, mul(ofTarget, hidden), table.shape[0]!),
    ),
    null,
    null,
    null,
  ];
}

/** values: [N, V], table: [V, C] -> their product, [N, C]. */
function timesTable(values: Value, table: Value, isFrozen: boolean): Value {
  return isFrozen ? frozenMatmul(values, table, { transB: false }) : matmul(values, table);
}

function rowsOf(table: Value, indices: Value, isFrozen: boolean): Value {
  return isFrozen ? frozenRows(table, indices) : gather(table, indices);
}

/** hidden: [N, C], table: [V, C] float32, targets: [N] int32 in 0 to V - 1 -> nats [N] float32. */
export function linearCrossEntropy(
  hidden: Value,
  table: Value,
  targets: Value,
  attributes: CrossEntropyAttributes = {},
): Value {
  const { isFrozen = false, terms = 0, cap } = attributes;
  const logits = isFrozen
    ? frozenMatmul(hidden, table, { transB: true, terms })
    : matmul(hidden, table, { transB: true });
  if (cap !== undefined) {
    const bounded = softcap(logits, cap);
    const inputs = [hidden, table, logSoftmax(bounded), targets, bounded];
    return apply(linearCrossEntropyOperation, inputs, attributes);
  }
  const logProbabilities = logSoftmax(logits);
  return apply(linearCrossEntropyOperation, [hidden, table, logProbabilities, targets], attributes);
}
