import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { readFile } from 'node:fs/promises';
import { ExecutorError } from '../../../node/engine/errors.js';
import { ortExecutor } from '../../../node/engine/ort.js';
import { readModelConfig } from '../../../node/model/config.js';
import type { LlamaConfig } from '../../../node/model/llama.js';
import {
  openLanguageModel,
  type LanguageModel,
  type LanguageModelOptions,
  type LossResult,
} from '../../../node/model/language-model.js';
import { IGNORED_TARGET, type TokenBatch } from '../../../node/model/token-batch.js';
import { loraModules } from '../../../node/model/lora.js';
import {
  readSafetensorsHeader,
  writeSafetensors,
  type WeightIndex,
} from '../../../node/model/safetensors.js';
import { adapterLayout } from '../../../protocol/adapter.js';
import { Prng } from '../../../protocol/prng.js';
import { referenceCase, Scratch, userError } from './fixtures.js';
import { nextTokens, openCase, randomTheta, randomTokens, T } from './small-case.js';

/** Compares single coordinates of the gradient, spread over the adapter, with difference quotients. */
async function checkGradient(
  model: LanguageModel,
  batch: TokenBatch,
  theta: Float32Array,
  coordinates: number[],
): Promise<void> {
  const { gradient } = await model.gradient(batch, theta);
  for (const i of coordinates) {
    const losses: number[] = [];
    for (const step of [0.03, -0.03]) {
      const moved = theta.slice();
      moved[i]! += step;
      losses.push((await model.loss(batch, moved)).loss);
    }
    const numeric = (losses[0]! - losses[1]!) / 0.06;
    assert.ok(
      Math.abs(gradient[i]! - numeric) <= 2e-4 + 0.02 * Math.abs(numeric),
      `coordinate ${i}: ${gradient[i]} for ${numeric}`,
    );
  }
}

describe('a language model', () => {
  let options: LanguageModelOptions;
  let model: LanguageModel;
  let theta: Float32Array;
  let tokens: Int32Array;
  let batch: TokenBatch;

  before(async () => {
    ({ options, model, theta } = await openCase('llama-gqa-tied', ['q_proj', 'v_proj', 'up_proj']));
    tokens = randomTokens(2 * T, model.config.vocabSize);
    const segments = new Int32Array(2 * T);
    // What else a batch says of itself is no concern of the model.
    batch = Object.assign({ tokens, targets: nextTokens(tokens), segments }, { rows: 2 });
  });
  after(() => model.dispose());

  it('predicts each token from those before it alone', async () => {
    const changed = tokens.map((token, i) =>
      i % T > 9 ? (token + 1) % model.config.vocabSize : token,
    );
    const lossAt = (read: Int32Array, position: number): Promise<LossResult> => {
      const targets = batch.targets.map((target, i) => (i === position ? target : IGNORED_TARGET));
      return model.loss({ ...batch, tokens: read, targets }, theta);
    };
    assert.deepEqual(await lossAt(changed, 9), await lossAt(tokens, 9));
    assert.notDeepEqual(await lossAt(changed, 10), await lossAt(tokens, 10));
  });

  it('weighs every trained token equally', async () => {
    const firstThree = batch.targets.map((target, i) => (i < 3 ? target : IGNORED_TARGET));
    const others = batch.targets.map((target, i) => (i < 3 ? IGNORED_TARGET : target));
    const whole = await model.loss(batch, theta);
    const few = await model.loss({ ...batch, targets: firstThree }, theta);
    const many = await model.loss({ ...batch, targets: others }, theta);
    assert.deepEqual([whole.targets, few.targets, many.targets], [32, 3, 29]);
    const mean = (3 * few.loss + 29 * many.loss) / 32;
    assert.ok(Math.abs(whole.loss - mean) < 2e-6, `${whole.loss} and ${mean}`);
    assert.ok(Math.abs(few.loss - many.loss) > 0.01);
  });

  it('has loss 0 and gradient 0 without trained tokens', async () => {
    const targets = new Int32Array(2 * T).fill(IGNORED_TARGET);
    const { gradient, ...result } = await model.gradient({ ...batch, targets }, theta);
    assert.deepEqual(result, { loss: 0, targets: 0 });
    assert.ok(gradient.every((value) => Math.abs(value) === 0));
  });

  it('computes the same bits again', async () => {
    const first = await model.gradient(batch, theta);
    assert.deepEqual(await model.gradient(batch, theta), first);
  });

  it('refuses tokens and targets outside of the vocabulary', async () => {
    for (const token of [-1, 101]) {
      const wrong = Int32Array.from(tokens).fill(token, 3, 4);
      const outside = userError(new RegExp(`token ${token} is outside .* vocabulary of 101`));
      await assert.rejects(model.loss({ ...batch, tokens: wrong }, theta), outside);
      await assert.rejects(model.gradient({ ...batch, targets: wrong }, theta), outside);
    }
  });

  it('refuses batches and adapters of another size', async () => {
    await assert.rejects(model.loss(batch, theta.slice(1)), RangeError);
    await assert.rejects(model.loss({ ...batch, tokens: tokens.slice(1) }, theta), RangeError);
    const segments = new Int32Array(T);
    await assert.rejects(model.loss({ ...batch, segments }, theta), RangeError);
  });

  it('says what it runs on, and is over once disposed', async () => {
    assert.equal(model.describe(), 'cpu (1 thread)');
    const other = await openLanguageModel(options);
    await other.dispose();
    await assert.rejects(other.gradient(batch, theta), ExecutorError);
    await assert.rejects(other.loss(batch, theta), ExecutorError);
  });

  it('refuses a model whose weights are not what its config says', async () => {
    const name = 'model.layers.1.mlp.up_proj.weight';
    const entry = options.weights.get(name)!;
    const open = (weights: WeightIndex): Promise<LanguageModel> =>
      openLanguageModel({ ...options, weights });
    const without = new Map([...options.weights].filter(([key]) => key !== name));
    await assert.rejects(open(without), userError(/no weight .*up_proj.* shape \[80, 48\]/));
    const swap = (change: Partial<typeof entry>): WeightIndex =>
      new Map([...options.weights, [name, { ...entry, ...change }]]);
    await assert.rejects(
      open(swap({ shape: [48, 80] })),
      userError(/has shape \[48, 80\], but .* expects \[80, 48\]/),
    );
    await assert.rejects(open(swap({ dtype: 'I8' })), userError(/of type I8, but only F32/));
    const gone = join(referenceCase('llama-gqa-tied'), 'gone.safetensors');
    const missing = swap({ file: gone });
    const refused = userError(/could not be loaded: .*gone/);
    await assert.rejects(
      openLanguageModel({ ...options, weights: missing, compile: ['gradient'] }),
      refused,
    );
    // What is not compiled at once says so at its first use.
    const lazy = await open(missing);
    await assert.rejects(lazy.loss(batch, theta), refused);
    await assert.rejects(lazy.gradient(batch, theta), refused);
    await lazy.dispose();
  });

  it('refuses sequences longer than its positions and adapters of another model', async () => {
    const long = { ...options, sequenceLength: 129 };
    await assert.rejects(openLanguageModel(long), userError(/129 is more than .* 128 positions/));
    const modules = [{ name: 'model.layers.7.mlp.up_proj', inFeatures: 48, outFeatures: 80 }];
    const foreign = { ...options, adapter: { ...options.adapter, modules } };
    await assert.rejects(openLanguageModel(foreign), userError(/no linear layer of this model/));
  });
});

/** Two documents of 7 and 10 tokens: in one row, or one in each row. */
function documents(tokens: Int32Array, packed: boolean): TokenBatch {
  const one: TokenBatch = {
    tokens: new Int32Array(2 * T),
    targets: new Int32Array(2 * T).fill(IGNORED_TARGET),
    segments: new Int32Array(2 * T).fill(-1),
  };
  for (const [segment, start, end] of [
    [0, 0, 7],
    [1, 7, 17],
  ] as const) {
    const at = packed ? start : segment * T;
    one.tokens.set(tokens.subarray(start, end), at);
    one.targets.set(tokens.subarray(start + 1, end), at);
    one.segments.fill(packed ? segment : 0, at, at + end - start);
  }
  return one;
}

describe('packed documents', () => {
  for (const name of ['llama-gqa-tied', 'qwen3', 'gemma3', 'phi3', 'gpt2'] as const) {
    it(`have the loss and gradient that they have apart: ${name}`, async () => {
      const { model, theta } = await openCase(name, ['all-linear']);
      const tokens = randomTokens(2 * T, model.config.vocabSize);
      const packed = await model.gradient(documents(tokens, true), theta);
      const apart = await model.gradient(documents(tokens, false), theta);
      assert.equal(packed.targets, 15);
      assert.equal(apart.targets, 15);
      assert.ok(Math.abs(packed.loss - apart.loss) < 2e-6, `${packed.loss} and ${apart.loss}`);
      for (const [i, value] of packed.gradient.entries()) {
        assert.ok(Math.abs(value - apart.gradient[i]!) < 1e-6);
      }
      const merged = { ...documents(tokens, true), segments: new Int32Array(2 * T) };
      const seeing = await model.loss(merged, theta);
      assert.ok(Math.abs(seeing.loss - apart.loss) > 1e-3, 'segments made no difference');
      await model.dispose();
    });
  }
});

describe('an adapter on the output layer', () => {
  it('has the gradient that finite differences give', async () => {
    const { options, model, theta } = await openCase('llama-untied-bias', ['lm_head', 'k_proj']);
    try {
      const tokens = randomTokens(2 * T, model.config.vocabSize);
      const segments = new Int32Array(2 * T);
      const batch = { tokens, targets: nextTokens(tokens), segments };
      const head = adapterLayout(options.adapter).tensors.filter(
        ({ module }) => module === 'lm_head',
      );
      const coordinates = head.flatMap(({ offset, length }) =>
        [0, 7, length - 1].map((i) => offset + i),
      );
      await checkGradient(model, batch, theta, [...coordinates, 5, 300]);
    } finally {
      await model.dispose();
    }
  });
});

describe('a model whose heads are wider than its hidden size, with every bias', () => {
  const scratch = new Scratch();
  after(() => scratch.remove());

  it('has the gradient that finite differences give', async () => {
    const config: LlamaConfig = {
      ...(await openConfig()),
      hiddenSize: 20,
      intermediateSize: 28,
      layers: 2,
      heads: 4,
      keyValueHeads: 2,
      headDim: 6,
      attentionBias: true,
      mlpBias: true,
    };
    const weights = await randomWeights(config, join(await scratch.directory(), 'w.safetensors'));
    const adapter = { rank: 2, alpha: 6, modules: loraModules(config, ['all-linear']) };
    const shape = { batchSize: 2, sequenceLength: T, executor: ortExecutor({ threads: 1 }) };
    const model = await openLanguageModel({ config, weights, adapter, ...shape });
    try {
      const tokens = randomTokens(2 * T, config.vocabSize);
      const segments = tokens.map((_, i) => Number(i % T > 11));
      const batch = { tokens, targets: nextTokens(tokens), segments };
      const { tensors, size } = adapterLayout(adapter);
      const coordinates = tensors.map(({ offset, length }, i) => offset + ((7 * i) % length));
      await checkGradient(model, batch, randomTheta(size), coordinates);
    } finally {
      await model.dispose();
    }
  });
});

async function openConfig(): Promise<LlamaConfig> {
  const path = join(referenceCase('llama-gqa-tied'), 'base', 'config.json');
  const config = readModelConfig(await readFile(path), path);
  assert.ok(config.architecture === 'llama');
  return config;
}

/** A weight file for `config` (tied) with random numbers. */
async function randomWeights(config: LlamaConfig, file: string): Promise<WeightIndex> {
  const random = new Prng(new Uint8Array(32), 'weights');
  const tensor = (name: string, ...shape: number[]) => {
    const length = shape.reduce((product, n) => product * n, 1);
    const data = Float32Array.from({ length }, () => 0.6 * (random.nextFloat() - 0.5));
    return { name, shape, data };
  };
  const { hiddenSize, vocabSize, layers } = config;
  const tensors = [
    tensor('model.embed_tokens.weight', vocabSize, hiddenSize),
    tensor('model.norm.weight', hiddenSize),
    ...Array.from({ length: layers }, (_, i) => [
      tensor(`model.layers.${i}.input_layernorm.weight`, hiddenSize),
      tensor(`model.layers.${i}.post_attention_layernorm.weight`, hiddenSize),
    ]).flat(),
    ...loraModules(config, ['all-linear']).flatMap(({ name, inFeatures, outFeatures }) => [
      tensor(`${name}.weight`, outFeatures, inFeatures),
      tensor(`${name}.bias`, outFeatures),
    ]),
  ];
  await writeSafetensors(file, tensors, {});
  return openWeightFile(file);
}

async function openWeightFile(file: string): Promise<WeightIndex> {
  const { tensors } = await readSafetensorsHeader(file);
  return new Map(tensors.map((entry) => [entry.name, entry]));
}

describe('GPT-2', () => {
  const scratch = new Scratch();
  after(() => scratch.remove());

  it('is read with and without the prefix of its weights', async () => {
    const { options, model, theta } = await openCase('gpt2', ['c_attn', 'c_proj']);
    const bare = [...options.weights].map(
      ([name, entry]) => [name.replace(/^transformer\./, ''), entry] as const,
    );
    const other = await openLanguageModel({ ...options, weights: new Map(bare) });
    try {
      const tokens = randomTokens(2 * T, model.config.vocabSize);
      const segments = new Int32Array(2 * T);
      const batch = { tokens, targets: nextTokens(tokens), segments };
      assert.deepEqual(await other.gradient(batch, theta), await model.gradient(batch, theta));
    } finally {
      await model.dispose();
      await other.dispose();
    }
  });

  it('has the gradient that finite differences give, with an output layer of its own', async () => {
    const { options, model } = await openCase('gpt2', ['c_fc']);
    await model.dispose();
    const { vocabSize, hiddenSize } = options.config;
    const head = join(await scratch.directory(), 'head.safetensors');
    const random = new Prng(new Uint8Array(32), 'head');
    const data = Float32Array.from(
      { length: vocabSize * hiddenSize },
      () => 0.4 * (random.nextFloat() - 0.5),
    );
    const tensor = { name: 'lm_head.weight', shape: [vocabSize, hiddenSize], data };
    await writeSafetensors(head, [tensor], {});
    const weights = new Map([...options.weights, ...(await openWeightFile(head))]);
    const config = { ...options.config, tieWordEmbeddings: false };
    const modules = loraModules(config, ['all-linear', 'lm_head']);
    const adapter = { rank: 2, alpha: 3, modules };
    const untied = await openLanguageModel({ ...options, config, weights, adapter });
    try {
      const tokens = randomTokens(2 * T, vocabSize);
      const segments = tokens.map((_, i) => Number(i % T > 11));
      const batch = { tokens, targets: nextTokens(tokens), segments };
      const { tensors, size } = adapterLayout(adapter);
      const coordinates = tensors
        .slice(-6)
        .map(({ offset, length }, i) => offset + ((7 * i) % length));
      await checkGradient(untied, batch, randomTheta(size), coordinates);
    } finally {
      await untied.dispose();
    }
  });
});
