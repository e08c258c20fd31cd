/** The training engine agrees with PyTorch + Transformers + PEFT (values made by make_fixtures.py). */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { readModelConfig, type ModelConfig } from '../../node/model/config.js';
import {
  openLanguageModel,
  type LanguageModel,
  type TokenBatch,
} from '../../node/model/language-model.js';
import { loraModules } from '../../node/model/lora.js';
import { readSafetensorsHeader, readTensorF32 } from '../../node/model/safetensors.js';
import { openWeights } from '../../node/model/weight-index.js';
import { adamWStep, l2Norm, newOptimiserState } from '../../node/train/optimiser.js';
import { adapterLayout, type AdapterLayout } from '../../protocol/adapter.js';
import { referenceCase } from '../unit/model/fixtures.js';

/** Largest differences that pass. */
const LOGITS_ABSOLUTE = 2e-4;
const LOSS_RELATIVE = 1e-4;
const GRADIENT_RELATIVE = 2e-3;
const MOVEMENT_RELATIVE = 1e-3;

interface ReferenceCase {
  batch: number;
  length: number;
  loss: number;
  losses: number[];
  rank: number;
  alpha: number;
  target_modules: string[];
  adamw: { lr: number; beta1: number; beta2: number; eps: number; weight_decay: number };
}

/** Tensors of a safetensors file by name, integers included. */
async function readAll(file: string): Promise<Map<string, Float32Array | Int32Array>> {
  const tensors = new Map<string, Float32Array | Int32Array>();
  const bytes = await readFile(file);
  for (const entry of (await readSafetensorsHeader(file)).tensors) {
    if (entry.dtype === 'I64') {
      const count = entry.length / 8;
      const read = (_: unknown, i: number): number =>
        Number(bytes.readBigInt64LE(entry.offset + 8 * i));
      tensors.set(entry.name, Int32Array.from({ length: count }, read));
    } else tensors.set(entry.name, await readTensorF32(entry));
  }
  return tensors;
}

/** The flat adapter of tensors called `prefix` + PEFT's name. */
function flatten(
  layout: AdapterLayout,
  tensors: Map<string, Float32Array | Int32Array>,
  prefix = '',
): Float32Array {
  const theta = new Float32Array(layout.size);
  for (const { name, offset, length } of layout.tensors) {
    const tensor = tensors.get(prefix + name);
    assert.equal(tensor?.length, length, `${prefix}${name}`);
    theta.set(tensor, offset);
  }
  return theta;
}

function relativeDistance(actual: Float32Array, expected: Float32Array): number {
  return l2Norm(actual.map((value, i) => value - expected[i]!)) / l2Norm(expected);
}

function shiftTargets(labels: Int32Array, length: number): Int32Array {
  return labels.map((_, i) => ((i + 1) % length === 0 ? -100 : labels[i + 1]!));
}

for (const name of ['llama-gqa-tied', 'llama-untied-bias'] as const) {
  describe(`${name} agrees with PyTorch and PEFT`, () => {
    const dir = referenceCase(name);
    let reference: ReferenceCase;
    let config: ModelConfig;
    let tensors: Map<string, Float32Array | Int32Array>;
    let layout: AdapterLayout;
    let model: LanguageModel;
    let batch: TokenBatch;
    let theta: Float32Array;

    before(async () => {
      reference = JSON.parse(await readFile(join(dir, 'case.json'), 'utf8')) as ReferenceCase;
      const configPath = join(dir, 'base', 'config.json');
      config = readModelConfig(await readFile(configPath), configPath);
      const modules = loraModules(config, reference.target_modules);
      const adapter = { rank: reference.rank, alpha: reference.alpha, modules };
      layout = adapterLayout(adapter);
      tensors = await readAll(join(dir, 'reference.safetensors'));
      theta = flatten(layout, await readAll(join(dir, 'adapter', 'adapter_model.safetensors')));
      model = await openLanguageModel({
        config,
        weights: await openWeights(join(dir, 'base')),
        adapter,
        batchSize: reference.batch,
        sequenceLength: reference.length,
        threads: 1,
      });
      const tokens = tensors.get('input_ids') as Int32Array;
      batch = {
        tokens,
        targets: shiftTargets(tensors.get('labels') as Int32Array, reference.length),
        segments: new Int32Array(tokens.length),
      };
    });
    after(() => model.dispose());

    it('in every logit', async (t: TestContext) => {
      const expected = tensors.get('logits') as Float32Array;
      const { vocabSize } = config;
      let worst = 0;
      for (let row = 0; row < batch.tokens.length; row++) {
        const start = row - (row % reference.length);
        const sequence = batch.tokens.subarray(start, start + reference.length);
        const logits = await model.logits(sequence, row - start, theta);
        assert.equal(logits.length, vocabSize);
        for (const [i, logit] of logits.entries()) {
          worst = Math.max(worst, Math.abs(logit - expected[row * vocabSize + i]!));
        }
      }
      t.diagnostic(`largest difference ${worst.toExponential(1)}`);
      assert.ok(worst <= LOGITS_ABSOLUTE, `largest difference ${worst}`);
    });

    it('in the loss, with and without gradient', async (t: TestContext) => {
      const forward = await model.loss(batch, theta);
      const backward = await model.gradient(batch, theta);
      assert.equal(forward.targets, batch.targets.filter((target) => target !== -100).length);
      assert.equal(backward.targets, forward.targets);
      for (const { loss } of [forward, backward]) {
        const difference = Math.abs(loss / reference.loss - 1);
        t.diagnostic(`relative difference ${difference.toExponential(1)}`);
        assert.ok(difference <= LOSS_RELATIVE, `${loss} for ${reference.loss}`);
      }
    });

    it('in the gradient of every adapter tensor', async (t: TestContext) => {
      const { gradient } = await model.gradient(batch, theta);
      const expected = flatten(layout, tensors, 'grad.');
      let worst = 0;
      for (const { name: tensor, offset, length } of layout.tensors) {
        const part = [gradient, expected].map((flat) => flat.subarray(offset, offset + length));
        const difference = relativeDistance(part[0]!, part[1]!);
        assert.ok(difference <= GRADIENT_RELATIVE, `${tensor}: relative difference ${difference}`);
        worst = Math.max(worst, difference);
      }
      t.diagnostic(`largest relative difference in norm ${worst.toExponential(1)}`);
    });

    it('over ten steps of AdamW', async (t: TestContext) => {
      const { lr, beta1, beta2, eps, weight_decay } = reference.adamw;
      const settings = {
        learningRate: lr,
        beta1,
        beta2,
        epsilon: eps,
        weightDecay: weight_decay,
      };
      const trained = theta.slice();
      const state = newOptimiserState(layout.size);
      let worst = 0;
      for (const [step, expected] of reference.losses.entries()) {
        const { loss, gradient } = await model.gradient(batch, trained);
        const difference = Math.abs(loss / expected - 1);
        assert.ok(difference <= LOSS_RELATIVE, `step ${step}: loss ${loss} for ${expected}`);
        worst = Math.max(worst, difference);
        adamWStep(trained, gradient, state, settings);
      }
      const expected = flatten(layout, tensors, 'final.');
      // Of what training changed, not of the adapter, most of which is where it was.
      const moved = expected.map((value, i) => value - theta[i]!);
      const distance = (relativeDistance(trained, expected) * l2Norm(expected)) / l2Norm(moved);
      t.diagnostic(
        `losses differ by ${worst.toExponential(1)}, movement by ${distance.toExponential(1)}`,
      );
      assert.ok(distance <= MOVEMENT_RELATIVE, `movement differs by ${distance}`);
    });
  });
}
