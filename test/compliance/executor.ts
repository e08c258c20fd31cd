/** The compliance suite of the Executor interface: weights, feeds, results, integers, the end of a graph. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ExecutorError } from '../../node/engine/errors.js';
import type { Executor, TensorData } from '../../node/engine/executor.js';
import {
  constant,
  input,
  scalar,
  weight,
  type Value,
  type WeightSource,
} from '../../node/engine/graph.js';
import {
  add,
  concat,
  equal,
  expand,
  lessThan,
  mul,
  reshape,
  select,
  slice,
  transpose,
} from '../../node/engine/ops/index.js';
import { STORAGE_BYTES } from '../../node/engine/storage.js';

type Open = () => Executor | Promise<Executor>;

export function executorCompliance(name: string, open: Open): void {
  describe(`weights on ${name}`, () => checkWeights(open));
  describe(`a compiled graph on ${name}`, () => checkGraphs(open));
  describe(`integers and conditions on ${name}`, () => checkExactness(open));
}

async function evaluate(open: Open, value: Value): Promise<TensorData> {
  const graph = await (await open()).compile({ outputs: { value } });
  try {
    return (await graph.run({}))['value']!;
  } finally {
    await graph.dispose();
  }
}

function checkWeights(open: Open): void {
  let dir: string;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'weights-'));
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
    const shape = [bytes.length / STORAGE_BYTES[storage]];
    return { name: path, shape, storage, file: path, offset: 24, length: bytes.length };
  }

  it('are read where they lie: float32, float16 and bfloat16', async () => {
    // 1.5, -2, 65504 or the nearest
    const single = await weightFile(join(dir, 'f32'), 'F32', '0000c03f 000000c0 00e07f47');
    const half = await weightFile(join(dir, 'f16'), 'F16', '003e 00c0 ff7b');
    const brain = await weightFile(join(dir, 'bf16'), 'BF16', 'c03f 00c0 8047');
    assert.deepEqual([...(await evaluate(open, weight(single)))], [1.5, -2, 65504]);
    assert.deepEqual([...(await evaluate(open, weight(half)))], [1.5, -2, 65504]);
    assert.deepEqual([...(await evaluate(open, weight(brain)))], [1.5, -2, 65536]);
  });

  it('may be codes of 8 bits, with a scale a row', async () => {
    // 127, -127, 0; 1, -1, 64
    const codes = await weightFile(join(dir, 'int8'), 'INT8', '7f8100 01ff40');
    const scales = await weightFile(join(dir, 'int8-scales'), 'F32', '0000003f 00000040'); // 0.5, 2
    const value = weight({ ...codes, shape: [2, 3], scales: { ...scales, block: 3 } });
    assert.deepEqual([...(await evaluate(open, value))], [63.5, -63.5, 0, 2, -2, 128]);
  });

  it('may be codes of 4 bits, with a scale a block, the last of which is shorter', async () => {
    const numbers = Array.from({ length: 2 * 35 }, (_, i) => (i % 15) - 7);
    const bytes = new Uint8Array(35);
    for (const [i, n] of numbers.entries()) bytes[i >>> 1]! |= (n & 15) << (4 * (i % 2));
    const hex = Buffer.from(bytes).toString('hex');
    const codes = await weightFile(join(dir, 'int4'), 'INT4', hex);
    const scales = await weightFile(
      join(dir, 'int4-scales'),
      'F32',
      '0000803f 00000040 0000003f 00008040', // 1, 2; 0.5, 4
    );
    const value = weight({ ...codes, shape: [2, 35], scales: { ...scales, block: 32 } });
    const expected = numbers.map(
      (n, i) => n * [1, 2, 0.5, 4][2 * Number(i >= 35) + Number(i % 35 >= 32)]!,
    );
    assert.deepEqual([...(await evaluate(open, value))], expected);
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
    assert.deepEqual([...(await evaluate(open, value))], [3]);
  });

  it('that are gone or cut short are an error that names the file', async () => {
    const gone = { name: 'w', shape: [1], storage: 'F32', file: join(dir, 'gone') } as const;
    await assert.rejects(
      evaluate(open, weight({ ...gone, offset: 0, length: 4 })),
      (error: Error) => {
        assert.ok(error instanceof ExecutorError);
        assert.match(error.message, /gone, which holds weight w/);
        return true;
      },
    );
    const short = await weightFile(join(dir, 'short'), 'F32', '0000803f');
    await assert.rejects(evaluate(open, weight({ ...short, offset: 1000 })), ExecutorError);
  });
}

function checkGraphs(open: Open): void {
  const x = input('x', 'float32', [2]);
  const n = input('n', 'int32', [2]);
  let executor: Executor;
  before(async () => {
    executor = await open();
  });

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

  it('returns copies that neither a later run nor the feeds share', async () => {
    const same = reshape(x, [2, 1]);
    const graph = await executor.compile({ outputs: { y: mul(x, x), x, same } });
    const feed = Float32Array.of(1, 2);
    const first = await graph.run({ x: feed });
    feed.fill(9);
    await graph.run({ x: Float32Array.of(3, 4) });
    const kept = [first['y'], first['x'], first['same']];
    assert.deepEqual(kept, [Float32Array.of(1, 4), Float32Array.of(1, 2), Float32Array.of(1, 2)]);
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

  it('computes less in a brief run, from the same feeds', async () => {
    const half = mul(x, scalar(0.5));
    const outputs = { sum: add(half, x), square: mul(half, half), n };
    // The same by another way.
    const square = mul(mul(x, x), scalar(0.25));
    const graph = await executor.compile({ outputs, brief: { sum: outputs.sum, square } });
    const feeds = { x: Float32Array.of(2, 4), n: Int32Array.of(5, 6) };
    const few = { sum: Float32Array.of(3, 6), square: Float32Array.of(1, 4) };
    const all = { ...few, n: Int32Array.of(5, 6) };
    assert.deepEqual(await graph.run(feeds), all);
    assert.deepEqual(await graph.run(feeds, { brief: true }), few);
    assert.deepEqual(await graph.run(feeds), all);
    await graph.dispose();
    const plain = await executor.compile({ outputs: { sum: outputs.sum } });
    await assert.rejects(plain.run({ x: feeds.x }, { brief: true }), /has no brief run/);
    await plain.dispose();
  });

  it('writes into the arrays that it is given, parts of one array too, in both kinds of run', async () => {
    const outputs = { sum: add(x, x), square: mul(x, x), same: x, n };
    const graph = await executor.compile({ outputs, brief: { sum: outputs.sum } });
    const all = new Float32Array(8).fill(7);
    const into = { square: all.subarray(2, 4), sum: all.subarray(4, 6), same: all.subarray(6) };
    const feeds = { x: Float32Array.of(3, 5), n: Int32Array.of(1, 2) };
    for (let i = 0; i < 2; i++) {
      const results = await graph.run(feeds, { into });
      assert.equal(results['sum'], into.sum);
      assert.deepEqual([...all], [7, 7, 9, 25, 6, 10, 3, 5]);
      assert.deepEqual(results['n'], Int32Array.of(1, 2));
      all.fill(7);
    }
    const { sum } = await graph.run(feeds, { brief: true, into: { sum: into.sum } });
    assert.equal(sum, into.sum);
    assert.deepEqual([...all], [7, 7, 7, 7, 6, 10, 7, 7]);
    for (const [wrong, why] of [
      [{ sum: new Float32Array(3) }, /output "sum" is float32 \[2\], but got 3 of float32/],
      [{ n: new Float32Array(2) }, /output "n" is int32 \[2\], but got 2 of float32/],
      [{ other: new Float32Array(2) }, /no output "other"/],
    ] as const) {
      await assert.rejects(graph.run(feeds, { into: wrong }), why);
    }
    await assert.rejects(
      graph.run(feeds, { brief: true, into: { n: Int32Array.of(0, 0) } }),
      /no output "n"/,
    );
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
    await assert.rejects(async () => {
      const graph = await executor.compile({ outputs: { y: equal(x, x) } });
      try {
        await graph.run({ x: Float32Array.of(1, 2) });
      } finally {
        await graph.dispose();
      }
    }, /type bool/);
  });
}

/** Values beyond 2^24, which float32 would round. */
function checkExactness(open: Open): void {
  const numbers = constant(Int32Array.of(2 ** 24, 2 ** 24 + 1, -(2 ** 31), 2 ** 31 - 1), [2, 2]);

  it('integers move without rounding: transpose, slice, concat, expand, reshape', async () => {
    const turned = transpose(numbers, [1, 0]);
    const joined = concat([slice(turned, 0, 1, 2), turned], 0); // [3, 2]
    const value = reshape(expand(reshape(joined, [1, 3, 2]), [2, 3, 2]), [12]);
    const [a, b, c, d] = [2 ** 24, 2 ** 24 + 1, -(2 ** 31), 2 ** 31 - 1] as const;
    const once = [b, d, a, c, b, d];
    assert.deepEqual(await evaluate(open, value), Int32Array.from([...once, ...once]));
  });

  it('integers are compared and chosen without rounding', async () => {
    const others = constant(Int32Array.of(2 ** 24 + 1, 2 ** 24 + 1, 2 ** 31 - 1, -1), [2, 2]);
    const [one, zero] = [1, 0].map((k) => constant(Int32Array.of(k), []));
    const chosen = select(lessThan(numbers, others), numbers, others);
    const same = select(equal(numbers, others), one!, zero!);
    assert.deepEqual(await evaluate(open, same), Int32Array.of(0, 1, 0, 0));
    assert.deepEqual(
      await evaluate(open, chosen),
      Int32Array.of(2 ** 24, 2 ** 24 + 1, -(2 ** 31), -1),
    );
  });

  it('conditions move as numbers do', async () => {
    const condition = equal(numbers, constant(Int32Array.of(2 ** 24 + 1), [])); // only [0, 1] holds
    const moved = concat([transpose(condition, [1, 0]), slice(condition, 0, 0, 1)], 0); // [3, 2]
    const value = select(reshape(expand(moved, [2, 3, 2]), [12]), scalar(1), scalar(-1));
    const once = [-1, -1, 1, -1, -1, 1];
    assert.deepEqual(await evaluate(open, value), Float32Array.from([...once, ...once]));
  });
}
