/** One or more cases per operation: operands that are not square, and what plain loops compute. */
import { constant, input, scalar, type Value } from '../../node/engine/graph.js';
import * as ops from '../../node/engine/ops/index.js';
import { ATTENTION, ATTENTION_REFUSALS } from './attention-cases.js';
import { frozenCases, frozenRefusals } from './frozen-cases.js';
import {
  centred,
  fixed,
  grid,
  positive,
  quantised,
  whole,
  type Operand,
  type OperationCase,
} from './operands.js';
import { Plain, total } from './tensors.js';

type Loop = (inputs: readonly Plain[]) => Plain;

/** Element by element over `shape`, with broadcasting. */
const each =
  (shape: readonly number[], f: (...operands: number[]) => number): Loop =>
  (inputs) =>
    Plain.from(shape, (...index) => f(...inputs.map((x) => x.at(...index))));

const arithmetic = (
  operation: string,
  build: (a: Value, b: Value) => Value,
  f: (a: number, b: number) => number,
  operand: (...shape: number[]) => Operand = centred,
): OperationCase[] => [
  {
    operation,
    what: 'equal shapes',
    inputs: [operand(3, 5), operand(3, 5)],
    build: ([a, b]) => build(a!, b!),
    expected: each([3, 5], f),
  },
  {
    operation,
    what: 'both sides broadcast',
    inputs: [operand(4, 1, 3), operand(2, 1)],
    build: ([a, b]) => build(a!, b!),
    expected: each([4, 2, 3], f),
  },
];

const pointwise = (
  operation: string,
  build: (x: Value) => Value,
  f: (x: number) => number,
  operand: (...shape: number[]) => Operand = centred,
): OperationCase => ({
  operation,
  what: 'a matrix',
  inputs: [operand(2, 7)],
  build: ([x]) => build(x!),
  expected: each([2, 7], f),
});

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const asNumber = (condition: Value): Value => ops.select(condition, scalar(1), scalar(0));

const ELEMENTWISE: OperationCase[] = [
  ...arithmetic('add', ops.add, (a, b) => a + b),
  ...arithmetic('sub', ops.sub, (a, b) => a - b),
  ...arithmetic('mul', ops.mul, (a, b) => a * b),
  ...arithmetic('div', ops.div, (a, b) => a / b, positive),
  {
    operation: 'maximum',
    what: 'either side larger, broadcast',
    inputs: [grid(0, 4, 3), grid(0.05, 3)],
    build: ([a, b]) => ops.maximum(a!, b!),
    expected: each([4, 3], Math.max),
  },
  pointwise('exp', ops.exp, Math.exp),
  pointwise('rsqrt', ops.rsqrt, (x) => 1 / Math.sqrt(x), positive),
  pointwise('sigmoid', ops.sigmoid, sigmoid),
  pointwise('silu', ops.silu, (x) => x * sigmoid(x)),
  pointwise('geluTanh', ops.geluTanh, (x) => {
    const u = Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);
    return (x * (1 + Math.tanh(u))) / 2;
  }),
  pointwise(
    'softcap',
    (x) => ops.softcap(x, 0.7),
    (x) => 0.7 * Math.tanh(x / 0.7),
  ),
  {
    operation: 'swiglu',
    what: 'two matrices',
    inputs: [centred(3, 5), centred(3, 5)],
    build: ([gate, up]) => ops.swiglu(gate!, up!),
    expected: each([3, 5], (gate, up) => gate * sigmoid(gate) * up),
  },
  {
    operation: 'equal',
    what: 'integers, broadcast',
    inputs: [whole(3, 4, 1), whole(3, 1, 5)],
    build: ([a, b]) => asNumber(ops.equal(a!, b!)),
    expected: each([4, 5], (a, b) => Number(a === b)),
  },
  {
    operation: 'lessThan',
    what: 'floats, broadcast',
    inputs: [fixed(grid(0, 4, 3)), fixed(grid(0, 3))],
    build: ([a, b]) => asNumber(ops.lessThan(a!, b!)),
    expected: each([4, 3], (a, b) => Number(a < b)),
  },
  {
    operation: 'select',
    what: 'all three broadcast',
    inputs: [whole(2, 4, 1), centred(3), centred(2, 4, 3)],
    build: ([c, a, b]) => ops.select(ops.equal(c!, constant(Int32Array.of(0), [])), a!, b!),
    expected: each([2, 4, 3], (c, a, b) => (c === 0 ? a : b)),
  },
];

const LAYOUT: OperationCase[] = [
  {
    operation: 'reshape',
    what: 'three axes to two',
    inputs: [centred(2, 3, 4)],
    build: ([x]) => ops.reshape(x!, [6, 4]),
    expected: ([x]) => new Plain([6, 4], x!.data),
  },
  {
    operation: 'sum',
    what: 'first and last axis',
    inputs: [centred(2, 3, 4)],
    build: ([x]) => ops.sum(x!, [0, 2]),
    expected: ([x]) => Plain.from([3], (j) => total(2, (i) => total(4, (k) => x!.at(i, j, k)))),
  },
  {
    operation: 'sum',
    what: 'an axis that stays as 1',
    inputs: [centred(2, 5)],
    build: ([x]) => ops.sum(x!, [1], true),
    expected: ([x]) => Plain.from([2, 1], (i) => total(5, (j) => x!.at(i, j))),
  },
  {
    operation: 'expand',
    what: 'a new axis and an axis of 1',
    inputs: [centred(3, 1)],
    build: ([x]) => ops.expand(x!, [2, 3, 4]),
    expected: each([2, 3, 4], (x) => x),
  },
  {
    operation: 'transpose',
    what: 'a permutation that is not its own inverse',
    inputs: [centred(2, 3, 4)],
    build: ([x]) => ops.transpose(x!, [1, 2, 0]),
    expected: ([x]) => Plain.from([3, 4, 2], (j, k, i) => x!.at(i, j, k)),
  },
  {
    operation: 'slice',
    what: 'inside the last axis',
    inputs: [centred(2, 7)],
    build: ([x]) => ops.slice(x!, 1, 2, 5),
    expected: ([x]) => Plain.from([2, 3], (i, j) => x!.at(i, j + 2)),
  },
  {
    operation: 'pad',
    what: 'unequally before and after',
    inputs: [centred(2, 3, 2)],
    build: ([x]) => ops.pad(x!, 1, 1, 2),
    expected: ([x]) =>
      Plain.from([2, 6, 2], (i, j, k) => (j >= 1 && j < 4 ? x!.at(i, j - 1, k) : 0)),
  },
  {
    operation: 'concat',
    what: 'three of different lengths',
    inputs: [centred(2, 1), centred(2, 3), centred(2, 2)],
    build: (parts) => ops.concat(parts, 1),
    expected: ([a, b, c]) =>
      Plain.from([2, 6], (i, j) =>
        j < 1 ? a!.at(i, j) : j < 4 ? b!.at(i, j - 1) : c!.at(i, j - 4),
      ),
  },
  {
    operation: 'gather',
    what: 'rows, some more than once',
    inputs: [centred(5, 3), whole(5, 2, 4)],
    build: ([table, indices]) => ops.gather(table!, indices!),
    expected: ([table, indices]) =>
      Plain.from([2, 4, 3], (i, j, k) => table!.at(indices!.at(i, j), k)),
  },
  {
    operation: 'scatterRows',
    what: 'equal indices add up',
    inputs: [whole(3, 2, 4), centred(2, 4, 3)],
    build: ([indices, updates]) => ops.scatterRows(indices!, updates!, 5),
    expected: ([indices, updates]) =>
      Plain.from([5, 3], (row, k) =>
        total(8, (n) => (indices!.data[n] === row ? updates!.data[3 * n + k]! : 0)),
      ),
  },
];

const MATRIX: OperationCase[] = [false, true].flatMap((transA) =>
  [false, true].flatMap((transB): OperationCase[] => {
    const matrices = [transA ? [3, 2] : [2, 3], transB ? [4, 3] : [3, 4]] as const;
    const product = (a: Plain, b: Plain, lead: number[], m: number, n: number): number =>
      total(
        3,
        (k) =>
          a.at(...lead, ...(transA ? [k, m] : [m, k])) *
          b.at(...lead, ...(transB ? [n, k] : [k, n])),
      );
    const what = `transA ${transA}, transB ${transB}`;
    return [
      {
        operation: 'matmul',
        what: `a stack, ${what}`,
        inputs: [centred(2, ...matrices[0]), centred(2, ...matrices[1])],
        build: ([a, b]) => ops.matmul(a!, b!, { transA, transB, alpha: 0.7 }),
        expected: ([a, b]) => Plain.from([2, 2, 4], (s, m, n) => 0.7 * product(a!, b!, [s], m, n)),
      },
      {
        operation: 'addMatmul',
        what,
        inputs: [centred(2, 4), centred(...matrices[0]), centred(...matrices[1])],
        build: ([c, a, b]) => ops.addMatmul(c!, a!, b!, { transA, transB, alpha: 0.7 }),
        expected: ([c, a, b]) =>
          Plain.from([2, 4], (m, n) => c!.at(m, n) + 0.7 * product(a!, b!, [], m, n)),
      },
    ];
  }),
);

const ROUNDING = (
  [
    ['both signs', centred, false],
    ['no sign', positive, true],
  ] as const
).map(([what, operand, isPositive]): OperationCase => ({
  operation: 'roundingRest',
  what,
  inputs: [fixed(operand(3, 5))],
  build: ([x]) => ops.roundingRest(x!, isPositive),
  expected: ([x]) => {
    const rows = [0, 1, 2].map((m) => [0, 1, 2, 3, 4].map((k) => x!.at(m, k)));
    const known = rows.map((row) => quantised(row, isPositive ? 255 : 127));
    return Plain.from([3, 5], (m, k) => rows[m]![k]! - known[m]![k]!);
  },
}));

function softmax(x: Plain, row: number[], width: number, j: number): number {
  return Math.exp(x.at(...row, j)) / total(width, (k) => Math.exp(x.at(...row, k)));
}

const NEURAL: OperationCase[] = [
  {
    operation: 'softmax',
    what: 'over the last axis',
    inputs: [centred(2, 3, 4)],
    build: ([x]) => ops.softmax(x!),
    expected: ([x]) => Plain.from([2, 3, 4], (i, j, k) => softmax(x!, [i, j], 4, k)),
  },
  {
    operation: 'logSoftmax',
    what: 'over the last axis',
    inputs: [centred(3, 5)],
    build: ([x]) => ops.logSoftmax(x!),
    expected: ([x]) => Plain.from([3, 5], (i, j) => Math.log(softmax(x!, [i], 5, j))),
  },
  {
    operation: 'rmsNorm',
    what: 'with a large epsilon',
    inputs: [centred(2, 3, 5), centred(5)],
    build: ([x, weight]) => ops.rmsNorm(x!, weight!, 0.3),
    expected: ([x, weight]) =>
      Plain.from([2, 3, 5], (i, j, k) => {
        const square = total(5, (n) => x!.at(i, j, n) ** 2) / 5;
        return (x!.at(i, j, k) / Math.sqrt(square + 0.3)) * weight!.at(k);
      }),
  },
  {
    operation: 'layerNorm',
    what: 'with a large epsilon',
    inputs: [centred(2, 3, 5), centred(5), centred(5)],
    build: ([x, weight, bias]) => ops.layerNorm(x!, weight!, bias!, 0.3),
    expected: ([x, weight, bias]) =>
      Plain.from([2, 3, 5], (i, j, k) => {
        const mean = total(5, (n) => x!.at(i, j, n)) / 5;
        const variance = total(5, (n) => (x!.at(i, j, n) - mean) ** 2) / 5;
        return ((x!.at(i, j, k) - mean) / Math.sqrt(variance + 0.3)) * weight!.at(k) + bias!.at(k);
      }),
  },
  {
    operation: 'rotary',
    what: 'two heads of four features',
    inputs: [centred(2, 3, 8), fixed(centred(3, 2)), fixed(centred(3, 2))],
    build: ([x, cos, sin]) => ops.rotary(x!, cos!, sin!),
    expected: ([x, cos, sin]) =>
      Plain.from([2, 3, 8], (b, t, f) => {
        const [pair, first] = [f % 2, f % 4 < 2];
        const partner = x!.at(b, t, first ? f + 2 : f - 2);
        return x!.at(b, t, f) * cos!.at(t, pair) + (first ? -1 : 1) * partner * sin!.at(t, pair);
      }),
  },
  {
    operation: 'linearCrossEntropy',
    what: 'more rows than classes',
    inputs: [centred(6, 3), centred(5, 3), whole(5, 6)],
    build: ([hidden, table, targets]) => ops.linearCrossEntropy(hidden!, table!, targets!),
    expected: ([hidden, table, targets]) => {
      const logits = Plain.from([6, 5], (n, v) =>
        total(3, (c) => hidden!.at(n, c) * table!.at(v, c)),
      );
      return Plain.from([6], (n) => -Math.log(softmax(logits, [n], 5, targets!.at(n))));
    },
  },
  {
    operation: 'linearCrossEntropy',
    what: 'bounded logits',
    inputs: [centred(6, 3), centred(5, 3), whole(5, 6)],
    build: ([hidden, table, targets]) =>
      ops.linearCrossEntropy(hidden!, table!, targets!, { cap: 0.5 }),
    expected: ([hidden, table, targets]) => {
      const free = (n: number, v: number): number =>
        total(3, (c) => hidden!.at(n, c) * table!.at(v, c));
      const logits = Plain.from([6, 5], (n, v) => 0.5 * Math.tanh(free(n, v) / 0.5));
      return Plain.from([6], (n) => -Math.log(softmax(logits, [n], 5, targets!.at(n))));
    },
  },
];

export const CASES: readonly OperationCase[] = [
  ...ELEMENTWISE,
  ...LAYOUT,
  ...MATRIX,
  ...ROUNDING,
  ...frozenCases(),
  ...NEURAL,
  ...ATTENTION,
];

let named = 0;
function f32(...shape: number[]): Value {
  return input(`f${named++}`, 'float32', shape);
}
function i32(...shape: number[]): Value {
  return input(`i${named++}`, 'int32', shape);
}

const both = (build: (a: Value, b: Value) => Value): (() => Value)[] => [
  () => build(f32(2, 3), f32(2, 4)),
  () => build(f32(2, 3), i32(2, 3)),
];

/** Builds that must throw ShapeError, by operation. */
export const REFUSALS: Readonly<Record<string, readonly (() => Value)[]>> = {
  add: both(ops.add),
  sub: both(ops.sub),
  mul: both(ops.mul),
  div: both(ops.div),
  maximum: both(ops.maximum),
  equal: both(ops.equal),
  lessThan: both(ops.lessThan),
  exp: [() => ops.exp(i32(2))],
  rsqrt: [() => ops.rsqrt(i32(2))],
  sigmoid: [() => ops.sigmoid(i32(2))],
  geluTanh: [() => ops.geluTanh(i32(2))],
  softcap: [() => ops.softcap(i32(2), 1)],
  silu: [() => ops.silu(i32(2))],
  swiglu: [() => ops.swiglu(f32(2, 3), f32(1, 3)), () => ops.swiglu(f32(2), i32(2))],
  select: [
    () => ops.select(f32(2), f32(2), f32(2)),
    () => ops.select(ops.equal(f32(2), f32(2)), f32(2), i32(2)),
  ],
  reshape: [() => ops.reshape(f32(2, 3), [4, 2])],
  sum: [() => ops.sum(f32(2, 3), [2]), () => ops.sum(f32(2, 3), []), () => ops.sum(i32(2), [0])],
  expand: [() => ops.expand(f32(2, 3), [4, 3]), () => ops.expand(f32(2, 3), [3])],
  transpose: [() => ops.transpose(f32(2, 3), [0, 0]), () => ops.transpose(f32(2, 3), [0])],
  slice: [() => ops.slice(f32(2, 3), 1, 2, 4), () => ops.slice(f32(2, 3), 2, 0, 1)],
  pad: [() => ops.pad(f32(2, 3), 1, -1, 0), () => ops.pad(i32(2), 0, 1, 0)],
  concat: [() => ops.concat([f32(2, 3), f32(3, 3)], 1), () => ops.concat([], 0)],
  gather: [() => ops.gather(f32(2, 3), f32(4)), () => ops.gather(f32(2), i32(4))],
  scatterRows: [() => ops.scatterRows(i32(4), f32(3, 2), 5)],
  matmul: [
    () => ops.matmul(f32(2, 3), f32(4, 5)),
    () => ops.matmul(f32(2, 3), f32(3, 4), { transB: true }),
    () => ops.matmul(f32(6, 2, 3), f32(5, 3, 4)),
  ],
  addMatmul: [
    () => ops.addMatmul(f32(2, 5), f32(2, 3), f32(3, 4)),
    () => ops.addMatmul(f32(6, 2, 4), f32(6, 2, 3), f32(6, 3, 4)),
  ],
  ...frozenRefusals(f32, i32),
  roundingRest: [
    () => ops.roundingRest(f32(2, 3, 4), false),
    () => ops.roundingRest(i32(2, 3), true),
  ],
  softmax: [() => ops.softmax(scalar(1)), () => ops.softmax(i32(2))],
  logSoftmax: [() => ops.logSoftmax(scalar(1)), () => ops.logSoftmax(i32(2))],
  rmsNorm: [() => ops.rmsNorm(f32(2, 3), f32(2), 1e-5), () => ops.rmsNorm(f32(2, 3), f32(3), 0)],
  layerNorm: [
    () => ops.layerNorm(f32(2, 3), f32(2), f32(3), 1e-5),
    () => ops.layerNorm(f32(2, 3), f32(3), f32(1), 1e-5),
    () => ops.layerNorm(f32(2, 3), f32(3), f32(3), 0),
  ],
  rotary: [
    () => ops.rotary(f32(2, 3, 6), f32(3, 2), f32(3, 2)),
    () => ops.rotary(f32(2, 3, 8), f32(4, 2), f32(4, 2)),
  ],
  linearCrossEntropy: [
    () => ops.linearCrossEntropy(f32(6, 3), f32(5, 3), i32(5)),
    () => ops.linearCrossEntropy(f32(6, 3), f32(5, 3), f32(6)),
  ],
  ...ATTENTION_REFUSALS,
};
