import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readModelConfig } from '../../../node/model/config.js';
import { scaleFrequency, type RopeScaling } from '../../../node/model/rope.js';
import { userError } from './fixtures.js';

const LLAMA3 = {
  rope_type: 'llama3',
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
};

function scalingOf(change: object): RopeScaling | null {
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
  return config.ropeScaling;
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

  it('is refused when unknown, incomplete or contradictory', () => {
    const refuses = (fields: object, pattern: RegExp): void =>
      assert.throws(() => scalingOf(fields), userError(pattern));
    refuses(
      { rope_scaling: { type: 'yarn', factor: 4 } },
      /scaling "yarn" \(rope_scaling\) is not supported; supported: default, linear, llama3/,
    );
    refuses(
      { rope_parameters: { full_attention: LLAMA3 } },
      /rope_parameters.full_attention for some layers is not supported; supported: one set/,
    );
    refuses({ rope_scaling: { type: 'linear' } }, /"linear" \(rope_scaling\) has no factor/);
    const incomplete = { ...LLAMA3, original_max_position_embeddings: null };
    refuses({ rope_parameters: incomplete }, /has no original_max_position_embeddings/);
    refuses({ rope_parameters: { ...LLAMA3, factor: 0 } }, /"rope_parameters.factor" is 0, but/);
    refuses(
      { rope_parameters: { ...LLAMA3, high_freq_factor: 1 } },
      /high_freq_factor 1 \(rope_parameters\) must be above low_freq_factor 1/,
    );
  });
});

describe('scaleFrequency', () => {
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
    assert.equal(scaleFrequency(0.3, { type: 'linear', factor: 4 }), 0.075);
    assert.equal(scaleFrequency(0.3, null), 0.3);
  });

  it("keeps Llama 3's high frequencies, divides its low ones and blends between", () => {
    const close = (actual: number, expected: number): void =>
      assert.ok(Math.abs(actual / expected - 1) < 1e-12, `${actual} for ${expected}`);
    close(scaleFrequency(turning(4.5), scaling), turning(4.5));
    close(scaleFrequency(turning(0.9), scaling), turning(0.9) / 8);
    // A third of the way from 1 to 4 turns.
    close(scaleFrequency(turning(2), scaling), turning(2) * ((2 / 3) * (1 / 8) + 1 / 3));
  });
});
