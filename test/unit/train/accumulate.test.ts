import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { openLanguageModel, type LanguageModel } from '../../../node/model/language-model.js';
import { IGNORED_TARGET, type TokenBatch } from '../../../node/model/token-batch.js';
import {
  accumulatedGradient,
  fastestMicroBatch,
  replications,
  microBatchSize,
} from '../../../node/train/accumulate.js';
import { LocalTrainer } from '../../../node/train/trainer.js';
import { initialAdapter, type AdapterSpec } from '../../../protocol/adapter.js';
import { Prng } from '../../../protocol/prng.js';
import { randomBatch, tinyModelOptions, TRAINING } from './tiny-model.js';

const T = TRAINING.sequenceLength;
const BATCH = 5;
const never = new AbortController().signal;

let adapter: AdapterSpec;
let theta: Float32Array;
/** By the rows that they take at once. */
const models = new Map<number, LanguageModel>();
before(async () => {
  const options = await tinyModelOptions();
  ({ adapter } = options);
  for (const batchSize of [1, 2, 3, 4, BATCH]) {
    models.set(batchSize, await openLanguageModel({ ...options, batchSize }));
  }
  const random = new Prng(new Uint8Array(32), 'accumulate');
  // lora_B is not zero, so that lora_A has a gradient too.
  theta = initialAdapter(adapter).map((value) => value + 0.2 * (random.nextFloat() - 0.5));
});
after(async () => {
  for (const model of models.values()) await model.dispose();
});

/** Five rows with 10, 9, 0, 2 and 1 trained tokens, two of them of two segments. */
function unequalBatch(): TokenBatch {
  const { tokens, targets, segments } = randomBatch(3, BATCH);
  const trained = [10, 9, 0, 2, 1];
  for (let i = 0; i < targets.length; i++) {
    const [row, t] = [Math.floor(i / T), i % T];
    if (t < T - trained[row]!) targets[i] = IGNORED_TARGET;
    if (row % 3 === 0 && t > 4) segments[i] = 2;
  }
  return { tokens, targets, segments };
}

function norm(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}

describe('accumulatedGradient', () => {
  it('is the gradient of the whole batch, however it is cut, with unequal and empty rows', async () => {
    const batch = unequalBatch();
    const whole = await models.get(BATCH)!.gradient(batch, theta);
    assert.equal(whole.targets, 22);
    for (const rows of [1, 2, 3, 4]) {
      const parts = await accumulatedGradient(models.get(rows)!, batch, theta, never);
      assert.equal(parts.targets, 22);
      assert.ok(Math.abs(parts.loss - whole.loss) < 1e-6 * whole.loss, `loss by ${rows}`);
      const difference = parts.gradient.map((value, i) => value - whole.gradient[i]!);
      const relative = norm(difference) / norm(whole.gradient);
      assert.ok(relative < 2e-6, `gradient by ${rows} rows differs by ${relative}`);
    }
  });

  it('is the model’s own where the batch goes through at once, bit for bit', async () => {
    const batch = unequalBatch();
    const model = models.get(BATCH)!;
    const whole = await model.gradient(batch, theta);
    assert.deepEqual(await accumulatedGradient(model, batch, theta, never), whole);
  });

  it('leaves the model alone where nothing is trained, and is zero where that is everywhere', async () => {
    const batch = unequalBatch();
    let calls = 0;
    const counting = {
      batchSize: 1,
      sequenceLength: T,
      gradient: (part: TokenBatch, at: Float32Array) => {
        calls++;
        return models.get(1)!.gradient(part, at);
      },
    };
    await accumulatedGradient(counting, batch, theta, never);
    assert.equal(calls, 4);
    batch.targets.fill(IGNORED_TARGET);
    const nothing = await accumulatedGradient(counting, batch, theta, never);
    assert.equal(calls, 4);
    assert.deepEqual([nothing.loss, nothing.targets], [0, 0]);
    assert.ok(nothing.gradient.every((value) => value === 0));
  });

  it('ends between two parts when aborted', async () => {
    const abort = new AbortController();
    const reason = new DOMException('leaving', 'AbortError');
    let calls = 0;
    const model = {
      batchSize: 1,
      sequenceLength: T,
      gradient: (part: TokenBatch, at: Float32Array) => {
        calls++;
        // As a message of the parent does: it is seen when the event loop turns.
        setImmediate(() => abort.abort(reason));
        return models.get(1)!.gradient(part, at);
      },
    };
    await assert.rejects(accumulatedGradient(model, unequalBatch(), theta, abort.signal), reason);
    assert.equal(calls, 1);
  });
});

describe('a trainer whose model takes fewer sequences than a step has', () => {
  it('clips and steps once a step, to the same adapter', async () => {
    const training = { ...TRAINING, batchSize: BATCH, gradientNormMax: 0.05 };
    const results = [];
    for (const rows of [BATCH, 2]) {
      const trainer = new LocalTrainer({
        model: models.get(rows)!,
        training,
        run: { epochsMax: 1, stepsRef: 6 },
        trainingData: {
          batch: (step, size) => ({ ...randomBatch(step, size), ...unequalBatch() }),
        },
        heldOut: [],
        adapterSize: theta.length,
      });
      const job = { epoch: 0, theta, optimiser: null, steps: 6, deadlineMs: Infinity };
      results.push(await trainer.train(job, () => undefined, never));
    }
    const [whole, parts] = results;
    assert.equal(parts!.optimiser.step, 6);
    assert.equal(parts!.tokens, whole!.tokens);
    const moved = whole!.theta.map((value, i) => value - theta[i]!);
    const difference = parts!.theta.map((value, i) => value - whole!.theta[i]!);
    assert.ok(norm(difference) < 1e-4 * norm(moved), `${norm(difference)} of ${norm(moved)}`);
  });
});

describe('microBatchSize', () => {
  it('cuts a batch into as few and as equal parts as the most at once allows', () => {
    const cuts: [number, number, number][] = [
      [8, 8, 8],
      [8, 100, 8],
      [8, 7, 4],
      [8, 3, 3],
      [8, 2, 2],
      [8, 1, 1],
      [7, 3, 3],
      [7, 6, 4],
      [1, 1, 1],
    ];
    for (const [batchSize, most, size] of cuts) {
      assert.equal(microBatchSize(batchSize, most), size, `${batchSize} by ${most}`);
    }
  });
});

describe('replications', () => {
  it('give each replica a thread and 256 tokens at least, and all of them the batch', () => {
    assert.deepEqual(replications(8, 128, 2), [{ replicas: 2, microBatch: 2 }]);
    assert.deepEqual(replications(4, 256, 2), [{ replicas: 2, microBatch: 1 }]);
    assert.deepEqual(replications(8, 128, 16), [
      { replicas: 4, microBatch: 2 },
      { replicas: 3, microBatch: 3 },
      { replicas: 2, microBatch: 4 },
    ]);
    assert.deepEqual(
      replications(64, 512, 64).map(({ replicas }) => replicas),
      [4, 3, 2],
    );
    for (const none of [
      replications(8, 128, 1),
      replications(1, 4096, 8),
      replications(7, 64, 8),
    ]) {
      assert.deepEqual(none, []);
    }
  });
});

describe('fastestMicroBatch', () => {
  it('is 256 tokens a thread, and a sequence at least', () => {
    for (const [length, threads, size] of [
      [128, 1, 2],
      [128, 2, 4],
      [128, 8, 16],
      [200, 1, 1],
      [2048, 2, 1],
    ] as const) {
      assert.equal(fastestMicroBatch(length, threads), size, `${length}, ${threads}`);
    }
  });
});
