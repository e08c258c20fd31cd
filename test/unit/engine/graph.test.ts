import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ShapeError } from '../../../node/engine/errors.js';
import { constant, input, topologicalOrder, weight } from '../../../node/engine/graph.js';
import { add, matmul, mul, sum } from '../../../node/engine/ops/index.js';

describe('topologicalOrder', () => {
  it('puts each value once, after everything that it needs', () => {
    const x = input('x', 'float32', [2, 3]);
    const square = mul(x, x);
    const outputs = [add(square, x), sum(mul(square, square), [0])];
    const order = topologicalOrder(outputs);
    assert.equal(new Set(order).size, order.length);
    assert.equal(order.length, 5);
    for (const [i, value] of order.entries()) {
      if (value.source.kind !== 'operation') continue;
      for (const one of value.source.inputs) {
        const at = order.indexOf(one);
        assert.ok(at >= 0 && at < i);
      }
    }
  });

  it('takes chains deeper than the call stack', () => {
    let value = input('x', 'float32', [1]);
    for (let i = 0; i < 50_000; i++) value = add(value, value);
    assert.equal(topologicalOrder([value]).length, 50_001);
  });
});

describe('leaves', () => {
  it('refuse shapes that are no shapes', () => {
    for (const shape of [[0], [-1, 2], [1.5], [NaN]]) {
      assert.throws(() => input('x', 'float32', shape), ShapeError);
    }
  });

  it('refuse data of another size', () => {
    assert.throws(() => constant(new Float32Array(5), [2, 3]), /5 elements for shape \[2, 3\]/);
    const source = { name: 'w', shape: [3, 4], storage: 'BF16', file: '/w', offset: 8 } as const;
    assert.equal(weight({ ...source, length: 24 }).dtype, 'float32');
    assert.throws(() => weight({ ...source, length: 48 }), /48 bytes for BF16 \[3, 4\]/);
  });

  it('refuse codes without scales, and scales that do not fit the codes', () => {
    const source = {
      name: 'w',
      shape: [3, 5],
      storage: 'INT4',
      file: '/w',
      offset: 0,
      length: 8,
    } as const;
    const scales = { file: '/s', offset: 0, length: 24, block: 4 };
    assert.equal(weight({ ...source, scales }).dtype, 'float32');
    assert.throws(() => weight(source), /INT4 needs scales/);
    assert.throws(
      () => weight({ ...source, storage: 'F32', length: 60, scales }),
      /F32 has no scales/,
    );
    assert.throws(() => weight({ ...source, shape: [15], scales }), /is not a matrix/);
    assert.throws(() => weight({ ...source, scales: { ...scales, block: 6 } }), /blocks of 6/);
    assert.throws(() => weight({ ...source, scales: { ...scales, block: 5 } }), /which take 12/);
  });
});

describe('a ShapeError', () => {
  it('names the operation, the operands and the reason', () => {
    const a = input('a', 'float32', [2, 3]);
    const b = input('b', 'float32', [4, 5]);
    assert.throws(() => matmul(a, b), {
      name: 'ShapeError',
      message:
        'matmul of float32 [2, 3], float32 [4, 5]: inner lengths 3 and 4 differ (transA false, transB false)',
    });
  });
});
