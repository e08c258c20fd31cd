/** Layer normalisation (Ba et al. 2016). */
import { apply, sameShape, scalar, type Value } from '../graph.js';
import { demand, demandFloat, type Operation } from '../operation.js';
import { sum, unbroadcast } from './broadcast.js';
import { add, mul, rsqrt, sub } from './elementwise.js';

/** (x - mean x) / sqrt(var x + eps) * weight + bias, over the last axis; var is that of the population. */
export const layerNormOperation: Operation<{ readonly eps: number }> = {
  name: 'layerNorm',
  type(inputs, { eps }) {
    const [x, weight, bias] = inputs as [Value, Value, Value];
    demandFloat('layerNorm', inputs);
    demand(
      x.shape.length > 0 &&
        sameShape(weight.shape, x.shape.slice(-1)) &&
        sameShape(bias.shape, weight.shape) &&
        eps > 0,
      'layerNorm',
      inputs,
      'needs [..., C], [C] and [C], and eps above 0',
    );
    return x;
  },
  gradient({ inputs, attributes: { eps }, upstream }) {
    const [x, weight, bias] = inputs as [Value, Value, Value];
    const last = x.shape.length - 1;
    const perFeature = scalar(1 / x.shape[last]!);
    const mean = (y: Value): Value => mul(sum(y, [last], true), perFeature);
    const centred = sub(x, mean(x));
    const inverse = rsqrt(add(mean(mul(centred, centred)), scalar(eps))); // [..., 1]
    const normal = mul(centred, inverse);
    const weighted = mul(upstream, weight);
    const pull = add(mean(weighted), mul(normal, mean(mul(weighted, normal))));
    return [
      mul(inverse, sub(weighted, pull)),
      unbroadcast(mul(upstream, normal), weight.shape),
      unbroadcast(upstream, bias.shape),
    ];
  },
  onnx({ emit, names, attributes, outputName }) {
    emit.node('LayerNormalization', names, {
      output: outputName,
      attributes: { axis: { int: -1 }, epsilon: { float: attributes.eps } },
    });
  },
  tfjs({ tf, inputs: [x, weight, bias], attributes: { eps } }) {
    const { mean, variance } = tf.moments(x!, -1, true);
    const inverse = tf.rsqrt(tf.add(variance, eps));
    return tf.add(tf.mul(tf.mul(tf.sub(x!, mean), inverse), weight!), bias!);
  },
};

/** x: [..., C], weight and bias: [C] float32 -> [..., C]. */
export const layerNorm = (x: Value, weight: Value, bias: Value, eps: number): Value =>
  apply(layerNormOperation, [x, weight, bias], { eps });
