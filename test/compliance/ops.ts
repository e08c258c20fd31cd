/**
 * The compliance suite over the table of operations, for any executor: values against plain loops,
 * gradients against central differences, refusals. A new operation needs a case in cases.ts.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { gradients } from '../../node/engine/autodiff.js';
import { ShapeError } from '../../node/engine/errors.js';
import type { CompiledGraph, Executor, TensorData } from '../../node/engine/executor.js';
import { input, type Value } from '../../node/engine/graph.js';
import { mul, OPERATIONS, reshape, sum } from '../../node/engine/ops/index.js';
import { Prng } from '../../protocol/prng.js';
import type { OperationCase } from './operands.js';
import { CASES, REFUSALS } from './ops-cases.js';
import { Plain, total } from './tensors.js';

/** Half the distance of a central difference: its error is of the order of the square. */
const STEP = 1e-2;
const VALUE_TOLERANCE = 2e-6;
/** Of a difference quotient: float32 noise / STEP, and STEP^2 times a third derivative. */
const GRADIENT_TOLERANCE = 1e-3;

export function operationCompliance(name: string, open: () => Executor | Promise<Executor>): void {
  describe(`operations on ${name}`, () => {
    let executor: Executor;
    before(async () => {
      executor = await open();
    });

    it('every operation of the table has a case and a refusal', () => {
      const names = OPERATIONS.map((operation) => operation.name);
      assert.equal(new Set(names).size, names.length);
      for (const table of [CASES.map(({ operation }) => operation), Object.keys(REFUSALS)]) {
        assert.deepEqual([...new Set(table)].sort(), [...names].sort());
      }
    });

    for (const one of CASES) checkCase(one, () => executor);
  });

  describe('operations refuse operands that do not fit', () => {
    for (const [operation, attempts] of Object.entries(REFUSALS)) {
      it(operation, () => {
        for (const attempt of attempts) assert.throws(attempt, ShapeError);
      });
    }
  });
}

function checkCase(one: OperationCase, executor: () => Executor): void {
  describe(`${one.operation}: ${one.what}`, () => {
    const random = new Prng(new Uint8Array(32), `${one.operation}/${one.what}`);
    const operands = one.inputs.map(({ shape, draw }) => Plain.from(shape, () => draw(random)));
    const feeds = Object.fromEntries(operands.map((x, i) => [`x${i}`, typed(one, i, x.data)]));
    let value: Value;
    let graph: CompiledGraph;
    before(async () => {
      value = one.build(inputValues(one));
      graph = await executor().compile({ outputs: { y: value } });
    });
    after(() => graph.dispose());

    it('computes what plain loops compute', async () => {
      const { y } = await graph.run(feeds);
      const expected = one.expected(operands);
      assert.deepEqual(value.shape, expected.shape);
      for (const [i, actual] of y!.entries()) {
        const difference = Math.abs(actual - expected.data[i]!);
        const bound = (one.tolerance ?? VALUE_TOLERANCE) * Math.max(1, Math.abs(expected.data[i]!));
        assert.ok(difference <= bound, `[${i}] is ${actual}, not ${expected.data[i]}`);
      }
    });

    const differentiable = one.inputs.flatMap(({ gradient }, i) => (gradient ? [i] : []));
    if (differentiable.length === 0) return;
    it('has the gradient that finite differences give', async () => {
      const inputs = inputValues(one);
      const y = one.build(inputs);
      const projection = input('projection', 'float32', y.shape);
      const loss = sum(reshape(mul(y, projection), [y.shape.reduce((a, n) => a * n, 1)]), [0]);
      const wanted = gradients(
        loss,
        differentiable.map((i) => inputs[i]!),
      );
      const backward = await executor().compile({
        outputs: Object.fromEntries(wanted.map((g, k) => [`g${differentiable[k]}`, g])),
      });
      try {
        await compareGradients(one, graph, backward, feeds, y.shape, random);
      } finally {
        await backward.dispose();
      }
    });
  });
}

async function compareGradients(
  one: OperationCase,
  forward: CompiledGraph,
  backward: CompiledGraph,
  feeds: Record<string, TensorData>,
  shape: readonly number[],
  random: Prng,
): Promise<void> {
  const projection = Float32Array.from(Plain.from(shape, () => 2 * random.nextFloat() - 1).data);
  const all: Record<string, TensorData> = { ...feeds, projection };
  // The gradient of a sum does not depend on the operands, so its graph may not take them.
  const taken = [...backward.inputs.keys()].map((name) => [name, all[name]!] as const);
  const results = await backward.run(Object.fromEntries(taken));
  const project = async (name: string, data: Float32Array): Promise<number> => {
    const { y } = await forward.run({ ...feeds, [name]: data });
    return total(projection.length, (i) => y![i]! * projection[i]!);
  };
  let largest = 0;
  for (const [i, { gradient }] of one.inputs.entries()) {
    if (!gradient) continue;
    const name = `x${i}`;
    const values = feeds[name] as Float32Array;
    for (const [j, analytic] of results[`g${i}`]!.entries()) {
      const [up, down] = [values.slice(), values.slice()];
      up[j]! += STEP;
      down[j]! -= STEP;
      const rise = (await project(name, up)) - (await project(name, down));
      const numeric = rise / (up[j]! - down[j]!);
      const bound = GRADIENT_TOLERANCE * Math.max(1, Math.abs(numeric));
      assert.ok(
        Math.abs(analytic - numeric) <= bound,
        `d / d input ${i} [${j}] is ${analytic}, but differences give ${numeric}`,
      );
      largest = Math.max(largest, Math.abs(numeric));
    }
  }
  assert.ok(largest > 0.05, 'a gradient of zeros would prove nothing');
}

function inputValues(one: OperationCase): Value[] {
  return one.inputs.map(({ shape, dtype }, i) => input(`x${i}`, dtype, shape));
}

function typed(one: OperationCase, index: number, data: readonly number[]): TensorData {
  return one.inputs[index]!.dtype === 'int32' ? Int32Array.from(data) : Float32Array.from(data);
}
