import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gradients } from '../../../node/engine/autodiff.js';
import { ShapeError } from '../../../node/engine/errors.js';
import { input, scalar, topologicalOrder, type Value } from '../../../node/engine/graph.js';
import { graphMemory } from '../../../node/engine/memory.js';
import {
  add,
  equal,
  exp,
  matmul,
  mul,
  reshape,
  select,
  slice,
  sum,
} from '../../../node/engine/ops/index.js';
import { ortExecutor } from '../../../node/engine/ort.js';

const x = input('x', 'float32', [3]);

async function evaluate(value: Value, feeds: Record<string, Float32Array>): Promise<number[]> {
  const graph = await ortExecutor({ threads: 1 }).compile({ outputs: { value } });
  try {
    const needed = Object.entries(feeds).filter(([name]) => graph.inputs.has(name));
    return [...(await graph.run(Object.fromEntries(needed)))['value']!];
  } finally {
    await graph.dispose();
  }
}

describe('gradients', () => {
  it('adds up what arrives over several paths', async () => {
    // d/dx (x^2 + x^3 + x) = 2 x + 3 x^2 + 1
    const square = mul(x, x);
    const loss = sum(add(add(square, mul(square, x)), x), [0]);
    const [gradient] = gradients(loss, [x]);
    const feeds = { x: Float32Array.of(1, -2, 3) };
    assert.deepEqual(await evaluate(gradient!, feeds), [6, 9, 34]);
  });

  it('joins the gradients of slices side by side, from either end, and adds those that overlap', async () => {
    const wide = input('wide', 'float32', [6]);
    const square = (start: number, end: number): Value => {
      const part = slice(wide, 0, start, end);
      return sum(mul(part, part), [0]);
    };
    const feeds = { wide: Float32Array.of(1, 2, 3, 4, 5, 6) };
    const pads = (value: Value): number =>
      topologicalOrder([value]).filter(
        ({ source }) => source.kind === 'operation' && source.operation.name === 'pad',
      ).length;
    const derive = (ranges: readonly [number, number][]): Value => {
      const [first, ...rest] = ranges.map(([start, end]) => square(start, end)) as [Value];
      return gradients(rest.reduce(add, first), [wide])[0]!;
    };
    const ranges: [number, number][] = [
      [0, 2],
      [2, 4],
      [4, 6],
    ];
    for (const whole of [derive(ranges), derive([...ranges].reverse())]) {
      assert.equal(pads(whole), 0);
      assert.deepEqual(await evaluate(whole, feeds), [2, 4, 6, 8, 10, 12]);
    }
    const middle = derive([
      [1, 3],
      [3, 5],
    ]);
    assert.equal(pads(middle), 1);
    assert.deepEqual(await evaluate(middle, feeds), [0, 4, 6, 8, 10, 0]);
    const overlapping = derive([
      [0, 4],
      [2, 6],
    ]);
    assert.deepEqual(await evaluate(overlapping, feeds), [2, 4, 12, 16, 10, 12]);
  });

  it('differentiates its own result', async () => {
    // d^2/dx^2 x^4 = 12 x^2
    const fourth = mul(mul(x, x), mul(x, x));
    const [first] = gradients(sum(fourth, [0]), [x]);
    const [second] = gradients(sum(first!, [0]), [x]);
    const feeds = { x: Float32Array.of(1, -2, 3) };
    assert.deepEqual(await evaluate(second!, feeds), [12, 48, 108]);
  });

  it('takes values inside the graph, and stops the graph above them at what they need', () => {
    const deep = exp(exp(x));
    const inner = mul(deep, deep);
    const [gradient] = gradients(sum(mul(inner, inner), [0]), [inner]);
    // The gradient needs `inner`, but nothing of how `inner` depends on x.
    const names = topologicalOrder([gradient!]).flatMap(({ source }) =>
      source.kind === 'operation' ? [source.operation.name] : [],
    );
    assert.equal(names.filter((name) => name === 'exp').length, 2);
  });

  it('is zero, in the shape of the input, where the loss does not depend on it', async () => {
    const other = input('other', 'float32', [2, 2]);
    const [gradient] = gradients(sum(x, [0]), [other]);
    assert.deepEqual(gradient!.shape, [2, 2]);
    assert.deepEqual(await evaluate(gradient!, {}), [0, 0, 0, 0]);
  });

  it('does not pass through comparisons', async () => {
    const loss = sum(select(equal(x, x), x, mul(x, x)), [0]);
    assert.deepEqual(
      await evaluate(gradients(loss, [x])[0]!, { x: Float32Array.of(5, 6, 7) }),
      [1, 1, 1],
    );
  });

  it('builds nothing for operands that are not asked for', () => {
    const frozen = input('frozen', 'float32', [4, 3]);
    const y = matmul(reshape(x, [1, 3]), frozen, { transB: true });
    const [gradient] = gradients(sum(reshape(y, [4]), [0]), [x]);
    const products = topologicalOrder([gradient!]).filter(
      ({ source }) => source.kind === 'operation' && source.operation.name === 'matmul',
    );
    assert.equal(products.length, 1);
  });

  it('refuses a loss that is not one number, and integers', () => {
    const count = input('count', 'int32', [1]);
    assert.throws(() => gradients(x, [x]), ShapeError);
    assert.throws(() => gradients(sum(x, [0]), [count]), ShapeError);
  });
});

describe('gradients with stages', () => {
  const wide = input('wide', 'float32', [40, 40]);
  /** A layer keeps several values for its backward pass. */
  const layer = (value: Value): Value => {
    const inner = exp(mul(value, value));
    return add(value, mul(inner, exp(mul(inner, scalar(-1)))));
  };
  const stream = [wide];
  for (let i = 0; i < 6; i++) stream.push(layer(stream.at(-1)!));
  const loss = sum(stream.at(-1)!, [0, 1]);
  const feeds = { wide: Float32Array.from({ length: 1600 }, (_, i) => Math.sin(i)) };

  it('are the same, of values that are computed again', async () => {
    const [kept] = gradients(loss, [wide]);
    const [again] = gradients(loss, [wide], { stages: stream });
    assert.notEqual(topologicalOrder([again!]).length, topologicalOrder([kept!]).length);
    const [expected, actual] = [await evaluate(kept!, feeds), await evaluate(again!, feeds)];
    assert.ok(expected.some((value) => Math.abs(value) > 0.1));
    for (const [i, value] of expected.entries()) {
      assert.ok(Math.abs(actual[i]! - value) <= 1e-5 * Math.max(1, Math.abs(value)));
    }
  });

  it('keep what lies between two stages for no longer than it takes', () => {
    const peak = (stages: readonly Value[]): number =>
      graphMemory({ outputs: { loss, gradient: gradients(loss, [wide], { stages })[0]! } }).peak;
    assert.ok(peak(stream) < 0.7 * peak([]), `${peak(stream)} of ${peak([])}`);
  });
});
