import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { input, type Value } from '../../../../node/engine/graph.js';
import { ModelProto } from '../../../../node/engine/onnx/onnx.js';
import { inputName, outputName, writeOnnx } from '../../../../node/engine/onnx/writer.js';
import { logSoftmax, matmul } from '../../../../node/engine/ops/index.js';
import { Prng } from '../../../../protocol/prng.js';

const noWeights = (): string => assert.fail('there are no weights');

function operators(y: Value, standard: boolean): string[] {
  const { bytes } = writeOnnx({ outputs: { y } }, noWeights, {
    standard,
    loops: !standard,
    sharesWeights: standard,
  });
  return (ModelProto.decode(bytes).graph?.node ?? []).map(({ opType }) => opType);
}

async function evaluate(y: Value, inputs: readonly Value[], standard: boolean): Promise<number[]> {
  const random = new Prng(new Uint8Array(32), 'standard');
  const { bytes } = writeOnnx({ outputs: { y } }, noWeights, {
    standard,
    loops: !standard,
    sharesWeights: standard,
  });
  const session = await InferenceSession.create(bytes);
  const feeds = inputs.map(({ shape }, i) => {
    const size = shape.reduce((product, n) => product * n, 1);
    const data = Float32Array.from({ length: size }, () => 20 * random.nextFloat() - 10);
    return [inputName(`x${i}`), new Tensor('float32', data, shape)] as const;
  });
  const results = await session.run(Object.fromEntries(feeds));
  await session.release();
  return [...(results[outputName('y')]!.data as Float32Array)];
}

async function same(y: Value, inputs: readonly Value[]): Promise<void> {
  const [expected, actual] = [await evaluate(y, inputs, false), await evaluate(y, inputs, true)];
  for (const [i, value] of expected.entries()) {
    const difference = Math.abs(actual[i]! - value);
    assert.ok(difference <= 2e-6 * Math.max(100, Math.abs(value)), `[${i}] ${actual[i]} ${value}`);
  }
}

const x = (...shapes: number[][]): Value[] => shapes.map((s, i) => input(`x${i}`, 'float32', s));

describe('standard operators', () => {
  it('give the products that FusedMatMul gives: matrices, with transposes and a factor', async () => {
    for (const [shapes, options] of [
      [
        [
          [3, 5],
          [5, 4],
        ],
        { alpha: 0.5 },
      ],
      [
        [
          [5, 3],
          [4, 5],
        ],
        { transA: true, transB: true, alpha: -3 },
      ],
    ] as const) {
      const inputs = x(...shapes.map((shape) => [...shape]));
      const y = matmul(inputs[0]!, inputs[1]!, options);
      assert.deepEqual(operators(y, true), ['Gemm', 'Identity']);
      await same(y, inputs);
    }
  });

  it('give the same products of stacks of matrices', async () => {
    for (const [shapes, options, expected] of [
      [
        [
          [2, 3, 5],
          [2, 5, 4],
        ],
        {},
        ['MatMul'],
      ],
      [
        [
          [2, 3, 5],
          [2, 4, 5],
        ],
        { transB: true, alpha: 0.25 },
        ['Transpose', 'MatMul', 'Mul'],
      ],
      [
        [
          [2, 5, 3],
          [2, 5, 4],
        ],
        { transA: true },
        ['Transpose', 'MatMul'],
      ],
    ] as const) {
      const inputs = x(...shapes.map((shape) => [...shape]));
      const y = matmul(inputs[0]!, inputs[1]!, options);
      assert.deepEqual(operators(y, true), [...expected, 'Identity']);
      await same(y, inputs);
    }
  });

  it('give the logarithms that LogSoftmax gives, of very unlikely ones as well', async () => {
    const [logits] = x([4, 50]) as [Value];
    const y = logSoftmax(logits);
    assert.ok(!operators(y, true).includes('LogSoftmax'));
    await same(y, [logits]);
  });
});
