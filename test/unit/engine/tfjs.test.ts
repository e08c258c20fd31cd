import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { ExecutorError } from '../../../node/engine/errors.js';
import type { TensorData } from '../../../node/engine/executor.js';
import { input } from '../../../node/engine/graph.js';
import { add } from '../../../node/engine/ops/index.js';
import { openTfjsExecutor } from '../../../node/engine/tfjs/open.js';
import type { WasmBackend } from '../../../node/engine/tfjs/portable.js';
import { Scratch } from '../model/fixtures.js';
import { tensorsAreFreed } from './tensors-are-freed.js';

tensorsAreFreed('wasm', () => openTfjsExecutor({ backend: 'wasm' }));
tensorsAreFreed('cpu', () => openTfjsExecutor({ backend: 'cpu' }));

describe('openTfjsExecutor', () => {
  const scratch = new Scratch();
  after(() => scratch.remove());

  /** A folder with @tensorflow/tfjs-node installed, whose code is `code`. */
  async function installation(code: string): Promise<string> {
    const folder = await scratch.directory();
    const home = join(folder, 'node_modules', '@tensorflow', 'tfjs-node');
    await mkdir(home, { recursive: true });
    await writeFile(join(home, 'index.js'), code);
    return folder;
  }
  const broken = `throw new Error('libtensorflow.so.2: cannot open shared object file.\\n at dlopen');`;

  it('says in one sentence why an addon does not load and what is used instead', async () => {
    const warnings: string[] = [];
    const warn = (sentence: string): void => void warnings.push(sentence);
    const executor = await openTfjsExecutor({ folder: await installation(broken), warn });
    assert.equal(executor.device, 'tfjs wasm');
    assert.deepEqual(warnings, [
      '@tensorflow/tfjs-node does not load (libtensorflow.so.2: cannot open shared object file): computing on tfjs wasm instead',
    ]);
  });

  it('says that the folder it was given has no addon', async () => {
    const warnings: string[] = [];
    const folder = await scratch.directory();
    await openTfjsExecutor({ folder, warn: (sentence) => void warnings.push(sentence) });
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]!, /^there is no @tensorflow\/tfjs-node-gpu or .* in .*: computing on/);
  });

  it('does not replace TensorFlow when it is asked for by name', async () => {
    const folder = await installation(broken);
    await assert.rejects(openTfjsExecutor({ backend: 'tensorflow', folder }), (error: Error) => {
      assert.ok(error instanceof ExecutorError);
      assert.match(error.message, /does not load \(libtensorflow/);
      return true;
    });
  });

  it('computes on the backend that each executor was opened with, in turn', async () => {
    const x = input('x', 'float32', [2]);
    for (const backend of ['wasm', 'cpu', 'wasm'] as const) {
      const [opened, other] = [
        await openTfjsExecutor({ backend }),
        await openTfjsExecutor({ backend: backend === 'wasm' ? 'cpu' : 'wasm' }),
      ];
      assert.notEqual(opened.device, other.device);
      for (const executor of [opened, other, opened]) {
        const graph = await executor.compile({ outputs: { y: add(x, x) } });
        assert.deepEqual(
          (await graph.run({ x: Float32Array.of(1, 2) }))['y'],
          Float32Array.of(2, 4),
        );
        await graph.dispose();
      }
    }
  });

  it('leaves the errors of the process to whoever listens for them', async () => {
    await openTfjsExecutor({ backend: 'wasm' });
    // node:test listens, the wasm module no more.
    for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
      assert.ok(process.listenerCount(event) <= 1, `${process.listenerCount(event)} of ${event}`);
    }
  });

  it('reports a wasm backend that is full, rather than computing nonsense', async () => {
    const executor = await openTfjsExecutor({ backend: 'wasm' });
    const { wasm } = tf.backend() as WasmBackend;
    /** Adds a column and a row of `length`. */
    const runs = async (length: number): Promise<TensorData> => {
      const column = input('column', 'float32', [length, 1]);
      const row = input('row', 'float32', [1, length]);
      const graph = await executor.compile({ outputs: { y: add(column, row) } });
      try {
        const ones = new Float32Array(length).fill(1);
        return (await graph.run({ column: ones, row: ones }))['y']!;
      } finally {
        await graph.dispose();
      }
    };
    const full = (error: Error): boolean =>
      error instanceof ExecutorError && /no room for \d+ bytes/.test(error.message);
    await assert.rejects(runs(40_000), full); // 6.4 GB in one piece
    await assert.rejects(runs(30_000), full); // 3.6 GB in one piece
    const taken = Array.from({ length: 15 }, () => wasm._malloc(2 ** 28)); // leaves less than 256 MB
    await assert.rejects(runs(8_200), full); // 269 MB
    for (const address of taken) wasm._free(address);
    assert.equal((await runs(8_200)).at(-1), 2);
  });
});
