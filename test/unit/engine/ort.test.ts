import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ExecutorError } from '../../../node/engine/errors.js';
import { input, weight, type Value, type WeightSource } from '../../../node/engine/graph.js';
import { add, equal, mul } from '../../../node/engine/ops/index.js';
import { ortExecutor } from '../../../node/engine/ort.js';

const executor = ortExecutor({ threads: 2 });

async function evaluate(value: Value): Promise<number[]> {
  const graph = await executor.compile({ outputs: { value } });
  try {
    return [...(await graph.run({}))['value']!];
  } finally {
    await graph.dispose();
  }
}

describe('weights', () => {
  let dir: string;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'ort-'));
  });
  after(() => rm(dir, { recursive: true }));

  /** Writes `words` (hexadecimal, little-endian bytes) after 24 other bytes. */
  async function weightFile(
    path: string,
    storage: WeightSource['storage'],
    hex: string,
  ): Promise<WeightSource> {
    const bytes = Buffer.from(hex.replaceAll(' ', ''), 'hex');
    await writeFile(path, Buffer.concat([Buffer.alloc(24, 0xff), bytes, Buffer.alloc(9, 0xff)]));
    const shape = [bytes.length / (storage === 'F32' ? 4 : 2)];
    return { name: path, shape, storage, file: path, offset: 24, length: bytes.length };
  }

  it('are read where they lie: float32, float16 and bfloat16', async () => {
    // 1.5, -2, 65504 or the nearest
    const single = await weightFile(join(dir, 'f32'), 'F32', '0000c03f 000000c0 00e07f47');
    const half = await weightFile(join(dir, 'f16'), 'F16', '003e 00c0 ff7b');
    const brain = await weightFile(join(dir, 'bf16'), 'BF16', 'c03f 00c0 8047');
    assert.deepEqual(await evaluate(weight(single)), [1.5, -2, 65504]);
    assert.deepEqual(await evaluate(weight(half)), [1.5, -2, 65504]);
    assert.deepEqual(await evaluate(weight(brain)), [1.5, -2, 65536]);
  });

  it('may lie in different folders, behind links', async () => {
    await mkdir(join(dir, 'blobs', 'deep'), { recursive: true });
    await mkdir(join(dir, 'snapshot'));
    const one = await weightFile(join(dir, 'blobs', 'one'), 'F32', '0000803f');
    const two = await weightFile(join(dir, 'blobs', 'deep', 'two'), 'F32', '00000040');
    await symlink('../blobs/one', join(dir, 'snapshot', 'a.safetensors'));
    await symlink('../blobs/deep/two', join(dir, 'snapshot', 'b.safetensors'));
    const value = add(
      weight({ ...one, file: join(dir, 'snapshot', 'a.safetensors') }),
      weight({ ...two, file: join(dir, 'snapshot', 'b.safetensors') }),
    );
    assert.deepEqual(await evaluate(value), [3]);
  });

  it('that are gone or cut short are an error that names the file', async () => {
    const gone = { name: 'w', shape: [1], storage: 'F32', file: join(dir, 'gone') } as const;
    await assert.rejects(evaluate(weight({ ...gone, offset: 0, length: 4 })), (error: Error) => {
      assert.ok(error instanceof ExecutorError);
      assert.match(error.message, /gone, which holds weight w/);
      return true;
    });
    const short = await weightFile(join(dir, 'short'), 'F32', '0000803f');
    await assert.rejects(evaluate(weight({ ...short, offset: 1000 })), ExecutorError);
  });
});

describe('a compiled graph', () => {
  const x = input('x', 'float32', [2]);
  const n = input('n', 'int32', [2]);

  it('returns what it was asked for under its names, also inputs and integers', async () => {
    const graph = await executor.compile({ outputs: { double: add(x, x), same: x, n } });
    const feeds = { x: Float32Array.of(1, 2), n: Int32Array.of(-7, 2 ** 31 - 1) };
    assert.deepEqual(await graph.run(feeds), {
      double: Float32Array.of(2, 4),
      same: Float32Array.of(1, 2),
      n: Int32Array.of(-7, 2 ** 31 - 1),
    });
    await graph.dispose();
  });

  it('keeps results apart from run to run', async () => {
    const graph = await executor.compile({ outputs: { y: mul(x, x) } });
    const first = await graph.run({ x: Float32Array.of(1, 2) });
    await graph.run({ x: Float32Array.of(3, 4) });
    assert.deepEqual(first['y'], Float32Array.of(1, 4));
    await graph.dispose();
  });

  it('refuses feeds that are missing, unknown, of another type or size', async () => {
    const graph = await executor.compile({ outputs: { y: mul(x, x) } });
    const good = Float32Array.of(1, 2);
    await assert.rejects(graph.run({}), /input "x" is float32 \[2\], but got nothing/);
    await assert.rejects(graph.run({ x: good, z: good }), /no input "z"/);
    await assert.rejects(graph.run({ x: Int32Array.of(1, 2) }), /but got 2 of int32/);
    await assert.rejects(graph.run({ x: Float32Array.of(1) }), /but got 1 of float32/);
    await graph.dispose();
  });

  it('refuses to run once disposed, and is disposed twice without harm', async () => {
    const graph = await executor.compile({ outputs: { y: mul(x, x) } });
    await graph.dispose();
    await graph.dispose();
    await assert.rejects(graph.run({ x: Float32Array.of(1, 2) }), ExecutorError);
  });

  it('cannot have two inputs of one name', async () => {
    const twin = input('x', 'float32', [2]);
    await assert.rejects(executor.compile({ outputs: { y: add(x, twin) } }), /two inputs/);
  });

  it('returns numbers only', async () => {
    const graph = await executor.compile({ outputs: { y: equal(x, x) } });
    await assert.rejects(graph.run({ x: Float32Array.of(1, 2) }), /type bool/);
    await graph.dispose();
  });
});

describe('ortExecutor', () => {
  it('says what it runs on', () => {
    assert.equal(executor.device, 'cpu (2 threads)');
    assert.equal(ortExecutor({ threads: 1 }).device, 'cpu (1 thread)');
  });
});
