import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import { after, before, describe, it } from 'node:test';
import type { TrainProgress } from '../../../node/interfaces.js';
import type { LanguageModel } from '../../../node/model/language-model.js';
import {
  heldOutTokensMax,
  LocalTrainer,
  type LocalJob,
  type LocalResult,
  type LocalTrainerInit,
} from '../../../node/train/trainer.js';
import { adapterSha256, initialAdapter, type AdapterSpec } from '../../../protocol/adapter.js';
import { newOptimiserState } from '../../../node/train/optimiser.js';
import type { StepGradient } from '../../../node/train/private-gradient.js';
import { openTinyModel, randomBatch, TRAINING } from './tiny-model.js';

const RUN = { epochsMax: 4, stepsRef: 5 };
const NO_DEADLINE = Number.MAX_SAFE_INTEGER;
const never = new AbortController().signal;
const ignore = (): void => undefined;

let model: LanguageModel;
let adapter: AdapterSpec;
before(async () => ({ model, adapter } = await openTinyModel()));
after(() => model.dispose());

function trainer(changes: Partial<LocalTrainerInit> = {}): LocalTrainer {
  return new LocalTrainer({
    model,
    training: TRAINING,
    run: RUN,
    trainingData: { batch: randomBatch },
    heldOut: [],
    adapterSize: model.adapterSize,
    ...changes,
  });
}

function job(changes: Partial<LocalJob> = {}): LocalJob {
  const theta = initialAdapter(adapter);
  return { epoch: 0, theta, optimiser: null, steps: 5, deadlineMs: NO_DEADLINE, ...changes };
}

/** Epochs `from` to below `to`, each from where the last one ended. */
async function epochs(by: LocalTrainer, from: number, to: number, start: LocalJob) {
  let last: Pick<LocalResult, 'theta' | 'optimiser'> = {
    theta: start.theta,
    optimiser: start.optimiser!,
  };
  for (let epoch = from; epoch < to; epoch++) {
    last = await by.train({ ...start, epoch, ...last }, ignore, never);
  }
  return last;
}

/** Every bit of an adapter and its moments, short enough for a message. */
function bits({ theta, optimiser }: Pick<LocalResult, 'theta' | 'optimiser'>): object {
  const [m, v] = [adapterSha256(optimiser.m), adapterSha256(optimiser.v)];
  return { theta: adapterSha256(theta), m, v, step: optimiser.step };
}

describe('NaN and infinity', () => {
  it('are refused in what training starts from', async () => {
    for (const broken of [NaN, Infinity, -Infinity]) {
      const theta = initialAdapter(adapter);
      theta[3] = broken;
      await assert.rejects(trainer().train(job({ theta }), ignore, never), /theta is not finite/);
      for (const moment of ['m', 'v'] as const) {
        const optimiser = newOptimiserState(model.adapterSize);
        optimiser[moment][5] = broken;
        await assert.rejects(
          trainer().train(job({ optimiser }), ignore, never),
          /the optimiser is not finite/,
        );
      }
    }
    const optimiser = newOptimiserState(model.adapterSize);
    optimiser.v[5] = -1;
    await assert.rejects(trainer().train(job({ optimiser }), ignore, never), RangeError);
  });

  it('never come out as a contribution: all of theta is NaN then, and the optimiser new', async () => {
    // Steps that are finite each, but lead out of float32.
    const theta = initialAdapter(adapter).fill(3.4e38);
    const training = { ...TRAINING, learningRate: 1e38, weightDecay: -1 };
    const gradient = new Float32Array(model.adapterSize).fill(1);
    const privateGradient = (): Promise<StepGradient> =>
      Promise.resolve({ loss: 1, targets: 1, inputTokens: 1, gradient: gradient.slice() });
    const unsound = trainer({ training, privateGradient });
    const result = await unsound.train(job({ theta }), ignore, never);
    assert.ok(result.theta.every(Number.isNaN));
    assert.ok(result.optimiser.m.every((value) => value === 0));
    assert.ok(result.optimiser.v.every((value) => value === 0));
  });
});

describe('LocalTrainer.train', () => {
  it('overfits one small batch, as far as random frozen weights let it', async () => {
    const one = trainer({
      trainingData: { batch: (_step, batchSize) => randomBatch(0, batchSize) },
      run: { epochsMax: 1, stepsRef: 400 },
      training: { ...TRAINING, weightDecay: 0, warmupFraction: 0.05 },
    });
    const losses: number[] = [];
    await one.train(job({ steps: 400 }), ({ loss }) => losses.push(loss), never);
    assert.equal(losses.length, 400);
    assert.ok(losses[0]! > 4, `starts near ln 101 = 4.6, not ${losses[0]!}`);
    assert.ok(losses.at(-1)! < 1.5, `still ${losses.at(-1)!} after 400 steps`);
  });

  it('gives the same bytes for the same job', async () => {
    const first = await trainer().train(job({ epoch: 2 }), ignore, never);
    const second = await trainer().train(job({ epoch: 2 }), ignore, never);
    assert.deepEqual(bits(second), bits(first));
    assert.notEqual(adapterSha256(first.theta), adapterSha256(job().theta));
  });

  it('goes on after a restart as if there had been none', async () => {
    const straight = await epochs(trainer(), 0, 4, job());
    const half = await epochs(trainer(), 0, 2, job());
    const restored = structuredClone(half);
    const resumed = await epochs(trainer(), 2, 4, job(restored));
    assert.deepEqual(bits(resumed), bits(straight));
    const forgetful = await epochs(trainer(), 2, 4, job({ theta: restored.theta }));
    assert.notDeepEqual(bits(forgetful), bits(straight), 'the moments make no difference');
  });

  it('takes the batches that the epoch names, and leaves the given adapter and moments alone', async () => {
    const asked: number[] = [];
    const batch = (step: number, batchSize: number) => {
      asked.push(step);
      return randomBatch(step, batchSize);
    };
    const { optimiser } = await trainer().train(job(), ignore, never);
    const given = job({ epoch: 3, steps: 4, optimiser });
    const untouched = structuredClone(given);
    const progress: TrainProgress[] = [];
    const result = await trainer({ trainingData: { batch } }).train(
      given,
      (p) => progress.push(p),
      never,
    );
    assert.deepEqual(asked, [15, 16, 17, 18]);
    assert.ok(isDeepStrictEqual(given, untouched));
    assert.deepEqual(
      progress.map(({ epoch, step, steps }) => [epoch, step, steps]),
      [1, 2, 3, 4].map((step) => [3, step, 4]),
    );
    assert.equal(result.steps, 4);
    assert.equal(result.tokens, 4 * 36);
    assert.equal(result.optimiser.step, 9);
    const mean = progress.reduce((sum, { loss }) => sum + loss / 4, 0);
    assert.ok(Math.abs(result.loss - mean) < 1e-9);
  });

  it('counts a loss as often as it has targets', async () => {
    const batch = (step: number, batchSize: number) =>
      randomBatch(step, batchSize, step === 0 ? 2 : 11);
    const losses: number[] = [];
    const result = await trainer({ trainingData: { batch } }).train(
      job({ steps: 2 }),
      ({ loss }) => losses.push(loss),
      never,
    );
    const expected = (30 * losses[0]! + 3 * losses[1]!) / 33;
    assert.ok(Math.abs(result.loss - expected) < 1e-9, `${result.loss}, expected ${expected}`);
  });

  it('trains at the rate of the run, not of the peer', async () => {
    const training = { ...TRAINING, finalFraction: 0, weightDecay: 0 };
    const last = trainer({ training, run: { epochsMax: 3, stepsRef: 1 } });
    const start = job({ steps: 1 });
    const atEnd = await last.train({ ...start, epoch: 2 }, ignore, never);
    assert.ok(isDeepStrictEqual(atEnd.theta, start.theta), 'the rate is zero at the end');
    const atStart = await last.train(start, ignore, never);
    assert.ok(!isDeepStrictEqual(atStart.theta, start.theta));
  });

  it('starts with fresh moments in each epoch where the manifest says so', async () => {
    const { optimiser } = await trainer().train(job(), ignore, never);
    const kept = await trainer().train(job({ optimiser }), ignore, never);
    const training = { ...TRAINING, resetMoments: true };
    const reset = await trainer({ training }).train(job({ optimiser }), ignore, never);
    assert.deepEqual([kept.optimiser.step, reset.optimiser.step], [10, 5]);
    assert.deepEqual(bits(reset), bits(await trainer().train(job(), ignore, never)));
  });
});

describe('the time box', () => {
  it('lets one step through when the deadline has passed', async () => {
    const result = await trainer().train(job({ deadlineMs: Date.now() - 1000 }), ignore, never);
    assert.equal(result.steps, 1);
  });

  it('ends an epoch early rather than late', async () => {
    const endless = trainer({ run: { epochsMax: 1, stepsRef: 100_000 } });
    const deadlineMs = Date.now() + 300;
    const result = await endless.train(job({ steps: 100_000, deadlineMs }), ignore, never);
    assert.ok(result.steps > 1 && result.steps < 100_000, `${result.steps} steps`);
    assert.ok(Date.now() < deadlineMs + 1000, `${Date.now() - deadlineMs} ms late`);
  });

  it('ends after the current step when aborted, with the reason', async () => {
    const abort = new AbortController();
    const reason = new DOMException('leaving', 'AbortError');
    const seen: number[] = [];
    const training = trainer().train(
      job(),
      ({ step }) => {
        seen.push(step);
        if (step === 2) abort.abort(reason);
      },
      abort.signal,
    );
    await assert.rejects(training, reason);
    assert.deepEqual(seen, [1, 2]);
  });
});

describe('loss or gradient that is not finite', () => {
  it('leaves that step out and counts it', async () => {
    let calls = 0;
    const faulty: LocalTrainerInit['model'] = {
      batchSize: model.batchSize,
      sequenceLength: model.sequenceLength,
      loss: (batch, theta) => model.loss(batch, theta),
      gradient: async (batch, theta) => {
        const result = await model.gradient(batch, theta);
        calls++;
        if (calls === 2) result.gradient[5] = Infinity;
        if (calls === 4) result.loss = NaN;
        return result;
      },
    };
    const result = await trainer({ model: faulty }).train(job(), ignore, never);
    assert.deepEqual([result.steps, result.skippedSteps, result.optimiser.step], [3, 2, 3]);
    assert.ok(result.theta.every(Number.isFinite));
    assert.ok(Number.isFinite(result.loss));
  });

  it('gives NaN when no step was finite, so that nobody takes it for a contribution', async () => {
    const theta = new Float32Array(model.adapterSize).fill(1e30);
    const result = await trainer().train(job({ theta }), ignore, never);
    assert.deepEqual([result.steps, result.skippedSteps, result.optimiser.step], [5, 5, 0]);
    assert.ok(result.theta.every(Number.isNaN));
    assert.ok(Number.isNaN(result.loss));
  });
});

describe('LocalTrainer.evaluate', () => {
  it('is the mean over all held-out targets', async () => {
    const heldOut = [randomBatch(100, 3, 1), randomBatch(101, 3, 10)];
    const theta = initialAdapter(adapter);
    const [first, second] = [
      await model.loss(tokens(heldOut[0]!), theta),
      await model.loss(tokens(heldOut[1]!), theta),
    ];
    assert.deepEqual([first.targets, second.targets], [33, 6]);
    const loss = await trainer({ heldOut }).evaluate(theta, never);
    const expected = (33 * first.loss + 6 * second.loss) / 39;
    assert.ok(loss !== null && Math.abs(loss - expected) < 1e-9);
  });

  it('is null when nothing is held out, and NaN when it is not finite', async () => {
    assert.equal(await trainer().evaluate(initialAdapter(adapter), never), null);
    const absurd = new Float32Array(model.adapterSize).fill(1e30);
    const heldOut = [randomBatch(100, 3)];
    assert.equal(await trainer({ heldOut }).evaluate(absurd, never), NaN);
  });

  it('refuses an adapter of another size', async () => {
    const short = new Float32Array(5);
    await assert.rejects(trainer().evaluate(short, never), {
      name: 'RangeError',
      message: /has 5 coord/,
    });
    await assert.rejects(
      trainer().train(job({ theta: short }), ignore, never),
      /has 5 coordinates/,
    );
  });
});

function tokens({ tokens, targets, segments }: ReturnType<typeof randomBatch>) {
  return { tokens, targets, segments };
}

describe('heldOutTokensMax', () => {
  it('reads no more than an epoch of training does, between a floor and a ceiling', () => {
    const tokens = (stepsRef: number, batchSize: number, sequenceLength: number): number =>
      heldOutTokensMax({ stepsRef }, { ...TRAINING, batchSize, sequenceLength });
    assert.equal(tokens(1, 1, 64), 512);
    assert.equal(tokens(3, 4, 100), 1200);
    assert.equal(tokens(10, 8, 128), 8192);
  });
});
