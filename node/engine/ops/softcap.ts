/** Values held within a bound by tanh, as Gemma 2 does with scores and logits. */
import { apply, scalar, type Value } from '../graph.js';
import { demandFloat, type Operation } from '../operation.js';
import { mul, sub } from './elementwise.js';

export type SoftcapAttributes = {
  /** Above 0. */
  readonly cap: number;
};

/** cap tanh(x / cap). */
export const softcapOperation: Operation<SoftcapAttributes> = {
  name: 'softcap',
  type(inputs) {
    demandFloat('softcap', inputs);
    return inputs[0]!;
  },
  gradient({ output, attributes: { cap }, upstream }) {
    return [mul(upstream, softcapSlope(output, cap))];
  },
  onnx({ emit, names: [x], attributes: { cap }, outputName }) {
    const inner = emit.node('Mul', [x!, emit.float(1 / cap)]);
    const bounded = emit.node('Tanh', [inner]);
    emit.node('Mul', [bounded, emit.float(cap)], { output: outputName });
  },
  tfjs({ tf, inputs: [x], attributes: { cap } }) {
    return tf.mul(tf.tanh(tf.div(x!, cap)), cap);
  },
};

/** x: float32 -> cap tanh(x / cap). */
export const softcap = (x: Value, cap: number): Value => apply(softcapOperation, [x], { cap });

/** d y / d x, by what softcap returned. */
export function softcapSlope(y: Value, cap: number): Value {
  const share = mul(y, scalar(1 / cap));
  return sub(scalar(1), mul(share, share));
}
