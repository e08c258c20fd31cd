/** The layers' own kernels: SiLU, SwiGLU, softmax, RMS normalisation, rotary positions. */
import type * as tensorflow from '@tensorflow/tfjs-core';
import { apply, sameShape, scalar, type Value } from '../graph.js';
import { demand, demandFloat, type NoAttributes, type Operation } from '../operation.js';
import { sum, unbroadcast } from './broadcast.js';
import { add, exp, mul, rsqrt, sigmoid, sub } from './elementwise.js';

/** SiLU (swish): x sigmoid(x). */
export const siluOperation: Operation<NoAttributes> = {
  name: 'silu',
  type(inputs) {
    demandFloat('silu', inputs);
    return inputs[0]!;
  },
  gradient({ inputs: [x], output, upstream }) {
    // d/dx x s(x) = s + y (1 - s) = y + s (1 - y)
    const slope = add(output, mul(sigmoid(x!), sub(scalar(1), output)));
    return [mul(upstream, slope)];
  },
  onnx({ emit, names, outputName }) {
    emit.node('QuickGelu', names, {
      output: outputName,
      domain: 'com.microsoft',
      attributes: { alpha: { float: 1 } },
    });
  },
  tfjs: ({ tf, inputs: [x] }) => tf.mul(x!, tf.sigmoid(x!)),
};

/** x: float32 -> x sigmoid(x). */
export const silu = (x: Value): Value => apply(siluOperation, [x], {});

/**
 * The product of an MLP's two branches (SwiGLU, Shazeer 2020), given silu(gate). Together they need a pass less
 * over what is as wide as the MLP than one after the other: with h = silu(gate) up and s = sigmoid(gate),
 * silu'(gate) up = h + s (up - h). The gradient goes to gate and up, none through the activated one.
 */
export const swigluOperation: Operation<NoAttributes> = {
  name: 'swiglu',
  type(inputs) {
    const [gate, activated, up] = inputs as [Value, Value, Value];
    demandFloat('swiglu', inputs);
    demand(
      sameShape(gate.shape, up.shape) && sameShape(gate.shape, activated.shape),
      'swiglu',
      inputs,
      'needs equal shapes',
    );
    return gate;
  },
  gradient({ inputs: [gate, activated, up], output, upstream }) {
    const slope = add(output, mul(sigmoid(gate!), sub(up!, output)));
    return [mul(upstream, slope), null, mul(upstream, activated!)];
  },
  onnx({ emit, names: [, activated, up], outputName }) {
    emit.node('Mul', [activated!, up!], { output: outputName });
  },
  tfjs: ({ tf, inputs: [, activated, up] }) => tf.mul(activated!, up!),
};

/** gate, up: float32 of one shape -> silu(gate) up. */
export const swiglu = (gate: Value, up: Value): Value =>
  apply(swigluOperation, [gate, silu(gate), up], {});

/** Softmax over the last axis. */
export const softmaxOperation: Operation<NoAttributes> = {
  name: 'softmax',
  type(inputs) {
    demandFloat('softmax', inputs);
    demand(inputs[0]!.shape.length > 0, 'softmax', inputs, 'needs at least one axis');
    return inputs[0]!;
  },
  gradient({ output, upstream }) {
    const last = output.shape.length - 1;
    const mean = sum(mul(upstream, output), [last], true);
    return [mul(output, sub(upstream, mean))];
  },
  onnx({ emit, names, outputName }) {
    emit.node('Softmax', names, { output: outputName, attributes: { axis: { int: -1 } } });
  },
  tfjs: ({ tf, inputs: [x] }) => tf.softmax(x!),
};

/** x: [..., n] float32 -> the same shape, sums to 1 over the last axis. */
export const softmax = (x: Value): Value => apply(softmaxOperation, [x], {});

/** Logarithm of the softmax over the last axis. */
export const logSoftmaxOperation: Operation<NoAttributes> = {
  name: 'logSoftmax',
  type(inputs) {
    demandFloat('logSoftmax', inputs);
    demand(inputs[0]!.shape.length > 0, 'logSoftmax', inputs, 'needs at least one axis');
    return inputs[0]!;
  },
  gradient({ output, upstream }) {
    const last = output.shape.length - 1;
    return [sub(upstream, mul(exp(output), sum(upstream, [last], true)))];
  },
  onnx({ emit, names, outputName }) {
    emit.node('LogSoftmax', names, { output: outputName, attributes: { axis: { int: -1 } } });
  },
  tfjs: ({ tf, inputs: [x] }) => tf.logSoftmax(x!),
};

/** x: [..., n] float32 -> the same shape. */
export const logSoftmax = (x: Value): Value => apply(logSoftmaxOperation, [x], {});

/** RMSNorm (Zhang and Sennrich 2019): x / sqrt(mean(x^2) + eps) * weight, over the last axis. */
export const rmsNormOperation: Operation<{ readonly eps: number }> = {
  name: 'rmsNorm',
  type(inputs, { eps }) {
    const [x, weight] = inputs as [Value, Value];
    demandFloat('rmsNorm', inputs);
    demand(
      x.shape.length > 0 && sameShape(weight.shape, x.shape.slice(-1)) && eps > 0,
      'rmsNorm',
      inputs,
      'needs [..., C] and [C], and eps above 0',
    );
    return x;
  },
  gradient({ inputs: [x, weight], attributes: { eps }, upstream }) {
    const last = x!.shape.length - 1;
    const perFeature = 1 / x!.shape[last]!;
    const squares = mul(sum(mul(x!, x!), [last], true), scalar(perFeature));
    const inverse = rsqrt(add(squares, scalar(eps))); // [..., 1]
    const weighted = mul(upstream, weight!);
    const overlap = mul(sum(mul(weighted, x!), [last], true), scalar(perFeature));
    const pull = mul(overlap, mul(inverse, mul(inverse, inverse)));
    return [
      sub(mul(weighted, inverse), mul(x!, pull)),
      unbroadcast(mul(upstream, mul(x!, inverse)), weight!.shape),
    ];
  },
  onnx({ emit, names, attributes, outputName }) {
    emit.node('SimplifiedLayerNormalization', names, {
      output: outputName,
      attributes: { axis: { int: -1 }, epsilon: { float: attributes.eps } },
    });
  },
  tfjs({ tf, inputs: [x, weight], attributes: { eps } }) {
    const square = tf.mean(tf.square(x!), -1, true);
    return tf.mul(tf.mul(x!, tf.rsqrt(tf.add(square, eps))), weight!);
  },
};

/** x: [..., C], weight: [C] float32 -> [..., C]. */
export const rmsNorm = (x: Value, weight: Value, eps: number): Value =>
  apply(rmsNormOperation, [x, weight], { eps });

/**
 * Rotary positions (RoPE, Su et al. 2021), the two halves of a head being the pairs, as Hugging Face's
 * rotate_half: (a, b) -> (a cos - b sin, b cos + a sin). The tables get no gradient.
 */
export const rotaryOperation: Operation<NoAttributes> = {
  name: 'rotary',
  type(inputs) {
    const [x, cos, sin] = inputs as [Value, Value, Value];
    demandFloat('rotary', inputs);
    const half = cos.shape.at(-1) ?? 0;
    demand(
      x.shape.length === 3 &&
        sameShape(cos.shape, [x.shape[1]!, half]) &&
        sameShape(sin.shape, cos.shape) &&
        x.shape[2]! % (2 * half) === 0,
      'rotary',
      inputs,
      'needs x [B, T, H D] and two tables [T, D / 2]',
    );
    return x;
  },
  gradient: ({ inputs: [, cos, sin], upstream }) => [
    // A rotation's transpose is the rotation back.
    rotary(upstream, cos!, mul(sin!, scalar(-1))),
    null,
    null,
  ],
  onnx({ emit, names: [x, cos, sin], outputName }) {
    emit.node('RotaryEmbedding', [x!, emit.int64([0]), cos!, sin!], {
      output: outputName,
      domain: 'com.microsoft',
    });
  },
  tfjs({ tf, inputs: [x, cosTable, sinTable], output: { shape } }) {
    const [batch, length, features] = shape as [number, number, number];
    const half = cosTable!.shape[1]!;
    const heads = tf.reshape(x!, [batch, length, features / (2 * half), 2 * half]);
    const [a, b] = tf.split(heads, 2, 3) as [tensorflow.Tensor, tensorflow.Tensor];
    const [cos, sin] = [cosTable!, sinTable!].map((table) => tf.reshape(table, [length, 1, half]));
    const turned = [
      tf.sub(tf.mul(a, cos!), tf.mul(b, sin!)),
      tf.add(tf.mul(b, cos!), tf.mul(a, sin!)),
    ];
    return tf.reshape(tf.concat(turned, 3), [...shape]);
  },
};

/** x: [B, T, H D], cos and sin: [T, D / 2] float32 -> [B, T, H D]. */
export const rotary = (x: Value, cos: Value, sin: Value): Value =>
  apply(rotaryOperation, [x, cos, sin], {});
