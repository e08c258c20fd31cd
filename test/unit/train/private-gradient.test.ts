import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { TokenStore } from '../../../node/data/token-store.js';
import { SingleRows } from '../../../node/data/single-rows.js';
import { openLanguageModel, type LanguageModel } from '../../../node/model/language-model.js';
import { l2Norm } from '../../../node/train/optimiser.js';
import { privateGradient, type PrivateGradientInit } from '../../../node/train/private-gradient.js';
import { cryptographic, type Randomness } from '../../../node/train/randomness.js';
import { LocalTrainer } from '../../../node/train/trainer.js';
import { initialAdapter, type AdapterSpec } from '../../../protocol/adapter.js';
import { Prng } from '../../../protocol/prng.js';
import { tinyModelOptions, TRAINING } from './tiny-model.js';

const never = new AbortController().signal;
const SHAPE = { batchSize: 2, sequenceLength: 12 };
const RECORDS = 7;

let model: LanguageModel;
let single: LanguageModel;
let adapter: AdapterSpec;
let theta: Float32Array;
before(async () => {
  const options = await tinyModelOptions();
  ({ adapter } = options);
  model = await openLanguageModel({ ...options, examples: SHAPE });
  single = await openLanguageModel({ ...options, batchSize: 1 });
  const random = new Prng(new Uint8Array(32), 'theta');
  theta = initialAdapter(adapter).map((value) => value + 0.1 * (random.nextFloat() - 0.5));
});
after(async () => {
  await model.dispose();
  await single.dispose();
});

/** Records of unlike length. */
function makeRecords(): SingleRows {
  const random = new Prng(new Uint8Array(32), 'records');
  const store = new TokenStore();
  for (let i = 0; i < RECORDS; i++) {
    const tokens = Array.from({ length: 4 + i }, () => random.nextBelow(40));
    store.append(
      tokens,
      tokens.map((_, at) => (at > 1 ? 1 : 0)),
    );
  }
  return new SingleRows(store, { sequenceLength: 12, padTokenId: 0 });
}

/** Draws these records, and adds no noise. */
function quiet(drawn: readonly number[]): Randomness {
  return { sample: () => [...drawn], below: () => 0, addGaussians: () => undefined };
}

function init(changes: Partial<PrivateGradientInit> = {}): PrivateGradientInit {
  const settings = { noise: 1, clip: 1, batchSize: 4, sampleRate: 0.5 };
  return { model, shape: SHAPE, records: makeRecords(), settings, ...changes };
}

/** The gradient of each record by the graph that training without privacy uses, one record at a time. */
async function oneByOne(records: SingleRows): Promise<Float32Array[]> {
  const gradients: Float32Array[] = [];
  for (let i = 0; i < records.count; i++) {
    const batch = records.batch([i], { batchSize: 1, sequenceLength: 12 }, () => 0);
    gradients.push((await single.gradient(batch, theta)).gradient);
  }
  return gradients;
}

describe('privateGradient', () => {
  it('is the sum of the records’ own gradients, each cut to the norm, over the expected batch', async () => {
    const records = makeRecords();
    const gradients = await oneByOne(records);
    const norms = gradients.map(l2Norm);
    const clip = [...norms].sort((a, b) => a - b)[3]!;
    const drawn = [0, 1, 2, 4, 6];
    const settings = { noise: 1, clip, batchSize: 4, sampleRate: 0.5 };
    const { gradient } = await privateGradient(
      init({ settings, random: quiet(drawn) }),
      theta,
      never,
    );
    assert.ok(norms.some((norm) => norm > clip) && norms.some((norm) => norm < clip));
    const expected = theta.map((_, i) =>
      drawn.reduce(
        (sum, record) => sum + (gradients[record]![i]! * Math.min(1, clip / norms[record]!)) / 4,
        0,
      ),
    );
    const difference = l2Norm(gradient.map((value, i) => value - expected[i]!));
    assert.ok(difference <= 1e-5 * l2Norm(expected), `off by ${difference}`);
  });

  it('moves by no more than the norm when one record more is drawn, whatever the record', async () => {
    const settings = { noise: 1, clip: 0.01, batchSize: 1, sampleRate: 0.5 };
    const sums = [];
    for (const drawn of [
      [0, 3],
      [0, 3, 5],
    ]) {
      const one = await privateGradient(init({ settings, random: quiet(drawn) }), theta, never);
      sums.push(one.gradient);
    }
    const [without, with5] = sums as [Float32Array, Float32Array];
    const moved = l2Norm(with5.map((value, i) => value - without[i]!));
    assert.ok(Math.abs(moved - 0.01) <= 1e-5, `moved by ${moved}`);
  });

  it('has noise of standard deviation noise x clip / batch, also when no record is drawn', async () => {
    const random = { ...cryptographic, sample: () => [] };
    const settings = { noise: 3, clip: 0.5, batchSize: 4, sampleRate: 0.5 };
    const { gradient, targets, loss } = await privateGradient(
      init({ settings, random }),
      theta,
      never,
    );
    const deviation = l2Norm(gradient) / Math.sqrt(gradient.length);
    const error = 1 / Math.sqrt(2 * gradient.length);
    assert.ok(Math.abs(deviation / 0.375 - 1) <= 6 * error, `deviation ${deviation}`);
    assert.deepEqual([targets, loss], [0, 0]);
  });

  it('leaves a record out whose gradient is not finite, and the others in', async () => {
    const broken: PrivateGradientInit['model'] = {
      exampleGradients: async (batch, at) => {
        const result = await model.exampleGradients(batch, at);
        result.gradients[3] = NaN;
        result.losses[0] = NaN;
        return result;
      },
    };
    const whole = await privateGradient(init({ random: quiet([1]) }), theta, never);
    const half = await privateGradient(
      init({ model: broken, random: quiet([0, 1]) }),
      theta,
      never,
    );
    const difference = l2Norm(half.gradient.map((value, i) => value - whole.gradient[i]!));
    assert.ok(difference <= 1e-5 * l2Norm(whole.gradient), `off by ${difference}`);
    assert.ok(Number.isFinite(half.loss));
  });

  it('refuses noise that is not finite, or more than 32 bits hold', async () => {
    for (const noise of [NaN, Infinity, 1e300]) {
      const random = { ...quiet([]), addGaussians: (sum: Float64Array) => void (sum[2] = noise) };
      await assert.rejects(
        privateGradient(init({ random }), theta, never),
        /the noise of private training holds (NaN|infinity) \(value 3 of/,
      );
    }
  });

  it('stops between two parts', async () => {
    const abort = new AbortController();
    const stopping: PrivateGradientInit['model'] = {
      exampleGradients: (batch, at) => {
        abort.abort(new Error('enough'));
        return model.exampleGradients(batch, at);
      },
    };
    const drawing = init({ model: stopping, random: quiet([0, 1, 2, 3]) });
    await assert.rejects(privateGradient(drawing, theta, abort.signal), /enough/);
  });

  it('hides a record in a single update: its gradient points along the update without noise, and not with it', async () => {
    const records = makeRecords();
    const gradients = await oneByOne(records);
    /** Mean cosine of what one step takes off theta with the gradient of the record that was drawn. */
    const alignment = async (noise: number): Promise<number> => {
      let sum = 0;
      for (let record = 0; record < RECORDS; record++) {
        const random = noise === 0 ? quiet([record]) : { ...cryptographic, sample: () => [record] };
        const settings = { noise, clip: 0.1, batchSize: 4, sampleRate: 0.5 };
        const trainer = new LocalTrainer({
          model: single,
          training: { ...TRAINING, weightDecay: 0 },
          run: { epochsMax: 1, stepsRef: 1 },
          trainingData: { batch: () => assert.fail('private training reads no packed rows') },
          privateGradient: (at, signal) => privateGradient(init({ settings, random }), at, signal),
          heldOut: [],
          adapterSize: theta.length,
        });
        const job = { epoch: 0, theta, optimiser: null, steps: 1, deadlineMs: Infinity };
        const result = await trainer.train(job, () => undefined, never);
        const update = theta.map((value, i) => value - result.theta[i]!);
        const dot = update.reduce((total, value, i) => total + value * gradients[record]![i]!, 0);
        sum += dot / (l2Norm(update) * l2Norm(gradients[record]!)) / RECORDS;
      }
      return sum;
    };
    assert.ok((await alignment(0)) > 0.3);
    assert.ok(Math.abs(await alignment(2)) < 0.1);
  });
});
