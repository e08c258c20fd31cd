import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readModelConfig } from '../../../node/model/config.js';
import type { LlamaConfig } from '../../../node/model/llama.js';
import { rotaryAmplitude, scaleFrequency, type RopeScaling } from '../../../node/model/rope.js';
import { userError } from './fixtures.js';

const LONGROPE = {
  type: 'longrope',
  short_factor: new Array<number>(16).fill(1.5),
  long_factor: new Array<number>(16).fill(9),
};
const LLAMA3 = {
  rope_type: 'llama3',
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
};

function scalingOf(change: object): RopeScaling | null {
  return configOf(change).ropeScaling;
}

function configOf(change: object): LlamaConfig {
  const fields = {
    model_type: 'llama',
    hidden_size: 64,
    intermediate_size: 96,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    vocab_size: 50,
    ...change,
  };
  const config = readModelConfig(JSON.stringify(fields), 'config.json');
  assert.ok(config.architecture === 'llama');
  return config;
}

describe('rotary scaling in a config', () => {
  it('is read under its name of today and of before, the older field deciding', () => {
    const llama3 = {
      type: 'llama3',
      factor: 8,
      lowFrequencyTurns: 1,
      highFrequencyTurns: 4,
      originalPositions: 8192,
    };
    assert.deepEqual(scalingOf({ rope_parameters: LLAMA3 }), llama3);
    assert.deepEqual(scalingOf({ rope_scaling: LLAMA3, rope_theta: 5e5 }), llama3);
    const linear = { type: 'linear', factor: 2.5 };
    assert.deepEqual(scalingOf({ rope_scaling: linear }), linear);
    assert.deepEqual(scalingOf({ rope_scaling: linear, rope_parameters: LLAMA3 }), linear);
    assert.equal(scalingOf({ rope_parameters: { rope_type: 'default' } }), null);
    assert.equal(scalingOf({}), null);
  });

  it('is that of the original context for LongRoPE, beyond which sequences may not go', () => {
    const long = { original_max_position_embeddings: 4096, max_position_embeddings: 131_072 };
    const scaling = {
      type: 'longrope',
      factor: 32,
      shortFactors: LONGROPE.short_factor,
      attentionFactor: null,
      originalPositions: 4096,
    };
    const config = configOf({ ...long, rope_scaling: LONGROPE });
    assert.deepEqual(config.ropeScaling, scaling);
    assert.equal(config.maxPositions, 4096);
    // Its name in the first configs that had it.
    assert.deepEqual(scalingOf({ ...long, rope_scaling: { ...LONGROPE, type: 'su' } }), scaling);
    const nested = { ...LONGROPE, factor: 4, attention_factor: 1.25 };
    const given = { ...scaling, factor: 4, attentionFactor: 1.25 };
    assert.deepEqual(scalingOf({ ...long, rope_parameters: nested }), given);
  });

  it('is YaRN with the values of Transformers for what is absent', () => {
    const long = { max_position_embeddings: 4096 };
    const usual = { type: 'yarn', fastTurns: 32, slowTurns: 1, isTruncated: true };
    assert.deepEqual(scalingOf({ ...long, rope_scaling: { type: 'yarn', factor: 4 } }), {
      ...{ ...usual, factor: 4, originalPositions: 4096 },
      attentionFactor: 0.1 * Math.log(4) + 1,
    });
    const given = {
      ...{ rope_type: 'yarn', factor: null, original_max_position_embeddings: 512 },
      ...{ beta_fast: 16, beta_slow: 0, mscale: 2, mscale_all_dim: 1, truncate: false },
    };
    assert.deepEqual(scalingOf({ ...long, rope_parameters: given }), {
      ...{ ...usual, factor: 8, originalPositions: 512, fastTurns: 16, isTruncated: false },
      attentionFactor: (0.2 * Math.log(8) + 1) / (0.1 * Math.log(8) + 1),
    });
    const strong = { ...given, attention_factor: 1.5 };
    const scaling = scalingOf({ ...long, rope_parameters: strong });
    assert.equal(rotaryAmplitude(scaling), 1.5);
  });

  it('changes nothing within the positions of the model when it is dynamic', () => {
    const config = configOf({ rope_scaling: { type: 'dynamic', factor: 8 } });
    assert.deepEqual([config.ropeScaling, config.maxPositions], [null, 2048]);
  });

  it('is refused when unknown, incomplete or contradictory', () => {
    const refuses = (fields: object, pattern: RegExp): void =>
      assert.throws(() => scalingOf(fields), userError(pattern));
    refuses(
      { rope_scaling: { type: 'ntk', factor: 4 } },
      /scaling "ntk" \(rope_scaling\) is not supported; supported: default, linear, dynamic, llama3, yarn, longrope/,
    );
    refuses({ rope_scaling: { type: 'dynamic' } }, /"dynamic" \(rope_scaling\) has no factor/);
    refuses(
      { rope_scaling: { type: 'yarn', factor: 4 }, rope_theta: 1 },
      /rope_theta 1 with rotary scaling "yarn" is not supported; supported: more than 1/,
    );
    refuses(
      { rope_parameters: { full_attention: LLAMA3 } },
      /rope_parameters.full_attention for some layers is not supported; supported: one set/,
    );
    refuses({ rope_scaling: { type: 'linear' } }, /"linear" \(rope_scaling\) has no factor/);
    const incomplete = { ...LLAMA3, original_max_position_embeddings: null };
    refuses({ rope_parameters: incomplete }, /has no original_max_position_embeddings/);
    refuses({ rope_parameters: { ...LLAMA3, factor: 0 } }, /"rope_parameters.factor" is 0, but/);
    refuses({ rope_scaling: LONGROPE }, /"longrope" .* has no original_max_position_embeddings/);
    const few = { ...LONGROPE, short_factor: [1, 2], original_max_position_embeddings: 64 };
    refuses({ rope_scaling: few }, /has 2 short factors, but 32 rotated features need 16/);
    refuses(
      { rope_parameters: { ...LLAMA3, high_freq_factor: 1 } },
      /high_freq_factor 1 \(rope_parameters\) must be above low_freq_factor 1/,
    );
  });
});

describe('scaleFrequency', () => {
  const HEAD = { rotated: 4, base: 10_000 };
  const scaling: RopeScaling = {
    type: 'llama3',
    factor: 8,
    lowFrequencyTurns: 1,
    highFrequencyTurns: 4,
    originalPositions: 100,
  };
  /** Radians per position that make so many turns over the original context. */
  const turning = (turns: number): number => (2 * Math.PI * turns) / 100;

  it('divides every frequency when linear, none without scaling', () => {
    assert.equal(scaleFrequency(0.3, 0, { type: 'linear', factor: 4 }, HEAD), 0.075);
    assert.equal(scaleFrequency(0.3, 0, null, HEAD), 0.3);
  });

  it("divides each frequency by its own of LongRoPE's factors and strengthens the attention", () => {
    const longrope: RopeScaling = {
      type: 'longrope',
      factor: 16,
      shortFactors: [1, 2.5],
      attentionFactor: null,
      originalPositions: 256,
    };
    assert.equal(scaleFrequency(0.3, 1, longrope, HEAD), 0.12);
    // 16 = 256^(1/2)
    assert.equal(rotaryAmplitude(longrope), Math.sqrt(1.5));
    assert.equal(rotaryAmplitude({ ...longrope, attentionFactor: 1.1 }), 1.1);
    assert.equal(rotaryAmplitude({ ...longrope, factor: 0.5 }), 1);
    assert.equal(rotaryAmplitude(scaling), 1);
  });

  it("keeps Llama 3's high frequencies, divides its low ones and blends between", () => {
    const close = (actual: number, expected: number): void =>
      assert.ok(Math.abs(actual / expected - 1) < 1e-12, `${actual} for ${expected}`);
    close(scaleFrequency(turning(4.5), 0, scaling, HEAD), turning(4.5));
    close(scaleFrequency(turning(0.9), 0, scaling, HEAD), turning(0.9) / 8);
    // A third of the way from 1 to 4 turns.
    close(scaleFrequency(turning(2), 0, scaling, HEAD), turning(2) * ((2 / 3) * (1 / 8) + 1 / 3));
  });
});
