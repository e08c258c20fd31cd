import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { PackedRows, packRows } from '../../../node/data/packing.js';
import { TokenStore } from '../../../node/data/token-store.js';
import type { LanguageModel } from '../../../node/model/language-model.js';
import { evaluate, overall, type EvaluateOptions } from '../../../node/train/evaluate.js';
import { LocalTrainer } from '../../../node/train/trainer.js';
import { initialAdapter, type AdapterSpec } from '../../../protocol/adapter.js';
import { Prng } from '../../../protocol/prng.js';
import { openTinyModel, TRAINING } from './tiny-model.js';

const never = new AbortController().signal;
const ignore = (): void => undefined;
const { sequenceLength, batchSize } = TRAINING;

type Data = EvaluateOptions['datasets'][number];

/** Examples of the given lengths, random tokens, of which all but the first `prompt` are trained. */
function data(name: string, lengths: readonly number[], prompt: number): Data {
  const random = new Prng(new Uint8Array(32), name);
  const store = new TokenStore();
  for (const length of lengths) {
    const tokens = Array.from({ length }, () => random.nextBelow(40));
    store.append(
      tokens,
      tokens.map((_, i) => (i < prompt ? 0 : 1)),
    );
  }
  const seed = new Uint8Array(32);
  const packing = packRows(store, sequenceLength, seed);
  const { trainedTokens, cutExamples, droppedTokens } = packing;
  const none = { files: 1, leftOut: 0, heldOutExamples: 0, heldOutTokens: 0 };
  return {
    training: new PackedRows(store, packing, { sequenceLength, padTokenId: 0, seed }),
    stats: {
      ...{ examples: lengths.length, tokens: store.size, trainedTokens },
      ...{ cutExamples, droppedTokens, ...none },
    },
  };
}

describe('evaluate', () => {
  let model: LanguageModel;
  let adapter: AdapterSpec;
  let thetas: Float32Array[];
  const long = data('long', [9, 12, 7, 30, 5, 8, 11, 10], 3);
  const short = data('short', [6, 5], 2);

  before(async () => {
    ({ model, adapter } = await openTinyModel());
    const random = new Prng(new Uint8Array(32), 'theta');
    const theta = initialAdapter(adapter);
    thetas = [theta, theta.map((value) => value + 0.3 * (random.nextFloat() - 0.5))];
  });
  after(() => model.dispose());

  it('gives the loss that the trainer measures, of each file under each adapter', async () => {
    const datasets = [long, short];
    const measured = await evaluate({ model, batchSize, datasets, thetas }, ignore, never);
    assert.deepEqual(
      measured.map(({ tokens }) => tokens),
      // Examples of 30 tokens are cut in three; 27 of them are trained all the same.
      [9 + 12 + 7 + 30 + 5 + 8 + 11 + 10 - 3 * 8, 6 + 5 - 2 * 2],
    );
    for (const [i, { training }] of datasets.entries()) {
      const trainer = new LocalTrainer({
        model,
        training: TRAINING,
        run: { epochsMax: 1, stepsRef: 1 },
        trainingData: training,
        heldOut: [...training.batches(batchSize, Infinity)],
        adapterSize: model.adapterSize,
      });
      for (const [j, theta] of thetas.entries()) {
        assert.equal(measured[i]!.losses[j], await trainer.evaluate(theta, never));
      }
    }
    assert.notEqual(measured[0]!.losses[0], measured[0]!.losses[1]);
  });

  it('weighs every trained token equally over all files', async () => {
    const datasets = [long, short];
    const measured = await evaluate({ model, batchSize, datasets, thetas }, ignore, never);
    const all = overall(measured);
    const [a, b] = measured;
    assert.equal(all.tokens, a!.tokens + b!.tokens);
    const mean = (a!.tokens * a!.losses[1]! + b!.tokens * b!.losses[1]!) / all.tokens;
    assert.ok(Math.abs(all.losses[1]! - mean) < 1e-12);
    assert.ok(Math.abs(all.losses[1]! - (a!.losses[1]! + b!.losses[1]!) / 2) > 1e-4);
  });

  it('counts its batches, up to all of them', async () => {
    const shown: [number, number][] = [];
    const onProgress = (done: number, total: number): void => void shown.push([done, total]);
    const datasets = [long, short];
    await evaluate({ model, batchSize, datasets, thetas }, onProgress, never);
    const total = 2 * (Math.ceil(long.training.rows / batchSize) + 1);
    assert.deepEqual(
      shown,
      Array.from({ length: total }, (_, i) => [i + 1, total]),
    );
  });

  it('has no loss where an adapter gives none, neither of the file nor of all', async () => {
    const broken = thetas[0]!.map(() => NaN);
    const measured = await evaluate(
      { model, batchSize, datasets: [short], thetas: [broken, thetas[0]!] },
      ignore,
      never,
    );
    assert.equal(measured[0]!.losses[0], null);
    assert.deepEqual(overall(measured).losses, [null, measured[0]!.losses[1]]);
  });

  it('stops between two batches when aborted', async () => {
    const abort = new AbortController();
    const running = evaluate(
      { model, batchSize, datasets: [long], thetas },
      () => abort.abort(),
      abort.signal,
    );
    await assert.rejects(running, { name: 'AbortError' });
  });
});
