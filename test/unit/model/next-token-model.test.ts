import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { ExecutorError } from '../../../node/engine/errors.js';
import { constant, type Value } from '../../../node/engine/graph.js';
import { matmul, softcap } from '../../../node/engine/ops/index.js';
import { ortExecutor } from '../../../node/engine/ort.js';
import { readModelConfig } from '../../../node/model/config.js';
import { decoderOf } from '../../../node/model/families.js';
import type { ModelToOpen } from '../../../node/model/load.js';
import { loraModules } from '../../../node/model/lora.js';
import { constantAdapter } from '../../../node/model/lora-graph.js';
import {
  chunkFor,
  openNextTokenModel,
  type NextTokenModel,
} from '../../../node/model/next-token-model.js';
import { openWeights } from '../../../node/model/weight-index.js';
import { adapterLayout } from '../../../protocol/adapter.js';
import { Prng } from '../../../protocol/prng.js';
import { REFERENCE_CASES, referenceCase, userError, type ReferenceCaseName } from './fixtures.js';

const T = 40;
const BOUND = 2e-4;

interface OpenCase extends ModelToOpen {
  /** Random, far from zero. */
  theta: Float32Array;
  /** T random ones. */
  tokens: number[];
}

async function openCase(name: ReferenceCaseName): Promise<OpenCase> {
  const dir = join(referenceCase(name), 'base');
  const path = join(dir, 'config.json');
  const config = readModelConfig(await readFile(path), path);
  const adapter = { rank: 3, alpha: 5, modules: loraModules(config, ['all-linear']) };
  const random = new Prng(new Uint8Array(32), 'next token');
  const theta = Float32Array.from(
    { length: adapterLayout(adapter).size },
    () => 0.2 * (random.nextFloat() - 0.5),
  );
  const tokens = Array.from({ length: T }, () => random.nextBelow(config.vocabSize));
  const executor = ortExecutor({ threads: 1 });
  return { config, weights: await openWeights(dir), adapter, executor, theta, tokens };
}

/** Logits after each token, by the graph that training uses, which reads all at once: [T][V]. */
async function wholeSequence(opened: OpenCase, theta: Float32Array): Promise<Float32Array[]> {
  const { config, weights, adapter, executor } = opened;
  const sequence = (data: Int32Array): Value => constant(data, [1, T]);
  const {
    hidden,
    table,
    logitCap = null,
  } = decoderOf(config).build(weights, constantAdapter(theta, adapter), {
    tokens: sequence(Int32Array.from(opened.tokens)),
    segments: sequence(new Int32Array(T)),
    positions: sequence(Int32Array.from({ length: T }, (_, t) => t)),
  });
  const free = matmul(hidden, table, { transB: true });
  const graph = await executor.compile({
    outputs: { logits: logitCap === null ? free : softcap(free, logitCap) },
  });
  const { logits } = await graph.run({});
  await graph.dispose();
  assert.ok(logits instanceof Float32Array);
  const { vocabSize } = config;
  return opened.tokens.map((_, t) => logits.subarray(t * vocabSize, (t + 1) * vocabSize));
}

function largestDifference(actual: Float32Array, expected: Float32Array): number {
  assert.equal(actual.length, expected.length);
  return actual.reduce((worst, value, i) => Math.max(worst, Math.abs(value - expected[i]!)), 0);
}

for (const name of REFERENCE_CASES) {
  describe(`${name}, token by token`, () => {
    let opened: OpenCase;
    before(async () => {
      opened = await openCase(name);
    });

    for (const [what, factor] of [
      ['with an adapter', 1],
      ['without', 0],
    ] as const) {
      it(`has the logits of the whole sequence, ${what}`, async (t: TestContext) => {
        const theta = opened.theta.map((value) => factor * value);
        const expected = await wholeSequence(opened, theta);
        // A prompt that ends inside of a chunk, then tokens one by one up to the last that fits.
        const model = await openNextTokenModel({ ...opened, theta, capacity: T, chunk: 4 });
        try {
          const prompt = 11;
          let worst = largestDifference(
            await model.read(opened.tokens.slice(0, prompt)),
            expected[prompt - 1]!,
          );
          for (let i = prompt; i < T; i++) {
            assert.equal(model.length, i);
            const logits = await model.read([opened.tokens[i]!]);
            worst = Math.max(worst, largestDifference(logits, expected[i]!));
          }
          t.diagnostic(`largest difference ${worst.toExponential(1)}`);
          assert.ok(worst <= BOUND, `${worst} is more than ${BOUND}`);
        } finally {
          await model.dispose();
        }
      });
    }
  });
}

describe('a next-token model', () => {
  let opened: OpenCase;
  let model: NextTokenModel;

  before(async () => {
    opened = await openCase('llama-gqa-tied');
    model = await openNextTokenModel({ ...opened, capacity: 12, chunk: 5 });
  });
  after(() => model.dispose());

  it('reads the same in pieces of any length', async () => {
    const tokens = opened.tokens.slice(0, 12);
    const whole = await model.read(tokens);
    model.forget();
    await model.read(tokens.slice(0, 1));
    await model.read(tokens.slice(1, 8));
    assert.ok(largestDifference(await model.read(tokens.slice(8)), whole) <= BOUND);
  });

  it('knows nothing of what it has forgotten', async () => {
    model.forget();
    const fresh = await model.read(opened.tokens.slice(0, 3));
    await model.read(opened.tokens.slice(3, 9));
    model.forget();
    assert.equal(model.length, 0);
    assert.deepEqual(await model.read(opened.tokens.slice(0, 3)), fresh);
  });

  it('depends on every token that it remembers', async () => {
    const read = async (tokens: number[]): Promise<Float32Array> => {
      model.forget();
      await model.read(tokens.slice(0, -1));
      return model.read(tokens.slice(-1));
    };
    const tokens = opened.tokens.slice(0, 9);
    const before = await read(tokens);
    for (const i of tokens.keys()) {
      const other = tokens.map((token, j) => (i === j ? (token + 1) % 101 : token));
      assert.ok(largestDifference(await read(other), before) > 10 * BOUND, `token ${i}`);
    }
  });

  it('refuses no tokens, more than fit, and those outside of the vocabulary', async () => {
    model.forget();
    await assert.rejects(model.read([]), RangeError);
    await model.read(opened.tokens.slice(0, 8));
    await assert.rejects(model.read(opened.tokens.slice(0, 5)), /5 tokens, .* the 4 that fit/);
    await assert.rejects(model.read([101]), userError(/token 101 is outside .* vocabulary of 101/));
    assert.equal(model.length, 8, 'what was refused was not read');
  });

  it('stops between two runs when aborted', async () => {
    model.forget();
    const abort = new AbortController();
    const reading = model.read(opened.tokens.slice(0, 12), abort.signal);
    abort.abort();
    await assert.rejects(reading, { name: 'AbortError' });
    assert.equal(model.length, 5);
  });

  it('refuses a capacity beyond the positions of the model', async () => {
    await assert.rejects(
      openNextTokenModel({ ...opened, capacity: 129, chunk: 1 }),
      userError(/129 is more than the model's 128 positions/),
    );
  });

  it('is over once disposed', async () => {
    const other = await openNextTokenModel({ ...opened, capacity: 4, chunk: 1 });
    await other.dispose();
    await assert.rejects(other.read([1]), ExecutorError);
  });
});

describe('chunkFor', () => {
  it('grows with the share of the text that is known', () => {
    assert.deepEqual(
      [1, 31, 32, 127, 128, 8000].map((known) => chunkFor(known, 64)),
      [1, 1, 4, 4, 8, 8],
    );
  });
});
