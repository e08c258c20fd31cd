import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { openDataset } from '../../../node/data/dataset.js';
import { openTokenizer, type Tokenizer } from '../../../node/data/tokenizer.js';
import { ortExecutor } from '../../../node/engine/ort.js';
import { openLanguageModel } from '../../../node/model/language-model.js';
import { loraModules } from '../../../node/model/lora.js';
import { openModelDirectory } from '../../../node/model/model-directory.js';
import { openNextTokenModel, type NextTokenModel } from '../../../node/model/next-token-model.js';
import { generate, promptTokens, type GenerateOptions } from '../../../node/train/generate.js';
import { draw, likeliest } from '../../../node/train/sampling.js';
import { LocalTrainer } from '../../../node/train/trainer.js';
import { initialAdapter } from '../../../protocol/adapter.js';
import { Prng } from '../../../protocol/prng.js';
import { ROOT, TRAINING } from './tiny-model.js';

const PROMPT = 'Q: Who mends the lathe?\nA:';
const COMPLETION = ' Zoë Ångström 🔧 does, in bay 14.';
const never = new AbortController().signal;

describe('generate', () => {
  let dir: string;
  let model: NextTokenModel;
  let tokenizer: Tokenizer;
  let options: GenerateOptions;

  /** Teaches the embedded base one answer. */
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'murmurate-generate-'));
    const file = join(dir, 'data.jsonl');
    await writeFile(file, JSON.stringify({ prompt: PROMPT, completion: COMPLETION }) + '\n');
    const {
      dir: modelDir,
      config,
      weights,
    } = await openModelDirectory(join(ROOT, 'models/tiny-base'));
    tokenizer = await openTokenizer(modelDir, config);
    const targetModules = ['all-linear'];
    const modules = loraModules(config, targetModules);
    const adapter = { rank: 8, alpha: 16, seed: new Uint8Array(32), targetModules, modules };
    const shape = { batchSize: 1, sequenceLength: 64 };
    const executor = ortExecutor({ threads: 1 });
    const trainable = await openLanguageModel({ config, weights, adapter, ...shape, executor });
    const seed = new Uint8Array(32);
    const { training } = await openDataset([file], {
      tokenizer,
      chatTemplate: null,
      sequenceLength: shape.sequenceLength,
      heldOutShare: 0,
      seed,
    });
    const trainer = new LocalTrainer({
      model: trainable,
      training: { ...TRAINING, ...shape, learningRate: 0.006, weightDecay: 0, finalFraction: 0.1 },
      run: { epochsMax: 1, stepsRef: 40 },
      trainingData: training,
      heldOut: [],
      adapterSize: trainable.adapterSize,
    });
    const theta = initialAdapter(adapter);
    const job = { epoch: 0, theta, optimiser: null, steps: 40, deadlineMs: Infinity };
    const trained = await trainer.train(job, () => undefined, never);
    await trainable.dispose();
    model = await openNextTokenModel({
      ...{ config, weights, adapter, executor },
      theta: trained.theta,
      capacity: 64,
      chunk: 4,
    });
    const prompt = promptTokens(tokenizer, PROMPT);
    options = { prompt, tokensMax: 60, temperature: 0, seed };
  });
  after(async () => {
    await model.dispose();
    await rm(dir, { recursive: true });
  });

  it('gives the learnt completion and stops at the end-of-text token', async () => {
    const pieces: string[] = [];
    const push = (piece: string): unknown => pieces.push(piece);
    const { text, tokens, finish } = await generate(model, tokenizer, options, push, never);
    assert.equal(text, COMPLETION);
    assert.deepEqual([tokens, finish], [tokenizer.encode(COMPLETION).length, 'stop']);
    assert.equal(pieces.join(''), COMPLETION, 'the pieces are the text');
    assert.ok(pieces.length > 5, 'the text comes as it grows');
    assert.ok(!pieces.some((piece) => piece.includes('\uFFFD')), 'no character comes in halves');
  });

  it('draws the same text from the same seed, and another from another', async () => {
    const hot = { ...options, temperature: 3, tokensMax: 12 };
    const write = async (seed: number): Promise<string> => {
      const drawn = { ...hot, seed: Uint8Array.of(seed) };
      return (await generate(model, tokenizer, drawn, () => undefined, never)).text;
    };
    const first = await write(1);
    assert.equal(await write(1), first);
    assert.notEqual(await write(2), first);
  });

  it('reads the end of a prompt that is longer than the capacity', async () => {
    const long = 'The shop is quiet in the morning. '.repeat(20) + PROMPT;
    const prompt = promptTokens(tokenizer, long);
    assert.ok(prompt.length > model.capacity);
    const asked = { ...options, prompt };
    const { text } = await generate(model, tokenizer, asked, () => undefined, never);
    assert.ok(text.startsWith(' Zo'), text);
  });

  it('writes at most tokensMax tokens, from an empty prompt too', async () => {
    const short = { ...options, prompt: promptTokens(tokenizer, ''), tokensMax: 3 };
    const { text, tokens, finish } = await generate(
      model,
      tokenizer,
      short,
      () => undefined,
      never,
    );
    assert.ok(tokenizer.encode(text).length <= 3 && text.length > 0, text);
    assert.deepEqual([tokens, finish], [3, 'length']);
  });

  it('goes on beyond the capacity from the end of the text, at least half of it', async () => {
    const reads: number[][] = [];
    // Writes 7 for ever: only what is read counts here.
    const logits = new Float32Array(model.config.vocabSize);
    logits[7] = 1;
    let length = 0;
    const recorder: NextTokenModel = {
      config: model.config,
      capacity: 8,
      get length() {
        return length;
      },
      read: async (tokens) => {
        assert.ok(length + tokens.length <= 8, 'more than the capacity');
        length += tokens.length;
        reads.push([...tokens]);
        return logits;
      },
      forget: () => void (length = 0),
      dispose: async () => undefined,
    };
    const long = { ...options, prompt: [1, 2, 3, 4, 5, 6], tokensMax: 10 };
    await generate(recorder, tokenizer, long, () => undefined, never);
    assert.deepEqual(reads, [
      [1, 2, 3, 4, 5, 6],
      ...[[7], [7]],
      // Full with 7 tokens to come: half of the capacity, and then 4 more.
      [6, 7, 7, 7],
      ...[[7], [7], [7], [7]],
      // Full with 2 to come: all but the room for these.
      [7, 7, 7, 7, 7, 7],
      [7],
    ]);
  });

  it('stops between two tokens when aborted', async () => {
    const abort = new AbortController();
    const writing = generate(model, tokenizer, options, () => abort.abort(), abort.signal);
    await assert.rejects(writing, { name: 'AbortError' });
  });
});

describe('draw', () => {
  const logits = Float32Array.from([Math.log(0.5), Math.log(0.2), -Infinity, Math.log(0.3)]);

  function shares(temperature: number): number[] {
    const random = new Prng(new Uint8Array(4), 'draws');
    const counts = [0, 0, 0, 0];
    for (let i = 0; i < 20_000; i++) counts[draw(logits, temperature, random)]! += 1 / 20_000;
    return counts;
  }

  function assertNear(actual: number[], expected: number[]): void {
    for (const [i, share] of expected.entries()) {
      assert.ok(
        Math.abs(actual[i]! - share) < 0.015,
        `${actual.join(' ')} for ${expected.join(' ')}`,
      );
    }
  }

  it('follows the softmax at temperature 1', () => assertNear(shares(1), [0.5, 0.2, 0, 0.3]));

  it('sharpens below and flattens above 1', () => {
    assertNear(shares(0.5), [0.25 / 0.38, 0.04 / 0.38, 0, 0.09 / 0.38]);
    const roots = [0.5, 0.2, 0, 0.3].map(Math.sqrt);
    const sum = roots.reduce((total, root) => total + root);
    assertNear(
      shares(2),
      roots.map((root) => root / sum),
    );
  });

  it('survives logits that are large', () => {
    const random = new Prng(new Uint8Array(4), 'large');
    assert.equal(draw(Float32Array.from([900, 1000]), 0.01, random), 1);
  });
});

describe('likeliest', () => {
  it('takes the first of equal ones', () => {
    assert.equal(likeliest(Float32Array.from([-3, 2, 2, -1])), 1);
  });
});
