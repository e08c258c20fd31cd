import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { Executor } from '../../../node/engine/executor.js';
import { ortExecutor } from '../../../node/engine/ort.js';
import { openTfjsExecutor } from '../../../node/engine/tfjs/open.js';
import type { BatchShape } from '../../../node/model/family.js';
import { openLanguageModel, type LanguageModel } from '../../../node/model/language-model.js';
import { loraModules, separatesExamples } from '../../../node/model/lora.js';
import { readModelConfig } from '../../../node/model/config.js';
import { IGNORED_TARGET, type TokenBatch } from '../../../node/model/token-batch.js';
import { openWeights } from '../../../node/model/weight-index.js';
import { REFERENCE_CASES, referenceCase, type ReferenceCaseName } from './fixtures.js';
import { randomTheta, randomTokens } from './small-case.js';

const [B, T] = [3, 10];

/** Rows of unlike length, the last one without anything to train. */
function unlikeRows(vocabSize: number): TokenBatch {
  const tokens = randomTokens(B * T, vocabSize);
  const lengths = [T, 4, 0];
  const inside = (i: number): boolean => i % T < lengths[Math.floor(i / T)]!;
  return {
    tokens,
    targets: tokens.map((_, i) => (inside(i) ? tokens[(i + 1) % tokens.length]! : IGNORED_TARGET)),
    segments: tokens.map((_, i) => (inside(i) ? 1 : 0)),
  };
}

function row({ tokens, targets, segments }: TokenBatch, index: number): TokenBatch {
  const [from, to] = [index * T, (index + 1) * T];
  return {
    tokens: tokens.slice(from, to),
    targets: targets.slice(from, to),
    segments: segments.slice(from, to),
  };
}

async function open(
  name: ReferenceCaseName,
  targetModules: readonly string[],
  shape: BatchShape & { examples: BatchShape },
  executor: Executor = ortExecutor({ threads: 1 }),
): Promise<LanguageModel> {
  const dir = join(referenceCase(name), 'base');
  const path = join(dir, 'config.json');
  const config = readModelConfig(await readFile(path), path);
  const weights = await openWeights(dir);
  const adapter = { rank: 3, alpha: 5, modules: loraModules(config, targetModules) };
  return openLanguageModel({ config, weights, adapter, executor, ...shape });
}

const several = { batchSize: 1, sequenceLength: T, examples: { batchSize: B, sequenceLength: T } };
const single = { ...several, examples: { batchSize: 1, sequenceLength: T } };

/** Losses and gradients of the rows together against those of each row alone, by the graph that training uses. */
async function checkAgainstSingle(model: LanguageModel): Promise<void> {
  const batch = unlikeRows(model.config.vocabSize);
  const theta = randomTheta(model.adapterSize);
  const { losses, gradients } = await model.exampleGradients(batch, theta);
  assert.deepEqual([losses.length, gradients.length], [B, B * model.adapterSize]);
  for (let i = 0; i < B; i++) {
    const alone = await model.gradient(row(batch, i), theta);
    assert.ok(Math.abs(losses[i]! - alone.loss) <= 2e-6 * (1 + alone.loss));
    const own = gradients.subarray(i * model.adapterSize, (i + 1) * model.adapterSize);
    let [difference, norm] = [0, 0];
    for (const [j, value] of alone.gradient.entries()) {
      difference += (own[j]! - value) ** 2;
      norm += value ** 2;
    }
    assert.equal(norm > 0, i < 2, 'a row without targets has a gradient, or one with targets none');
    assert.ok(Math.sqrt(difference) <= 1e-5 * Math.sqrt(norm), `row ${i}: off by ${difference}`);
  }
}

describe('gradients of single examples', () => {
  for (const name of REFERENCE_CASES) {
    it(`are those of each example alone, every linear layer adapted: ${name}`, async () => {
      const model = await open(name, ['all-linear'], several);
      await checkAgainstSingle(model);
      await model.dispose();
    });
  }

  it('are the same with TensorFlow.js', async () => {
    const executor = await openTfjsExecutor({ backend: 'wasm' });
    const model = await open('llama-gqa-tied', ['all-linear'], several, executor);
    await checkAgainstSingle(model);
    await model.dispose();
  });

  it('know nothing of the other examples, to the last bit', async () => {
    const executor = ortExecutor({ threads: 1 });
    const model = await open('llama-gqa-tied', ['all-linear'], several, executor);
    const batch = unlikeRows(model.config.vocabSize);
    const theta = randomTheta(model.adapterSize);
    const before = await model.exampleGradients(batch, theta);
    const tokens = batch.tokens.map((token, i) => (i < T ? token : (token + 1) % 40));
    const after = await model.exampleGradients({ ...batch, tokens }, theta);
    const first = (gradients: Float32Array): Float32Array =>
      gradients.subarray(0, model.adapterSize);
    assert.deepEqual(first(after.gradients), first(before.gradients));
    assert.notDeepEqual(after.gradients, before.gradients);
    await model.dispose();
  });

  it('take one at a time with an adapter on the output layer', async () => {
    const name = 'llama-untied-bias';
    const targets = ['q_proj', 'lm_head'];
    await assert.rejects(
      open(name, targets, several).then((model) =>
        model.exampleGradients(unlikeRows(40), randomTheta(model.adapterSize)),
      ),
      /lm_head/,
    );
    const model = await open(name, targets, single);
    const theta = randomTheta(model.adapterSize);
    const batch = row(unlikeRows(model.config.vocabSize), 0);
    const { gradients } = await model.exampleGradients(batch, theta);
    assert.deepEqual(gradients, (await model.gradient(batch, theta)).gradient);
    assert.equal(separatesExamples({ modules: loraModules(model.config, targets) }), false);
    await model.dispose();
  });
});
