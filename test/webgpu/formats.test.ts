/** Frozen weights of 16, 8 and 4 bits on WebGPU: the gradient of the same numbers in float32 on the CPU, all on the device. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { input, weight, type Value } from '../../node/engine/graph.js';
import { frozenMatmul, frozenRows } from '../../node/engine/ops/index.js';
import { ortExecutor } from '../../node/engine/ort.js';
import {
  openLanguageModel,
  type GradientResult,
  type LanguageModelOptions,
} from '../../node/model/language-model.js';
import type { WeightFormat } from '../../node/model/weight-format.js';
import { l2Norm } from '../../node/train/optimiser.js';
import { leftToCpu, placementOf } from '../support/placement.js';
import { packModel } from '../support/packed-model.js';
import { weightFolder } from '../support/stored-weights.js';
import type { ReferenceCaseName } from '../unit/model/fixtures.js';
import { nextTokens, openCase, randomTokens, T } from '../unit/model/small-case.js';

const dir = weightFolder();

/** Relative to the gradient's norm: float32 sums in another order. */
const GRADIENT_BOUND = 1e-5;

async function gradientOf(
  options: LanguageModelOptions,
  theta: Float32Array,
): Promise<GradientResult> {
  const model = await openLanguageModel(options);
  try {
    const size = options.batchSize * T;
    const tokens = randomTokens(size, options.config.vocabSize);
    const batch = { tokens, targets: nextTokens(tokens), segments: new Int32Array(size) };
    return await model.gradient(batch, theta);
  } finally {
    await model.dispose();
  }
}

async function check(
  name: ReferenceCaseName,
  format: Exclude<WeightFormat, 'fp32'>,
): Promise<string> {
  const { options, model, theta } = await openCase(name, ['all-linear']);
  await model.dispose();
  const packed = await packModel(dir, options.config, options.weights, format);
  const exact = { ...options, weights: packed.floats, config: packed.floatConfig };
  const expected = await gradientOf({ ...exact, executor: ortExecutor({ threads: 1 }) }, theta);
  const results: GradientResult[] = [];
  const placement = await placementOf({ threads: 1, device: 'webgpu' }, async (executor) => {
    const stored = { ...options, weights: packed.weights, weightFormat: format, executor };
    results.push(await gradientOf({ ...stored, memory: 'low' }, theta));
  });
  const { gradient, loss } = results[0]!;
  const norm = l2Norm(expected.gradient);
  const error = l2Norm(gradient.map((value, i) => value - expected.gradient[i]!)) / norm;
  assert.ok(Math.abs(loss / expected.loss - 1) <= GRADIENT_BOUND, `loss ${loss}`);
  assert.ok(error <= GRADIENT_BOUND, `the gradient is off by ${error}`);
  assert.equal(leftToCpu(placement), '');
  return `gradient off by ${error.toExponential(1)}`;
}

/** So large that float32 is made of it in pieces, and that it is more than the 128 MiB a WebGPU device must bind. */
const [ROWS, COLUMNS] = [140_000, 512];

/** The element of a large table, which all storages can hold. */
function elementAt(row: number, column: number): number {
  return (((row * 31 + column * 7) % 255) - 127) * 2 ** -(row % 8);
}

function largeTable(storage: 'INT8' | 'BF16'): Value {
  const at = { name: 'table', shape: [ROWS, COLUMNS], file: join(dir, storage), offset: 0 };
  if (storage === 'INT8') {
    const codes = new Int8Array(ROWS * COLUMNS);
    for (let row = 0; row < ROWS; row++) {
      for (let i = 0; i < COLUMNS; i++) {
        codes[row * COLUMNS + i] = elementAt(row, i) * 2 ** (row % 8);
      }
    }
    const scales = Float32Array.from({ length: ROWS }, (_, row) => 2 ** -(row % 8));
    writeFileSync(at.file, codes);
    writeFileSync(`${at.file}.scales`, scales);
    const written = { file: `${at.file}.scales`, offset: 0, length: 4 * ROWS, block: COLUMNS };
    return weight({ ...at, storage, length: codes.length, scales: written });
  }
  const halves = new Uint16Array(ROWS * COLUMNS);
  const word = new Float32Array(1);
  const upper = new Uint16Array(word.buffer);
  for (let i = 0; i < halves.length; i++) {
    word[0] = elementAt(Math.floor(i / COLUMNS), i % COLUMNS);
    halves[i] = upper[1]!;
  }
  writeFileSync(at.file, halves);
  return weight({ ...at, storage, length: 2 * halves.length });
}

describe('frozen weights on WebGPU', () => {
  for (const storage of ['INT8', 'BF16'] as const) {
    it(`are read and multiplied with in pieces where they are large: ${storage}`, async () => {
      const table = largeTable(storage);
      const indices = Int32Array.of(0, ROWS - 1, 17, 70_001);
      const x = Float32Array.from({ length: COLUMNS }, (_, i) => ((i * 5) % 16) - 8);
      const results: Record<string, ArrayLike<number>>[] = [];
      const placement = await placementOf({ threads: 1, device: 'webgpu' }, async (executor) => {
        const rows = frozenRows(table, input('i', 'int32', [indices.length]));
        const logits = frozenMatmul(input('x', 'float32', [1, COLUMNS]), table, { transB: true });
        const graph = await executor.compile({ outputs: { rows, logits } });
        results.push(await graph.run({ i: indices, x }));
        await graph.dispose();
      });
      const [{ rows, logits } = {}] = results;
      assert.equal(leftToCpu(placement), '');
      const expected = [...indices].flatMap((row) =>
        Array.from({ length: COLUMNS }, (_, column) => elementAt(row, column)),
      );
      assert.deepEqual(Array.from(rows!), expected);
      for (const row of indices) {
        const product = x.reduce((sum, value, i) => sum + value * elementAt(row, i), 0);
        const error = Math.abs(logits![row]! - product);
        assert.ok(error <= 1e-3, `logit ${row} is ${logits![row]}, not ${product}`);
      }
    });
  }

  for (const format of ['bf16', 'int8', 'int4'] as const) {
    for (const name of ['llama-gqa-tied', 'gpt2'] as const) {
      it(`are multiplied with as ${format}: ${name}`, async (t) => {
        t.diagnostic(await check(name, format));
      });
    }
  }
});
