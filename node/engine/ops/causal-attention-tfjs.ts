/** Attention in blocks by TensorFlow.js: each block's arrays are freed before the next one begins. */
import type * as tensorflow from '@tensorflow/tfjs-core';
import type { Attributes, TfjsContext } from '../operation.js';
import { MASKED, type AttentionPlan } from './causal-attention-plan.js';

type Tensor = tensorflow.Tensor;

/** softmax(alpha q k^T) v: [B, T, heads D]. */
export function tfjsAttention<A extends Attributes>(
  { tf, inputs }: TfjsContext<A>,
  plan: AttentionPlan,
): Tensor {
  const blocks = new Blocks(tf, inputs, plan);
  const rows = blocks.ranges.map((range) =>
    tf.tidy(() => {
      const { probabilities, values } = blocks.scores(range);
      return blocks.perToken(tf.matMul(probabilities, values));
    }),
  );
  return joined(tf, rows);
}

/** d loss / d q, k and v side by side: [B, T, (heads + 2 keyValueHeads) D]. */
export function tfjsAttentionGradient<A extends Attributes>(
  { tf, inputs }: TfjsContext<A>,
  plan: AttentionPlan,
): Tensor {
  const { B, T, keyValueHeads, D, alpha } = plan;
  const blocks = new Blocks(tf, inputs, plan);
  const [context, upstream] = inputs.slice(4) as [Tensor, Tensor];
  let sums: [Tensor, Tensor] = [
    tf.zeros([B, keyValueHeads, T, D]),
    tf.zeros([B, keyValueHeads, T, D]),
  ];
  const rows = blocks.ranges.map((range) => {
    const [row, ...next] = tf.tidy((): [Tensor, Tensor, Tensor] => {
      const { queries, keys, values, probabilities, slopes } = blocks.scores(range);
      const [result, up] = [context, upstream].map((one) => blocks.perHead(one, range)) as [
        ...[Tensor, Tensor],
      ];
      const mean = tf.sum(tf.mul(up, result), -1, true);
      const bounded = tf.mul(probabilities, tf.sub(tf.matMul(up, values, false, true), mean));
      const ofScores = slopes === null ? bounded : tf.mul(bounded, slopes);
      const parts = [
        tf.matMul(ofScores, queries, true, false),
        tf.matMul(probabilities, up, true, false),
      ];
      const [ofKeys, ofValues] = parts.map((part, i) =>
        tf.add(
          sums[i]!,
          tf.pad(part, [
            [0, 0],
            [0, 0],
            [range.first, T - range.to],
            [0, 0],
          ]),
        ),
      ) as [Tensor, Tensor];
      const row = tf.mul(blocks.perToken(tf.matMul(ofScores, keys)), alpha);
      return [row, ofKeys, ofValues];
    });
    tf.dispose(sums);
    sums = next;
    return row;
  });
  const perToken = sums.map((sum) =>
    tf.reshape(tf.transpose(sum, [0, 2, 1, 3]), [B, T, keyValueHeads * D]),
  );
  return tf.concat([joined(tf, rows), ...perToken], 2);
}

function joined(tf: typeof tensorflow, rows: Tensor[]): Tensor {
  return rows.length === 1 ? rows[0]! : tf.concat(rows, 1);
}

/** The queries `from` to below `to`, which see keys from `first` on. */
interface Range {
  readonly from: number;
  readonly to: number;
  readonly first: number;
}

class Blocks {
  readonly ranges: readonly Range[];
  /** [B, keyValueHeads, T, D] each. */
  private readonly keys: Tensor;
  private readonly values: Tensor;

  constructor(
    private readonly tf: typeof tensorflow,
    private readonly inputs: readonly Tensor[],
    private readonly plan: AttentionPlan,
  ) {
    const { B, T, keyValueHeads, D, count, rows, window } = plan;
    this.ranges = Array.from({ length: count }, (_, i) => {
      const [from, to] = [i * rows, Math.min(T, (i + 1) * rows)];
      return { from, to, first: window === 0 ? 0 : Math.max(0, from + 1 - window) };
    });
    [this.keys, this.values] = inputs
      .slice(1, 3)
      .map((one) => tf.transpose(tf.reshape(one, [B, T, keyValueHeads, D]), [0, 2, 1, 3])) as [
      Tensor,
      Tensor,
    ];
  }

  /**
   * queries, probabilities: [B, keyValueHeads, group rows, D or keys]; keys, values: [B, keyValueHeads, keys, D]. slopes:
   * of bounded scores; null where they are not.
   */
  scores(
    range: Range,
  ): Record<'queries' | 'keys' | 'values' | 'probabilities', Tensor> & { slopes: Tensor | null } {
    const { tf } = this;
    const { B, heads, keyValueHeads, group, D, alpha, cap } = this.plan;
    const { from, to, first } = range;
    const [rows, seen] = [to - from, to - first];
    const queries = tf.mul(this.perHead(this.inputs[0]!, range), alpha);
    const [keys, values] = [this.keys, this.values].map((one) =>
      tf.slice(one, [0, 0, first, 0], [B, keyValueHeads, seen, D]),
    ) as [Tensor, Tensor];
    const free = tf.matMul(queries, keys, false, true);
    const tanh = cap === 0 ? null : tf.tanh(tf.div(free, cap));
    const scores = tf.reshape(tanh === null ? free : tf.mul(tanh, cap), [B, heads, rows, seen]);
    const softmax = tf.softmax(tf.add(scores, this.mask(range)));
    const probabilities = tf.reshape(softmax, [B, keyValueHeads, group * rows, seen]);
    const slopes = tanh === null ? null : tf.sub(1, tf.square(tanh));
    return { queries, keys, values, probabilities, slopes };
  }

  /** [B, T, heads D] -> [B, keyValueHeads, group rows, D]. */
  perHead(value: Tensor, { from, to }: Range): Tensor {
    const { tf } = this;
    const { B, heads, keyValueHeads, group, D } = this.plan;
    const rows = to - from;
    const own = tf.slice(value, [0, from, 0], [B, rows, heads * D]);
    const split = tf.transpose(
      tf.reshape(own, [B, rows, keyValueHeads, group, D]),
      [0, 2, 3, 1, 4],
    );
    return tf.reshape(split, [B, keyValueHeads, group * rows, D]);
  }

  /** The way back. */
  perToken(value: Tensor): Tensor {
    const { tf } = this;
    const { B, heads, keyValueHeads, group, D } = this.plan;
    const rows = value.shape[2]! / group;
    const split = tf.transpose(
      tf.reshape(value, [B, keyValueHeads, group, rows, D]),
      [0, 3, 1, 2, 4],
    );
    return tf.reshape(split, [B, rows, heads * D]);
  }

  /** 0 where a query sees a key, else MASKED: [B, 1, rows, keys]. */
  private mask({ from, to, first }: Range): Tensor {
    const { tf } = this;
    const { B, window } = this.plan;
    const [rows, seen] = [to - from, to - first];
    const distance = tf.sub(
      tf.reshape(tf.range(from, to, 1, 'float32'), [1, 1, rows, 1]),
      tf.reshape(tf.range(first, to, 1, 'float32'), [1, 1, 1, seen]),
    );
    const own = tf.cast(tf.slice(this.inputs[3]!, [0, from], [B, rows]), 'float32');
    const near = window === 0 ? own : tf.minimum(own, window - 1);
    const isSeen = tf.logicalAnd(
      tf.lessEqual(distance, tf.reshape(near, [B, 1, rows, 1])),
      tf.greaterEqual(distance, 0),
    );
    return tf.mul(tf.sub(1, tf.cast(isSeen, 'float32')), MASKED);
  }
}
