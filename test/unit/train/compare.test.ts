import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Batch } from '../../../node/data/packing.js';
import type { OptimiserState } from '../../../node/interfaces.js';
import type { LanguageModel } from '../../../node/model/language-model.js';
import {
  compareAdapters,
  trainAlone,
  type ComparisonProgress,
} from '../../../node/train/compare.js';
import { measureMixture } from '../../../node/train/mixture-loss.js';
import { LocalTrainer, meanLoss } from '../../../node/train/trainer.js';
import { initialAdapter, type AdapterSpec } from '../../../protocol/adapter.js';
import { openTinyModel, randomBatch, TRAINING } from './tiny-model.js';

const never = new AbortController().signal;
const ignore = (): void => undefined;
const own = [randomBatch(0, 3)];
const foreign = [randomBatch(50, 3), randomBatch(51, 3)];

let model: LanguageModel;
let adapter: AdapterSpec;
let trainer: LocalTrainer;
before(async () => {
  ({ model, adapter } = await openTinyModel());
  trainer = new LocalTrainer({
    model,
    training: { ...TRAINING, weightDecay: 0 },
    run: { epochsMax: 3, stepsRef: 40 },
    trainingData: { batch: () => own[0]! },
    heldOut: [],
    adapterSize: model.adapterSize,
  });
});
after(() => model.dispose());

describe('compareAdapters', () => {
  it('trains the lone adapter with the schedule and steps of each epoch, and measures all four', async () => {
    const theta0 = initialAdapter(adapter);
    const swarm = theta0.map((value, i) => value + (i % 7) * 0.01);
    const progress: ComparisonProgress[] = [];
    const mixed = async (batches: readonly Batch[], experts: Float32Array[]) => {
      const { mixture, tokens } = await measureMixture(model, batches, experts, never);
      return tokens === 0 ? null : mixture / tokens;
    };
    const domains = [
      { name: 'own', heldOut: own },
      { name: 'foreign', heldOut: foreign },
      { name: 'empty', heldOut: [] },
    ];
    const stepsByEpoch = [40, 0, 25];
    const continued = theta0.map((value, i) => value - (i % 5) * 0.01);
    const onProgress = (one: ComparisonProgress): void => void progress.push(one);
    const lone = await trainAlone({ trainer, theta0, stepsByEpoch }, onProgress, never);
    const comparison = { model, theta0, alone: lone, swarm, continued, domains };
    const losses = await compareAdapters(comparison, onProgress, never);

    let alone = theta0;
    let optimiser: OptimiserState | null = null;
    for (const [epoch, steps] of [
      [0, 40],
      [2, 25],
    ] as const) {
      const job = { epoch, theta: alone, optimiser, steps, deadlineMs: Infinity };
      ({ theta: alone, optimiser } = await trainer.train(job, ignore, never));
    }
    for (const [i, { name, heldOut }] of domains.entries()) {
      assert.deepEqual(losses[i], {
        domain: name,
        base: await meanLoss(model, heldOut, theta0, never),
        alone: await meanLoss(model, heldOut, alone, never),
        swarm: await meanLoss(model, heldOut, swarm, never),
        personal: await mixed(heldOut, [swarm, continued, alone]),
      });
    }
    assert.equal(losses[2]!.base, null);
    assert.ok(losses[0]!.alone! < losses[0]!.base! - 1, 'training alone teaches its own batch');
    assert.deepEqual(progress.at(64), { stage: 'alone', done: 65, total: 65 });
    assert.deepEqual(progress.at(-1), { stage: 'held-out', done: 12, total: 12 });
    assert.equal(progress.length, 65 + 12);
  });

  it('stops when aborted', async () => {
    const abort = new AbortController();
    const theta0 = initialAdapter(adapter);
    const seen: number[] = [];
    const training = trainAlone(
      { trainer, theta0, stepsByEpoch: [40] },
      ({ done }) => {
        seen.push(done);
        if (done === 3) abort.abort();
      },
      abort.signal,
    );
    await assert.rejects(training, { name: 'AbortError' });
    assert.equal(seen.at(-1), 3);
  });
});
