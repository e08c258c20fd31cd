/** What a TensorFlow.js executor holds, and when it lets go of it, on any backend. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { ExecutorError } from '../../../node/engine/errors.js';
import type { Executor, TensorData } from '../../../node/engine/executor.js';
import { apply, input, scalar, weight, type Value } from '../../../node/engine/graph.js';
import { add, mul, sigmoid, silu } from '../../../node/engine/ops/index.js';
import type { NoAttributes, Operation } from '../../../node/engine/operation.js';
import { Scratch } from '../model/fixtures.js';

/** Counts, whenever it is carried out, the tensors that are alive; otherwise as its input. */
function probe(counts: number[]): Operation<NoAttributes> {
  return {
    name: 'probe',
    type: ([x]) => x!,
    gradient: () => [null],
    onnx: () => assert.fail('for TensorFlow.js only'),
    tfjs({ inputs: [x] }) {
      counts.push(tf.memory().numTensors);
      return tf.clone(x!);
    },
  };
}

const failing: Operation<NoAttributes> = {
  ...probe([]),
  tfjs({ inputs: [x] }) {
    tf.add(x!, 1);
    throw new Error('no kernel');
  },
};

export function tensorsAreFreed(name: string, open: () => Promise<Executor>): void {
  describe(`tensors on ${name}`, () => {
    const x = input('x', 'float32', [3]);
    const feeds: Record<string, TensorData> = { x: Float32Array.of(1, 2, 3) };
    const scratch = new Scratch();
    let executor: Executor;
    let outset: number;
    before(async () => {
      executor = await open();
      outset = tf.memory().numTensors;
    });
    after(() => scratch.remove());
    const held = (): number => tf.memory().numTensors - outset;

    it('of a run are gone after it, those of the graph when it is disposed', async () => {
      const graph = await executor.compile({ outputs: { y: silu(mul(x, scalar(2))), x } });
      assert.equal(held(), 1);
      for (let run = 0; run < 3; run++) await graph.run(feeds);
      assert.equal(held(), 1);
      await graph.dispose();
      assert.equal(held(), 0);
    });

    it('are freed after their last use: a long chain holds no more than a short one', async () => {
      const counts: number[] = [];
      const operation = probe(counts);
      let value: Value = x;
      for (let link = 0; link < 20; link++) {
        value = apply(operation, [sigmoid(add(value, value))], {});
      }
      const graph = await executor.compile({ outputs: { value } });
      await graph.run(feeds);
      await graph.dispose();
      assert.equal(counts.length, 20);
      assert.equal(new Set(counts).size, 1, `alive at each link: ${counts.join(' ')}`);
    });

    it('are freed when an operation fails', async () => {
      const graph = await executor.compile({ outputs: { y: apply(failing, [add(x, x)], {}), x } });
      await assert.rejects(graph.run(feeds), (error: Error) => {
        assert.ok(error instanceof ExecutorError);
        assert.match(error.message, /no kernel/);
        return true;
      });
      assert.equal(held(), 0);
      await graph.dispose();
    });

    it('are freed when a weight cannot be read', async () => {
      const file = join(await scratch.directory(), 'weights');
      await writeFile(file, new Uint8Array(12));
      const source = { shape: [3], storage: 'F32', offset: 0, length: 12 } as const;
      const good = weight({ ...source, name: 'good', file });
      const gone = weight({ ...source, name: 'gone', file: `${file}-gone` });
      const program = { outputs: { y: add(add(good, scalar(1)), gone) } };
      await assert.rejects(executor.compile(program), /-gone, which holds weight gone/);
      assert.equal(held(), 0);
    });

    it('of another type than the graph says are an error that names the operation', async () => {
      const wrong = { ...probe([]), tfjs: () => tf.zeros([2]) };
      const graph = await executor.compile({ outputs: { y: apply(wrong, [x], {}) } });
      await assert.rejects(graph.run(feeds), /probe made float32 \[2\] instead of float32 \[3\]/);
      assert.equal(held(), 0);
      await graph.dispose();
    });
  });
}
