import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Executor } from '../../../node/engine/executor.js';
import { topologicalOrder } from '../../../node/engine/graph.js';
import { hasQuickSums } from '../../../node/engine/overflow-trial.js';
import { ortExecutor } from '../../../node/engine/ort.js';
import { openTfjsExecutor } from '../../../node/engine/tfjs/open.js';
import {
  openLanguageModel,
  type LanguageModel,
  type LanguageModelOptions,
} from '../../../node/model/language-model.js';
import { decoderOf } from '../../../node/model/families.js';
import { openNextTokenModel } from '../../../node/model/next-token-model.js';
import type { WeightFormat } from '../../../node/model/weight-format.js';
import { packModel } from '../../support/packed-model.js';
import { weightFolder } from '../../support/stored-weights.js';
import { narrowCpu } from '../engine/narrow-cpu.js';
import type { ReferenceCaseName } from './fixtures.js';
import { nextTokens, openCase, randomTokens, T } from './small-case.js';

const dir = weightFolder();
const cpu = ortExecutor({ threads: 1 });
/** The same without 8-bit products. */
const floatCpu: Executor = { ...cpu, hasIntegerProducts: false };

type Format = Exclude<WeightFormat, 'fp32'>;

/** The options of a case in a format, and of the same numbers in float32. */
async function optionsOf(
  name: ReferenceCaseName,
  format: Format,
  executor: Executor = floatCpu,
): Promise<{ packed: LanguageModelOptions; exact: LanguageModelOptions; theta: Float32Array }> {
  const { options, model, theta } = await openCase(name, ['all-linear']);
  await model.dispose();
  const { weights, floats, floatConfig } = await packModel(
    dir,
    options.config,
    options.weights,
    format,
  );
  return {
    packed: { ...options, weights, weightFormat: format, executor },
    exact: { ...options, weights: floats, config: floatConfig },
    theta,
  };
}

function batchOf({
  config,
  batchSize,
}: LanguageModelOptions): Parameters<LanguageModel['gradient']>[0] {
  const tokens = randomTokens(batchSize * T, config.vocabSize);
  return { tokens, targets: nextTokens(tokens), segments: new Int32Array(batchSize * T) };
}

function distance(a: Float32Array, b: Float32Array): number {
  return Math.hypot(...a.map((value, i) => value - b[i]!)) / Math.hypot(...b);
}

async function results(
  options: LanguageModelOptions,
  theta: Float32Array,
): Promise<{ loss: number; alone: number; gradient: Float32Array }> {
  const model = await openLanguageModel(options);
  try {
    const batch = batchOf(options);
    const { loss, gradient } = await model.gradient(batch, theta);
    return { loss, gradient, alone: (await model.loss(batch, theta)).loss };
  } finally {
    await model.dispose();
  }
}

/** Rows enough for products in 8-bit integers. */
const batchSize = Math.ceil(64 / T);
const MODES = ['normal', 'low'] as const;
const FAMILIES = [
  'llama-gqa-tied',
  'mistral-shards',
  'qwen2',
  'qwen3',
  'gemma3',
  'phi3',
  'gpt2',
] as const;

describe('weights in a format of few bits', () => {
  for (const name of FAMILIES) {
    for (const format of ['bf16', 'int8', 'int4'] as const) {
      it(`give the loss and gradient of the float32 that they stand for: ${name}, ${format}`, async () => {
        const { packed, exact, theta } = await optionsOf(name, format);
        const expected = await results(exact, theta);
        const modes = name === 'gpt2' || name === 'llama-gqa-tied' ? MODES : MODES.slice(0, 1);
        for (const memory of modes) {
          const actual = await results({ ...packed, memory }, theta);
          assert.ok(Math.abs(actual.loss / expected.loss - 1) < 1e-5, `${actual.loss}`);
          assert.equal(actual.alone, actual.loss);
          const error = distance(actual.gradient, expected.gradient);
          assert.ok(error < 1e-5, `${memory}: gradient off by ${error}`);
        }
      });
    }
  }

  for (const name of ['llama-gqa-tied', 'phi3', 'gpt2'] as const) {
    for (const format of ['int8', 'int4'] as const) {
      it(`are multiplied with in 8-bit integers, close to that: ${name}, ${format}`, async (t) => {
        if (!(await hasQuickSums(cpu))) {
          t.skip('this CPU has no quick sums');
          return;
        }
        const { packed, exact, theta } = await optionsOf(name, format, cpu);
        const expected = await results({ ...exact, batchSize }, theta);
        const actual = await results({ ...packed, batchSize }, theta);
        const error = Math.abs(actual.loss / expected.loss - 1);
        assert.ok(error > 0 && error < 2e-3, `loss ${actual.loss} for ${expected.loss}`);
        const off = distance(actual.gradient, expected.gradient);
        assert.ok(off > 1e-4 && off < 0.05, `gradient off by ${off}`);
      });
    }
  }

  it('are float32 for TensorFlow.js, which has no 8-bit products', async () => {
    const { packed, exact, theta } = await optionsOf(
      'llama-gqa-tied',
      'int8',
      await openTfjsExecutor(),
    );
    const [actual, expected] = [await results(packed, theta), await results(exact, theta)];
    assert.ok(distance(actual.gradient, expected.gradient) < 1e-5);
  });

  it('take two terms of 8 bits where a layer is sensitive, and none where sums are cut at 16 bits', async () => {
    const { packed } = await optionsOf('llama-gqa-tied', 'int8');
    const forward = async (executor: Executor, rows: number): Promise<Record<string, number>> => {
      const model = await openLanguageModel({ ...packed, batchSize: rows, executor });
      const { loss } = model.program('loss').outputs;
      await model.dispose();
      const counts = { frozenMatmul: 0, codesMatmul: 0, twoTerms: 0 };
      for (const { source } of topologicalOrder([loss!])) {
        if (source.kind !== 'operation') continue;
        const { name } = source.operation;
        if (name in counts) counts[name as keyof typeof counts] += 1;
        if (name === 'codesMatmul' && source.inputs.length === 4) counts.twoTerms += 1;
      }
      return counts;
    };
    const { layers } = packed.config;
    const all = 7 * layers + 1;
    const none = { frozenMatmul: all, codesMatmul: 0, twoTerms: 0 };
    assert.deepEqual(await forward(narrowCpu(), batchSize), none);
    if (!(await hasQuickSums(cpu))) return;
    assert.deepEqual(await forward(cpu, 1), none, 'few rows');
    const sensitive = 4 * layers + 1; // queries, keys, values, the way down, and the output layer
    assert.deepEqual(await forward(cpu, batchSize), {
      frozenMatmul: 0,
      codesMatmul: all,
      twoTerms: sensitive,
    });
  });

  it('give the gradient of each example by itself', async () => {
    const { packed, exact, theta } = await optionsOf('llama-gqa-tied', 'int4');
    const examples = { batchSize: 2, sequenceLength: T };
    const [actual, expected] = await Promise.all(
      [packed, exact].map(async (options) => {
        const model = await openLanguageModel({ ...options, examples });
        const { gradients } = await model.exampleGradients(batchOf(options), theta);
        await model.dispose();
        return gradients;
      }),
    );
    assert.ok(distance(actual!, expected!) < 1e-5);
  });

  for (const format of ['bf16', 'int8', 'int4'] as const) {
    it(`write the text that their float32 would: ${format}`, async () => {
      const { packed, exact, theta } = await optionsOf('llama-gqa-tied', format);
      const [actual, expected] = await Promise.all(
        [packed, exact].map(async (options) => {
          const model = await openNextTokenModel({ ...options, theta, capacity: 16, chunk: 4 });
          const logits = await model.read([...randomTokens(9, options.config.vocabSize)]);
          await model.dispose();
          return logits;
        }),
      );
      assert.ok(distance(actual!, expected!) < 1e-5);
    });
  }

  it('carry an adapter on the output layer', async () => {
    const { options, model } = await openCase('llama-untied-bias', ['lm_head', 'q_proj']);
    await model.dispose();
    const { weights, floats } = await packModel(dir, options.config, options.weights, 'int8');
    const theta = new Float32Array(model.adapterSize).map((_, i) => 0.02 * Math.sin(i));
    const packed = { ...options, weights, weightFormat: 'int8', executor: floatCpu } as const;
    const [actual, expected] = [
      await results(packed, theta),
      await results({ ...options, weights: floats }, theta),
    ];
    assert.ok(distance(actual.gradient, expected.gradient) < 1e-5);
  });

  it('give a gradient of one example that knows nothing of the others, to the last bit', async () => {
    const { packed, theta } = await optionsOf('llama-gqa-tied', 'int8', cpu);
    const examples = { batchSize, sequenceLength: T };
    const model = await openLanguageModel({ ...packed, batchSize, examples });
    const batch = batchOf({ ...packed, batchSize });
    const tokens = batch.tokens.map((token, i) => (i < T ? token : (token + 1) % 40));
    const [before, changed] = [
      await model.exampleGradients(batch, theta),
      await model.exampleGradients({ ...batch, tokens }, theta),
    ];
    await model.dispose();
    const first = (gradients: Float32Array): Float32Array => gradients.subarray(0, theta.length);
    assert.deepEqual(first(changed.gradients), first(before.gradients));
    assert.notDeepEqual(changed.gradients, before.gradients);
  });

  it('take more than 8 bits of what sensitive layers read, which their family declares', async () => {
    const sensitiveLayers = async (name: ReferenceCaseName): Promise<string[]> => {
      const { options, model } = await openCase(name, ['all-linear']);
      await model.dispose();
      const { layers } = decoderOf(options.config);
      const names = layers.filter(({ isSensitive }) => isSensitive).map((layer) => layer.name);
      return [...new Set(names.map((one) => one.replace(/^.*\.\d+\./, '')))].sort();
    };
    assert.deepEqual(await sensitiveLayers('llama-gqa-tied'), [
      'mlp.down_proj',
      'self_attn.k_proj',
      'self_attn.q_proj',
      'self_attn.v_proj',
    ]);
    assert.deepEqual(await sensitiveLayers('phi3'), [
      'lm_head',
      'mlp.down_proj',
      'self_attn.qkv_proj',
    ]);
    assert.deepEqual(await sensitiveLayers('gpt2'), ['attn.c_attn', 'mlp.c_proj']);
  });
});
