import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ExecutorError } from '../../../node/engine/errors.js';
import type { CompiledGraph, Feeds, TensorData } from '../../../node/engine/executor.js';
import { constant, input } from '../../../node/engine/graph.js';
import { matmul } from '../../../node/engine/ops/index.js';
import { ortExecutor } from '../../../node/engine/ort.js';

/** The rows of a batch, and the width of a product that takes some milliseconds. */
const [N, C] = [512, 1024];
const weights = Float32Array.from({ length: C * C }, (_, i) => Math.sin(i));

async function withReplicas(work: (graph: CompiledGraph) => Promise<void>): Promise<void> {
  const y = matmul(input('x', 'float32', [N, C]), constant(weights, [C, C]));
  const graph = await ortExecutor({ threads: 2 }).compile({ outputs: { y } }, { replicas: 2 });
  try {
    await work(graph);
  } finally {
    await graph.dispose();
  }
}

const feeds = (x: number): Feeds => ({ x: new Float32Array(N * C).fill(x) });

describe('replicas of a graph', () => {
  it('take a run each at the same time, and the feeds stay the caller’s', async () => {
    await withReplicas(async (graph) => {
      const [one, two] = [feeds(1), feeds(2)];
      const results = await Promise.all([graph.run(one), graph.run(two)]);
      const [first, second] = results.map(({ y }) => y!) as [TensorData, TensorData];
      const column = weights.reduce((sum, value, i) => sum + (i % C === 0 ? value : 0), 0);
      assert.ok(Math.abs(first[0]! - column) < 1e-3, `${first[0]} for ${column}`);
      assert.deepEqual(
        [...second],
        [...first].map((value) => 2 * value),
      );
      assert.deepEqual([one['x']!.length, two['x']![0]], [N * C, 2]);
    });
  });

  it('refuse a run for which none is idle, and take the next once one is', async () => {
    await withReplicas(async (graph) => {
      const running = [graph.run(feeds(1)), graph.run(feeds(2))];
      const refused = /more than 2 runs at the same time/;
      await assert.rejects(graph.run(feeds(3)), refused);
      await Promise.all(running);
      assert.equal((await graph.run(feeds(0)))['y']![0], 0);
    });
  });

  it('end what is under way before they are disposed of, and take nothing after', async () => {
    await withReplicas(async (graph) => {
      let ended = 0;
      const running = [1, 2].map((x) => graph.run(feeds(x)).then(() => ended++));
      const disposed = graph.dispose().then(() => ended);
      await assert.rejects(graph.run(feeds(3)), ExecutorError);
      assert.equal(await disposed, 2);
      await Promise.all(running);
    });
  });
});
