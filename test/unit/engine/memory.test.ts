import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { constant, input, weight, type Value } from '../../../node/engine/graph.js';
import { graphMemory, type GraphMemory } from '../../../node/engine/memory.js';
import {
  add,
  addMatmul,
  exp,
  gather,
  lessThan,
  matmul,
  mul,
  reshape,
  select,
  softmax,
  sum,
} from '../../../node/engine/ops/index.js';

const memory = (...outputs: Value[]): GraphMemory =>
  graphMemory({ outputs: Object.fromEntries(outputs.map((value, i) => [`out${i}`, value])) });

/** x: 40 bytes; big values are [10, 10] float32: 400 bytes. */
const x = input('x', 'float32', [10, 1]);
const row = constant(new Float32Array(10), [1, 10]);
const big = matmul(x, row);
const small = (value: Value): Value => sum(value, [0, 1]);

function frozen(name: string, shape: [number, number], storage: 'F32' | 'BF16' = 'F32'): Value {
  const length = shape[0] * shape[1] * (storage === 'F32' ? 4 : 2);
  return weight({ name, shape, storage, file: '/model.safetensors', offset: 8, length });
}

describe('graphMemory: what a run has alive at once', () => {
  it('is inputs and results of the widest moment, not the sum of all values', () => {
    // x, and one big value beside the next: three of them are never alive together.
    assert.equal(memory(small(exp(exp(exp(big))))).peak, 40 + 2 * 400);
  });

  it('counts what is read again later for as long as it is needed', () => {
    const chain = exp(exp(big));
    assert.equal(memory(small(add(chain, big))).peak, 40 + 3 * 400);
    assert.equal(memory(big, small(chain)).peak, 40 + 3 * 400, 'an output stays to the end');
  });

  it('knows which operations make no new array', () => {
    assert.equal(memory(small(softmax(big))).peak, 40 + 400 + 4);
    assert.equal(memory(small(softmax(reshape(big, [4, 25])))).peak, 40 + 400 + 4);
    assert.equal(
      memory(big, small(softmax(big))).peak,
      40 + 2 * 400 + 4,
      'the operand is read again',
    );
  });

  it('knows that a freed array is kept for the next of its type and shape', () => {
    // The place of `big` could go while [5, 40] is worked on, but waits for the last [10, 10].
    const wide = matmul(reshape(big, [5, 20]), constant(new Float32Array(800), [20, 40]));
    const column = sum(exp(wide), [1], true); // [5, 1]
    const narrow = matmul(column, row); // [5, 10]
    const last = matmul(constant(new Float32Array(50), [10, 5]), narrow);
    assert.equal(memory(small(narrow)).peak, 40 + 2 * 800);
    assert.equal(memory(small(last)).peak, 40 + 2 * 800 + 400);
  });

  it('counts bytes by type, and the two halves that a selection makes first', () => {
    const isSmall = lessThan(big, row); // [10, 10] bool
    assert.equal(memory(isSmall).peak, 40 + 400 + 100);
    assert.equal(memory(small(select(isSmall, big, row))).peak, 40 + 400 + 100 + 3 * 400);
  });
});

describe('graphMemory: a program with brief runs', () => {
  const shared = exp(big);
  const loss = small(shared);
  const outputs = { loss, gradient: small(exp(exp(exp(mul(shared, loss))))) };

  it('holds what both kinds of run compute until the end of the longer one', () => {
    // Without brief runs `shared` would go with its last use.
    assert.equal(graphMemory({ outputs }).peak, 40 + 4 + 2 * 400);
    assert.equal(graphMemory({ outputs, brief: { loss } }).peak, 40 + 4 + 3 * 400);
  });

  it('counts each value and each weight once', () => {
    const table = frozen('table', [20, 10]);
    const y = matmul(input('h', 'float32', [3, 10]), table, { transB: true });
    const both = graphMemory({ outputs: { y, z: exp(y) }, brief: { y } });
    assert.deepEqual([both.weights, both.operations], [800, 2]);
  });
});

describe('graphMemory: what a graph holds', () => {
  it('is each weight once where they stay plain', () => {
    const table = frozen('table', [20, 10]);
    const logits = matmul(gather(table, input('tokens', 'int32', [3])), table, { transB: true });
    const outputs = { y: matmul(logits, table) };
    assert.equal(graphMemory({ outputs, plainWeights: true }).weights, 800);
  });

  it('is one copy of a weight for each product with it, and a plain one for other readers', () => {
    const table = frozen('table', [20, 10]); // 800 bytes
    const tokens = input('tokens', 'int32', [3]);
    const rows = gather(table, tokens);
    assert.equal(memory(rows).weights, 800);
    const logits = matmul(rows, table, { transB: true });
    assert.equal(memory(logits).weights, 2 * 800);
    assert.equal(memory(matmul(logits, table)).weights, 3 * 800);
    const alone = matmul(input('h', 'float32', [3, 10]), table, { transB: true });
    assert.equal(memory(alone).weights, 800, 'nobody reads the plain copy');
  });

  it('is float32 whatever the file has, with tables, and the third operand of a sum of products', () => {
    const half = frozen('half', [20, 10], 'BF16');
    const h = input('h', 'float32', [3, 20]);
    const c = constant(new Float32Array(30), [3, 10]);
    const result = memory(addMatmul(c, h, half));
    assert.equal(result.weights, 800 + 120);
    assert.equal(result.operations, 1);
  });
});
