/** GELU (Hendrycks and Gimpel 2016) in its approximation by tanh, which GPT-2 was trained with. */
import { apply, scalar, type Value } from '../graph.js';
import { demandFloat, type NoAttributes, type Operation } from '../operation.js';
import { add, mul, sigmoid, sub } from './elementwise.js';

const SCALE = 2 * Math.sqrt(2 / Math.PI);
const CUBIC = 0.044715;

/** x (1 + tanh u) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3), which is x sigmoid(2 u). */
export const geluTanhOperation: Operation<NoAttributes> = {
  name: 'geluTanh',
  type(inputs) {
    demandFloat('geluTanh', inputs);
    return inputs[0]!;
  },
  gradient({ inputs: [x], output, upstream }) {
    const square = mul(x!, x!);
    const gate = sigmoid(mul(x!, add(scalar(SCALE), mul(square, scalar(SCALE * CUBIC)))));
    const slope = add(scalar(SCALE), mul(square, scalar(3 * SCALE * CUBIC))); // d 2u / dx
    // d/dx x g = g + y (1 - g) 2u'
    return [mul(upstream, add(gate, mul(mul(output, sub(scalar(1), gate)), slope)))];
  },
  onnx({ emit, names, outputName }) {
    emit.node('Gelu', names, {
      output: outputName,
      attributes: { approximate: { string: 'tanh' } },
    });
  },
  tfjs({ tf, inputs: [x] }) {
    const inner = tf.mul(x!, tf.add(SCALE, tf.mul(tf.square(x!), SCALE * CUBIC))); // 2 u
    return tf.mul(x!, tf.sigmoid(inner));
  },
};

/** x: float32 -> x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2. */
export const geluTanh = (x: Value): Value => apply(geluTanhOperation, [x], {});
