/** Element by element, with NumPy's broadcasting: arithmetic, comparison, choice. */
import { apply, scalar, type TensorType, type Value } from '../graph.js';
import {
  demand,
  demandFloat,
  refuse,
  type GradientContext,
  type NoAttributes,
  type OnnxContext,
  type Operation,
} from '../operation.js';
import { broadcastShape, unbroadcast } from './broadcast.js';

type Emission = (context: OnnxContext<NoAttributes>) => void;

function one(opType: string): Emission {
  return ({ emit, names, outputName }) => void emit.node(opType, names, { output: outputName });
}

function broadcastType(name: string, inputs: readonly Value[]): TensorType {
  const shape = broadcastShape(inputs.map((value) => value.shape));
  if (shape === null) refuse(name, inputs, 'the shapes do not broadcast');
  return { dtype: inputs[0]!.dtype, shape };
}

/** `name` is TensorFlow.js's name, too. */
function binary(
  name: 'add' | 'sub' | 'mul' | 'div' | 'maximum',
  opType: string,
  gradient: (context: GradientContext<NoAttributes>) => [Value, Value],
): Operation<NoAttributes> {
  return {
    name,
    type(inputs) {
      demandFloat(name, inputs);
      return broadcastType(name, inputs);
    },
    gradient: (context) =>
      gradient(context).map((part, i) => unbroadcast(part, context.inputs[i]!.shape)),
    onnx: one(opType),
    tfjs: ({ tf, inputs: [a, b] }) => tf[name](a!, b!),
  };
}

/** `name` is TensorFlow.js's name, too. */
function unary(
  name: 'exp' | 'rsqrt' | 'sigmoid',
  gradient: (context: GradientContext<NoAttributes>) => Value,
  onnx: Emission,
): Operation<NoAttributes> {
  return {
    name,
    type(inputs) {
      demandFloat(name, inputs);
      return inputs[0]!;
    },
    gradient: (context) => [gradient(context)],
    onnx,
    tfjs: ({ tf, inputs: [x] }) => tf[name](x!),
  };
}

/** a + b. */
export const addOperation = binary('add', 'Add', ({ upstream }) => [upstream, upstream]);
/** a + b: float32, broadcast. */
export const add = (a: Value, b: Value): Value => apply(addOperation, [a, b], {});

/** a - b. */
export const subOperation = binary('sub', 'Sub', ({ upstream }) => [
  upstream,
  mul(upstream, scalar(-1)),
]);
/** a - b: float32, broadcast. */
export const sub = (a: Value, b: Value): Value => apply(subOperation, [a, b], {});

/** a b. */
export const mulOperation = binary('mul', 'Mul', ({ inputs: [a, b], upstream }) => [
  mul(upstream, b!),
  mul(upstream, a!),
]);
/** a b: float32, broadcast. */
export const mul = (a: Value, b: Value): Value => apply(mulOperation, [a, b], {});

/** a / b. */
export const divOperation = binary('div', 'Div', ({ inputs: [, b], output, upstream }) => {
  const part = div(upstream, b!);
  return [part, mul(mul(part, output), scalar(-1))];
});
/** a / b: float32, broadcast. */
export const div = (a: Value, b: Value): Value => apply(divOperation, [a, b], {});

/** The larger of two. */
export const maximumOperation = binary('maximum', 'Max', ({ inputs: [a, b], upstream }) => {
  // At a tie all of the gradient goes to the first operand.
  const bWins = lessThan(a!, b!);
  return [select(bWins, scalar(0), upstream), select(bWins, upstream, scalar(0))];
});
/** The larger of a and b: float32, broadcast. */
export const maximum = (a: Value, b: Value): Value => apply(maximumOperation, [a, b], {});

/** e^x. */
export const expOperation = unary(
  'exp',
  ({ output, upstream }) => mul(upstream, output),
  one('Exp'),
);
/** e^x: float32. */
export const exp = (x: Value): Value => apply(expOperation, [x], {});

/** 1 / sqrt x. */
export const rsqrtOperation = unary(
  'rsqrt',
  ({ output, upstream }) => mul(mul(upstream, mul(output, mul(output, output))), scalar(-0.5)),
  ({ emit, names, outputName }) => {
    emit.node('Reciprocal', [emit.node('Sqrt', names)], { output: outputName });
  },
);
/** 1 / sqrt x: float32, x > 0. */
export const rsqrt = (x: Value): Value => apply(rsqrtOperation, [x], {});

/** 1 / (1 + e^-x). */
export const sigmoidOperation = unary(
  'sigmoid',
  ({ output, upstream }) => mul(upstream, sub(output, mul(output, output))),
  one('Sigmoid'),
);
/** 1 / (1 + e^-x): float32. */
export const sigmoid = (x: Value): Value => apply(sigmoidOperation, [x], {});

function comparison(
  name: string,
  opType: string,
  tfjsName: 'equal' | 'less',
): Operation<NoAttributes> {
  return {
    name,
    type(inputs) {
      const [a, b] = inputs as [Value, Value];
      demand(
        a.dtype === b.dtype && a.dtype !== 'bool',
        name,
        inputs,
        'needs two of one number type',
      );
      return { ...broadcastType(name, inputs), dtype: 'bool' };
    },
    gradient: () => [null, null],
    onnx: one(opType),
    tfjs: ({ tf, inputs: [a, b] }) => tf[tfjsName](a!, b!),
  };
}

/** Whether two are equal. */
export const equalOperation = comparison('equal', 'Equal', 'equal');
/** a = b: two float32 or two int32, broadcast -> bool. No gradient. */
export const equal = (a: Value, b: Value): Value => apply(equalOperation, [a, b], {});

/** Whether the first is smaller. */
export const lessThanOperation = comparison('lessThan', 'Less', 'less');
/** a < b: two float32 or two int32, broadcast -> bool. No gradient. */
export const lessThan = (a: Value, b: Value): Value => apply(lessThanOperation, [a, b], {});

/** One of two, element by element. */
export const selectOperation: Operation<NoAttributes> = {
  name: 'select',
  type(inputs) {
    const [condition, a, b] = inputs as [Value, Value, Value];
    demand(condition.dtype === 'bool', 'select', inputs, 'the condition must be bool');
    demand(a.dtype === b.dtype, 'select', inputs, 'both choices must be of one type');
    return { ...broadcastType('select', inputs), dtype: a.dtype };
  },
  gradient({ inputs: [condition, a, b], upstream }) {
    if (a!.dtype !== 'float32') return [null, null, null];
    return [
      null,
      unbroadcast(select(condition!, upstream, scalar(0)), a!.shape),
      unbroadcast(select(condition!, scalar(0), upstream), b!.shape),
    ];
  },
  onnx: one('Where'),
  tfjs: ({ tf, inputs: [condition, a, b] }) => tf.where(condition!, a!, b!),
};
/** a where condition (bool) holds, else b; all three broadcast. */
export const select = (condition: Value, a: Value, b: Value): Value =>
  apply(selectOperation, [condition, a, b], {});
