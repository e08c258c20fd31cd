/** What a compiled graph holds of matrices that stay in their files. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { gradients } from '../../../node/engine/autodiff.js';
import { input, type Value } from '../../../node/engine/graph.js';
import { graphMemory } from '../../../node/engine/memory.js';
import { frozenMatmul, frozenRows, matmul, mul, sum } from '../../../node/engine/ops/index.js';
import { hasQuickSums } from '../../../node/engine/overflow-trial.js';
import { ortExecutor } from '../../../node/engine/ort.js';
import { storeMatrix, weightFolder } from '../../support/stored-weights.js';

const dir = weightFolder();
const cpu = ortExecutor({ threads: 1 });
/** 10 matrices of 4 MiB as float32. */
const [LAYERS, N] = [10, 1024];
const FLOATS = 4 * N * N;
const data = Float32Array.from({ length: N * N }, (_, i) => 0.01 * Math.sin(i));

/** Bytes that are in memory and in no file. */
async function anonymous(): Promise<number> {
  const status = await readFile('/proc/self/status', 'utf8');
  return 1024 * Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1]);
}

describe('matrices that stay in their files', () => {
  const isLinux = { skip: process.platform === 'linux' ? false : 'needs /proc' };
  for (const [storage, terms, most] of [
    ['F32', 0, 4],
    ['BF16', 0, 4],
    ['F16', 0, 4],
    ['INT8', 0, 4],
    ['INT8', 2, 4],
    ['INT4', 0, 4],
    ['INT4', 1, 4],
  ] as const) {
    it(`are never copied as a whole: ${storage}, ${terms} terms of 8 bits`, isLinux, async (t) => {
      if (terms > 0 && !(await hasQuickSums(cpu))) {
        t.skip('this CPU has no quick sums');
        return;
      }
      const matrices = Array.from(
        { length: LAYERS },
        () => storeMatrix(dir, storage, [N, N], data).value,
      );
      const x = input('x', 'float32', [8, N]);
      let y: Value = x;
      for (const matrix of matrices) y = frozenMatmul(y, matrix, { transB: true, terms });
      const [gradient] = gradients(sum(mul(y, y), [0, 1]), [x]);
      const before = await anonymous();
      const graph = await cpu.compile({ outputs: { y, gradient: gradient! }, plainWeights: true });
      const feeds = { x: new Float32Array(8 * N).fill(1) };
      for (let i = 0; i < 2; i++) await graph.run(feeds);
      const grown = (await anonymous()) - before;
      await graph.dispose();
      assert.ok(grown < most * FLOATS, `${grown} bytes beside ${LAYERS} matrices of ${FLOATS}`);
    });
  }

  it('are counted apart from what a graph holds, each byte once', () => {
    const half = storeMatrix(dir, 'BF16', [N, N], data);
    const codes = storeMatrix(dir, 'INT4', [N, N], data, { block: 64 });
    const x = input('x', 'float32', [8, N]);
    const tokens = input('tokens', 'int32', [8]);
    const y = frozenMatmul(frozenRows(half.value, tokens), half.value, { transB: true });
    const outputs = { y: mul(frozenMatmul(x, codes.value, { transB: true }), y) };
    const { weights, evictable } = graphMemory({ outputs, plainWeights: true });
    assert.equal(weights, 0);
    assert.equal(evictable, 2 * N * N + (N * N) / 2 + (4 * N * N) / 64);
    const both = graphMemory({
      outputs: { ...outputs, z: matmul(x, half.value) },
      plainWeights: true,
    });
    assert.equal(both.weights, FLOATS, 'float32 for the operation that needs it');
  });

  it('that are read by index count with as many rows as there are indices', () => {
    const table = storeMatrix(dir, 'BF16', [N, N], data).value;
    const rowsOf = (count: number): Value =>
      frozenRows(table, input(`tokens ${count}`, 'int32', [count]));
    const bytesFor = (outputs: Record<string, Value>): number => graphMemory({ outputs }).evictable;
    const page = 4096;
    assert.equal(bytesFor({ y: rowsOf(8) }), 8 * (2 * N + page));
    assert.equal(bytesFor({ y: rowsOf(8), z: rowsOf(16) }), 24 * (2 * N + page));
    assert.equal(bytesFor({ y: rowsOf(N) }), 2 * N * N, 'never more than the table');
    const z = frozenMatmul(input('x', 'float32', [8, N]), table, { transB: true });
    assert.equal(bytesFor({ y: rowsOf(8), z }), 2 * N * N, 'a product reads all of it');
  });

  it('of 16 and 4 bits become float32 two at a time, which the peak counts', () => {
    const x = input('x', 'float32', [8, N]);
    const peakOf = (storage: 'F32' | 'BF16' | 'INT8', terms: 0 | 1): number => {
      const { value } = storeMatrix(dir, storage, [N, N], data);
      return graphMemory({ outputs: { y: frozenMatmul(x, value, { transB: true, terms }) } }).peak;
    };
    assert.equal(peakOf('BF16', 0) - peakOf('F32', 0), 2 * FLOATS);
    const product = 4 * 8 * N; // before its rows are scaled
    assert.equal(peakOf('INT8', 1) - peakOf('F32', 0), 2 * N * N + product);
  });

  it('with scales of blocks hold one scale a row, which is computed once', () => {
    const x = input('x', 'float32', [8, N]);
    const { value } = storeMatrix(dir, 'INT4', [N, N], data, { block: 64 });
    const y = frozenMatmul(x, value, { transB: true, terms: 1 });
    assert.equal(graphMemory({ outputs: { y } }).weights, 4 * N + 4, 'and the factor of them');
  });
});
