import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readModelConfig } from '../../../node/model/config.js';
import type { LlamaConfig } from '../../../node/model/llama.js';
import type { LoraModule } from '../../../protocol/adapter.js';
import { checkAdapter, loraModules } from '../../../node/model/lora.js';
import { userError } from './fixtures.js';

/** heads x headDim (48) is not hiddenSize (40). */
const config: LlamaConfig = {
  architecture: 'llama',
  hiddenSize: 40,
  intermediateSize: 56,
  layers: 2,
  heads: 6,
  keyValueHeads: 2,
  headDim: 8,
  vocabSize: 99,
  maxPositions: 64,
  rmsNormEps: 1e-5,
  ropeTheta: 10_000,
  ropeScaling: null,
  localRope: null,
  rotaryDim: null,
  scoreScalar: null,
  windows: null,
  unrotated: null,
  tieWordEmbeddings: false,
  attentionBias: false,
  mlpBias: false,
  hiddenAct: 'silu',
  bosTokenId: null,
  eosTokenIds: [],
  padTokenId: null,
};

describe('loraModules', () => {
  it('goes layer by layer, always in the same order, with the features of each layer', () => {
    const named = loraModules(config, ['down_proj', 'lm_head', 'v_proj', 'o_proj', 'q_proj']);
    assert.deepEqual(
      named.map(({ name, inFeatures, outFeatures }) => [name, inFeatures, outFeatures]),
      [
        ['model.layers.0.self_attn.q_proj', 40, 48],
        ['model.layers.0.self_attn.v_proj', 40, 16],
        ['model.layers.0.self_attn.o_proj', 48, 40],
        ['model.layers.0.mlp.down_proj', 56, 40],
        ['model.layers.1.self_attn.q_proj', 40, 48],
        ['model.layers.1.self_attn.v_proj', 40, 16],
        ['model.layers.1.self_attn.o_proj', 48, 40],
        ['model.layers.1.mlp.down_proj', 56, 40],
        ['lm_head', 40, 99],
      ],
    );
  });

  it('takes all-linear for every linear layer but the output layer', () => {
    const all = loraModules(config, ['all-linear']).map(({ name }) => name);
    assert.equal(all.length, 14);
    assert.ok(!all.includes('lm_head'));
    assert.deepEqual(
      all.slice(0, 7).map((name) => name.split('.').at(-1)),
      ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
    );
    const withHead = loraModules(config, ['lm_head', 'all-linear']).map(({ name }) => name);
    assert.deepEqual(withHead, [...all, 'lm_head']);
  });

  it("takes GPT-2's layers by their names, c_proj being two of them", () => {
    const fields = { model_type: 'gpt2', vocab_size: 97, n_embd: 40, n_layer: 2, n_head: 5 };
    const gpt2 = readModelConfig(JSON.stringify(fields), 'config.json');
    const named = (...targets: string[]) =>
      loraModules(gpt2, targets).map(({ name, inFeatures, outFeatures }) => [
        name,
        inFeatures,
        outFeatures,
      ]);
    const [attention, output, inner, back] = [
      ['transformer.h.1.attn.c_attn', 40, 120],
      ['transformer.h.1.attn.c_proj', 40, 40],
      ['transformer.h.1.mlp.c_fc', 40, 160],
      ['transformer.h.1.mlp.c_proj', 160, 40],
    ];
    assert.deepEqual(named('all-linear').slice(4), [attention, output, inner, back]);
    assert.deepEqual(named('c_proj').slice(2), [output, back]);
    assert.throws(() => named('q_proj'), /choose from c_attn, c_proj, c_fc, or all-linear/);
  });

  it('refuses names that the model does not have, and says which it has', () => {
    const known = 'q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj';
    assert.throws(() => loraModules(config, ['q_proj', 'c_attn']), {
      name: 'UserError',
      exitCode: 2,
      message: `target module "c_attn" is not a linear layer of this model: choose from ${known}, lm_head, or all-linear`,
    });
    assert.throws(() => loraModules({ ...config, tieWordEmbeddings: true }, ['lm_head']), {
      message: `target module "lm_head" is not a linear layer of this model: choose from ${known}, or all-linear`,
    });
    assert.throws(() => loraModules(config, []), /no target module is named/);
    assert.throws(() => loraModules(config, ['q_proj', 'q_proj']), /named twice/);
  });
});

describe('checkAdapter', () => {
  const key = loraModules(config, ['k_proj'])[0]!;
  const check = (...modules: LoraModule[]) => checkAdapter(config, { rank: 4, alpha: 8, modules });

  it('accepts the modules that loraModules lists', () => {
    assert.doesNotThrow(() => check(...loraModules(config, ['lm_head', 'all-linear'])));
  });

  it('refuses modules that are unknown, repeated or of other features', () => {
    const unknown = { ...key, name: 'model.layers.2.self_attn.k_proj' };
    assert.throws(() => check(unknown), userError(/no linear layer of this model/));
    assert.throws(() => check(key, key), userError(/twice/));
    const wider = { ...key, inFeatures: 41 };
    assert.throws(() => check(wider), userError(/k_proj to be \[16, 41\], but .* \[16, 40\]/));
  });
});
