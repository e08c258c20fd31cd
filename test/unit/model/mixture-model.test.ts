/** A mixture read in one graph against each expert by itself in a graph of its own, and the weights by plain arithmetic. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { ortExecutor } from '../../../node/engine/ort.js';
import { openTfjsExecutor } from '../../../node/engine/tfjs/open.js';
import { openMixtureGraph, openMixtureModel } from '../../../node/model/mixture-model.js';
import { EXPERT_PRIOR } from '../../../node/model/mixture.js';
import {
  openNextTokenModel,
  type NextTokenGraphOptions,
} from '../../../node/model/next-token-model.js';
import { RememberingModel } from '../../../node/train/remembering-model.js';
import { Prng } from '../../../protocol/prng.js';
import { packModel } from '../../support/packed-model.js';
import { weightFolder } from '../../support/stored-weights.js';
import type { ReferenceCaseName } from './fixtures.js';
import { openCase, randomTokens } from './small-case.js';

const CAPACITY = 24;
const BOUND = 1e-5;
const dir = weightFolder();

type Options = Omit<NextTokenGraphOptions, 'chunk'>;

/** A small model, three adapters on it that say different things, and tokens. */
async function openSmall(
  name: ReferenceCaseName,
  targets = ['all-linear'],
): Promise<{ options: Options; thetas: Float32Array[]; tokens: number[] }> {
  const { options, model, theta } = await openCase(name, targets);
  await model.dispose();
  const random = new Prng(new Uint8Array(32), 'experts');
  const another = (): Float32Array =>
    Float32Array.from(theta, () => 0.3 * (random.nextFloat() - 0.5));
  return {
    options: { ...options, capacity: CAPACITY },
    thetas: [theta, another(), another()],
    tokens: [...randomTokens(CAPACITY, options.config.vocabSize)],
  };
}

function softmax(logits: Float32Array): number[] {
  const peak = logits.reduce((most, logit) => Math.max(most, logit));
  const weights = Array.from(logits, (logit) => Math.exp(logit - peak));
  const total = weights.reduce((sum, one) => sum + one, 0);
  return weights.map((one) => one / total);
}

/** After each token: the mixture's probabilities and the experts' weights, every expert by itself, token by token. */
async function plainly(
  options: Options,
  thetas: readonly Float32Array[],
  tokens: readonly number[],
): Promise<{ p: number[]; weights: number[] }[]> {
  const byExpert: number[][][] = [];
  for (const theta of thetas) {
    const model = await openNextTokenModel({ ...options, chunk: 1, theta });
    const own = [];
    for (const token of tokens) own.push(softmax(await model.read([token])));
    byExpert.push(own);
    await model.dispose();
  }
  let weights: number[] = [...EXPERT_PRIOR];
  return tokens.map((token, t) => {
    if (t > 0) {
      const joint = weights.map((w, k) => w * byExpert[k]![t - 1]![token]!);
      const total = joint.reduce((sum, one) => sum + one, 0);
      weights = joint.map((one) => one / total);
    }
    const p = byExpert[0]![t]!.map((_, v) =>
      weights.reduce((sum, w, k) => sum + w * byExpert[k]![t]![v]!, 0),
    );
    return { p, weights };
  });
}

function largest(actual: ArrayLike<number>, expected: readonly number[]): number {
  assert.equal(actual.length, expected.length);
  return expected.reduce((worst, one, i) => Math.max(worst, Math.abs(actual[i]! - one)), 0);
}

async function check(
  t: TestContext,
  { options, thetas, tokens }: Awaited<ReturnType<typeof openSmall>>,
  chunk: number,
): Promise<void> {
  const expected = await plainly(options, thetas, tokens);
  const model = await openMixtureModel({ ...options, chunk, thetas });
  try {
    // A prompt that ends inside of a chunk, then token by token.
    let worst = 0;
    for (let from = 0; from < tokens.length;) {
      const to = from === 0 ? 11 : from + 1;
      const logs = await model.read(tokens.slice(from, to));
      const { p, weights } = expected[to - 1]!;
      worst = Math.max(worst, largest(logs.map(Math.exp), p), largest(model.weights, weights));
      from = to;
    }
    t.diagnostic(`largest difference ${worst.toExponential(1)}`);
    assert.ok(worst <= BOUND, `${worst} is more than ${BOUND}`);
    const last = expected.at(-1)!;
    assert.ok(largest(last.weights, [...EXPERT_PRIOR]) > 0.01, 'the experts are told apart');
  } finally {
    await model.dispose();
  }
}

describe('a mixture of three adapters has the probabilities of each expert by itself, weighed', () => {
  for (const name of ['llama-gqa-tied', 'gemma2', 'qwen3-window', 'phi3', 'gpt2'] as const) {
    for (const chunk of [1, 4]) {
      it(`${name}, ${chunk} tokens in a run`, async (t) => check(t, await openSmall(name), chunk));
    }
  }

  it('with adapters on the output layer', async (t) => {
    await check(t, await openSmall('llama-untied-bias', ['all-linear', 'lm_head']), 4);
  });

  for (const format of ['bf16', 'int8', 'int4'] as const) {
    it(`with weights in ${format}`, async (t) => {
      const small = await openSmall('llama-gqa-tied');
      const { config, weights: plain } = small.options;
      const { weights } = await packModel(dir, config, plain, format);
      await check(t, { ...small, options: { ...small.options, weights, weightFormat: format } }, 4);
    });
  }

  it('on TensorFlow.js', async (t) => {
    const small = await openSmall('llama-gqa-tied');
    const executor = await openTfjsExecutor();
    await check(t, { ...small, options: { ...small.options, executor } }, 4);
  });
});

describe('a mixture that reads', () => {
  it('has the weights of what it remembers, however it came to it', async () => {
    const { options, thetas, tokens } = await openSmall('llama-gqa-tied');
    const graph = await openMixtureGraph({ ...options, chunk: 4, experts: 3 });
    try {
      const model = graph.reader(thetas);
      const whole = await model.read(tokens.slice(0, 15));
      const { weights } = model;
      await model.read(tokens.slice(15, 20));
      model.forget(9);
      assert.equal(model.length, 9);
      const again = await model.read(tokens.slice(9, 15));
      assert.equal(model.length, 15);
      assert.ok(largest(again, [...whole]) < 1e-4);
      assert.ok(largest(model.weights, [...weights]) < BOUND);
      model.forget();
      assert.deepEqual(
        model.weights.map((w) => w.toFixed(6)),
        ['0.500000', '0.250000', '0.250000'],
      );
      await assert.rejects(model.read([]), RangeError);
      await assert.rejects(model.read(tokens.concat(tokens)), RangeError);
      // As serve reads the messages of one conversation after another.
      const served = new RememberingModel(graph.reader(thetas));
      await served.read(tokens.slice(0, 18));
      served.forget();
      const later = await served.read(tokens.slice(0, 15));
      assert.ok(largest(later, [...whole]) < 1e-4);
    } finally {
      await graph.dispose();
    }
  });

  it('of three that are one is that one', async () => {
    const { options, thetas, tokens } = await openSmall('llama-gqa-tied');
    const [theta] = thetas as [Float32Array];
    const graph = await openMixtureGraph({ ...options, chunk: 4, experts: 3 });
    const single = await openNextTokenModel({ ...options, chunk: 4, theta });
    const logs = await graph.reader([theta, theta, theta]).read(tokens);
    assert.ok(largest(logs.map(Math.exp), softmax(await single.read(tokens))) < BOUND);
    await graph.dispose();
    await single.dispose();
  });

  it('ends between two runs when it is told to, and then goes on as if nothing was', async () => {
    const { options, thetas, tokens } = await openSmall('llama-gqa-tied');
    const model = await openMixtureModel({
      ...{ ...options, executor: ortExecutor({ threads: 1 }) },
      ...{ chunk: 4, thetas },
    });
    const expected = await model.read(tokens.slice(0, 12));
    model.forget(6);
    const signal = AbortSignal.abort(new Error('stopped'));
    await assert.rejects(model.read(tokens.slice(6, 12), signal), /stopped/);
    assert.equal(model.length, 6);
    assert.ok(largest(await model.read(tokens.slice(6, 12)), [...expected]) < 1e-4);
    await model.dispose();
  });
});
