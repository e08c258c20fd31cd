import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { UserError } from '../../../node/errors.js';
import { CONFIG_BYTES_MAX, readModelConfig } from '../../../node/model/config.js';
import { MODEL_TYPES } from '../../../node/model/families.js';
import type { LlamaConfig } from '../../../node/model/llama.js';
import { referenceCase, TINY_BASE, userError } from './fixtures.js';

/** As Transformers 4 wrote it: rope_theta at the top, torch_dtype, no head_dim. */
const OLDER = {
  model_type: 'llama',
  hidden_size: 576,
  intermediate_size: 1536,
  num_hidden_layers: 30,
  num_attention_heads: 9,
  num_key_value_heads: 3,
  vocab_size: 49_152,
  max_position_embeddings: 8192,
  rms_norm_eps: 1e-5,
  rope_theta: 100_000,
  rope_scaling: null,
  rope_interleaved: false,
  tie_word_embeddings: true,
  attention_bias: false,
  hidden_act: 'silu',
  bos_token_id: 1,
  eos_token_id: 2,
  pad_token_id: 2,
  torch_dtype: 'bfloat16',
};
const MISTRAL = { ...OLDER, model_type: 'mistral', sliding_window: null };

function read(fields: object): ReturnType<typeof readModelConfig> {
  return readModelConfig(JSON.stringify(fields), 'config.json');
}

function llamaOf(fields: object): LlamaConfig {
  const config = read(fields);
  assert.ok(config.architecture === 'llama');
  return config;
}

function refuses(fields: object, pattern: RegExp): void {
  assert.throws(() => read(fields), userError(pattern));
}

describe('readModelConfig', () => {
  it('reads what Transformers 5 wrote', async () => {
    assert.deepEqual(
      readModelConfig(await readFile(join(TINY_BASE, 'config.json')), 'config.json'),
      {
        architecture: 'llama',
        hiddenSize: 256,
        intermediateSize: 704,
        layers: 6,
        heads: 8,
        keyValueHeads: 4,
        headDim: 32,
        vocabSize: 4096,
        maxPositions: 512,
        rmsNormEps: 1e-5,
        ropeTheta: 10_000,
        ropeScaling: null,
        localRope: null,
        rotaryDim: null,
        scoreScalar: null,
        windows: null,
        unrotated: null,
        tieWordEmbeddings: true,
        attentionBias: false,
        mlpBias: false,
        hiddenAct: 'silu',
        bosTokenId: 0,
        eosTokenIds: [0],
        padTokenId: 0,
      },
    );
    const biased = join(referenceCase('llama-untied-bias'), 'base', 'config.json');
    const fields = JSON.parse(await readFile(biased, 'utf8')) as object;
    const { ropeTheta, attentionBias, tieWordEmbeddings } = llamaOf(fields);
    assert.deepEqual([ropeTheta, attentionBias, tieWordEmbeddings], [50_000, true, false]);
  });

  it('reads what Transformers 4 wrote', () => {
    const config = llamaOf(OLDER);
    assert.equal(config.ropeTheta, 100_000);
    assert.equal(config.headDim, 64);
    assert.equal(config.keyValueHeads, 3);
  });

  it('takes the defaults of Transformers for fields that are absent, and null as none', () => {
    const required = Object.fromEntries(Object.entries(OLDER).slice(0, 5));
    const config = llamaOf({ ...required, vocab_size: 32_000, eos_token_id: null });
    assert.equal(config.keyValueHeads, 9);
    assert.equal(config.maxPositions, 2048);
    assert.equal(config.rmsNormEps, 1e-6);
    assert.equal(config.ropeTheta, 10_000);
    assert.equal(config.tieWordEmbeddings, false);
    assert.deepEqual([config.bosTokenId, config.eosTokenIds, config.padTokenId], [1, [], null]);
  });

  it('keeps every end-of-text id', () => {
    assert.deepEqual(read({ ...OLDER, eos_token_id: [5, 7, 9] }).eosTokenIds, [5, 7, 9]);
  });

  it('takes Mistral as Llama with a sliding window in every layer', () => {
    const mistral = (change: object): LlamaConfig =>
      llamaOf({ ...MISTRAL, num_hidden_layers: 2, ...change });
    assert.equal(mistral({}).windows, null);
    assert.deepEqual(mistral({ sliding_window: 1024 }).windows, [1024, 1024]);
    assert.deepEqual(mistral({ sliding_window: undefined }).windows, [4096, 4096]);
    assert.equal(mistral({ sliding_window: 1024 }).maxPositions, 8192);
    const bare = { num_attention_heads: 16, num_key_value_heads: undefined, head_dim: 36 };
    const config = mistral({ ...bare, max_position_embeddings: undefined });
    assert.equal(config.keyValueHeads, 8);
    assert.equal(config.maxPositions, 131_072);
    // Llama heeds none.
    assert.equal(llamaOf({ ...OLDER, sliding_window: 1024 }).windows, null);
  });

  it('reads Qwen2, which names a window that it seldom uses', () => {
    const qwen = { ...OLDER, model_type: 'qwen2', sliding_window: 512, use_sliding_window: false };
    const config = read({ ...qwen, bos_token_id: undefined, eos_token_id: undefined });
    assert.ok(config.architecture === 'qwen2');
    assert.deepEqual([config.bosTokenId, config.eosTokenIds], [null, []]);
    assert.equal(config.windows, null);
    const windows = (change: object): (number | null)[] | null => {
      const used = read({ ...qwen, use_sliding_window: true, ...change });
      assert.ok(used.architecture === 'qwen2');
      return used.windows;
    };
    const lower = new Array<null>(28).fill(null);
    assert.deepEqual(windows({}), [...lower, 512, 512]);
    assert.equal(windows({ max_window_layers: 30 }), null);
    const three = { num_hidden_layers: 3, max_window_layers: 1 };
    assert.deepEqual(windows(three), [null, 512, 512]);
    const kinds = ['sliding_attention', 'full_attention', 'sliding_attention'];
    assert.deepEqual(windows({ ...three, layer_types: kinds }), [512, null, 512]);
    refuses({ ...qwen, layer_types: kinds }, /layer_types names 3 layers, but num_hidden_.* is 30/);
    refuses(
      { ...qwen, layer_types: ['chunked_attention'] },
      /"layer_types.0" is "chunked_attention", but must be full_attention or sliding_attention/,
    );
  });

  it('reads Qwen3, whose heads are 128 wide unless it says otherwise', () => {
    const config = read({ ...OLDER, model_type: 'qwen3', attention_bias: true });
    assert.ok(config.architecture === 'qwen3');
    assert.deepEqual([config.headDim, config.attentionBias], [128, true]);
  });

  it('reads Gemma 2, whose caps and windows are there unless it says otherwise', () => {
    const gemma = { ...OLDER, model_type: 'gemma2', num_hidden_layers: 3, hidden_activation: null };
    const config = read(gemma);
    assert.ok(config.architecture === 'gemma2');
    assert.deepEqual([config.scoreCap, config.logitCap, config.scoreScalar], [50, 30, 256]);
    assert.deepEqual(config.windows, [4096, null, 4096]);
    const free = read({ ...gemma, attn_logit_softcapping: null, final_logit_softcapping: null });
    assert.ok(free.architecture === 'gemma2');
    assert.deepEqual([free.scoreCap, free.logitCap], [null, null]);
    refuses({ ...gemma, final_logit_softcapping: 0 }, /final_logit_softcapping 0 is not supported/);
  });

  it('reads which layers of SmolLM3 know no positions', () => {
    const smol = { ...OLDER, model_type: 'smollm3', num_hidden_layers: 4 };
    const unrotated = (fields: object): unknown => {
      const config = read(fields);
      assert.ok(config.architecture === 'smollm3');
      return config.unrotated;
    };
    assert.deepEqual(unrotated(smol), [3]);
    assert.deepEqual(unrotated({ ...smol, no_rope_layer_interval: 2 }), [1, 3]);
    assert.deepEqual(unrotated({ ...smol, no_rope_layers: [0, 1, 1, 1] }), [0]);
    assert.equal(unrotated({ ...smol, no_rope_layers: [1, 1, 1, 1] }), null);
    refuses({ ...smol, no_rope_layers: [1, 1] }, /no_rope_layers with 2 entries .* each of 4/);
  });

  it('reads the factors of Granite', () => {
    const factors = { embedding_multiplier: 12, residual_multiplier: 0.22, logits_scaling: 8 };
    const granite = { ...OLDER, model_type: 'granite', ...factors, attention_multiplier: 0.015625 };
    const config = read(granite);
    assert.ok(config.architecture === 'granite');
    const { embeddingScale, residualScale, logitDivisor, scoreScalar } = config;
    assert.deepEqual([embeddingScale, residualScale, logitDivisor], [12, 0.22, 8]);
    assert.equal(scoreScalar, 4096, 'scores are divided by its square root');
  });

  it('reads Gemma 3 as Transformers 5 and 4 wrote it', () => {
    const gemma = {
      ...OLDER,
      model_type: 'gemma3_text',
      num_hidden_layers: 3,
      hidden_activation: 'gelu_pytorch_tanh',
      rope_theta: undefined,
      sliding_window: 512,
    };
    const older = {
      sliding_window_pattern: 2,
      rope_theta: 2e6,
      rope_local_base_freq: 20_000,
      rope_scaling: { rope_type: 'linear', factor: 8 },
    };
    const config = read({ ...gemma, ...older, head_dim: 72, query_pre_attn_scalar: 168 });
    assert.ok(config.architecture === 'gemma3');
    assert.deepEqual(config.windows, [512, null, 512]);
    assert.deepEqual([config.ropeTheta, config.ropeScaling?.type], [2e6, 'linear']);
    assert.deepEqual(config.localRope, { theta: 20_000, scaling: null });
    assert.deepEqual([config.headDim, config.scoreScalar], [72, 168]);
    assert.equal(config.hiddenAct, 'gelu_pytorch_tanh');
    const newer = {
      layer_types: ['sliding_attention', 'full_attention', 'sliding_attention'],
      rope_parameters: {
        full_attention: { rope_type: 'linear', factor: 8, rope_theta: 2e6 },
        sliding_attention: { rope_type: 'default', rope_theta: 20_000 },
      },
    };
    assert.deepEqual(
      read({ ...gemma, ...newer, head_dim: 72, query_pre_attn_scalar: 168 }),
      config,
    );
    const bare = read({ ...gemma, num_hidden_layers: 7, tie_word_embeddings: undefined });
    assert.ok(bare.architecture === 'gemma3' && bare.tieWordEmbeddings);
    assert.deepEqual([bare.headDim, bare.scoreScalar, bare.ropeTheta], [256, 256, 1e6]);
    assert.deepEqual(bare.localRope, { theta: 10_000, scaling: null });
    assert.deepEqual(bare.windows, [512, 512, 512, 512, 512, null, 512]);
    for (const field of ['attn_logit_softcapping', 'final_logit_softcapping']) {
      refuses({ ...gemma, [field]: 50 }, new RegExp(`${field} 50 is not supported; .*: null`));
    }
    refuses({ ...gemma, use_bidirectional_attention: true }, /bidirectional_attention true is not/);
    refuses({ ...gemma, sliding_window: null }, /sliding_window null is not supported/);
    refuses({ ...gemma, hidden_activation: 'silu' }, /hidden_activation "silu" is not supported/);
    refuses({ ...gemma, rope_parameters: { rope_type: 'default' } }, /one set of rope_parameters/);
    const local = { sliding_attention: { rope_type: 'ntk', factor: 2 } };
    refuses({ ...gemma, rope_parameters: local }, /"ntk" \(rope_parameters.sliding_attention\)/);
  });

  it('reads Phi-3, whose layers are fused', () => {
    const phi = { ...OLDER, model_type: 'phi3', num_hidden_layers: 1, num_attention_heads: 6 };
    const config = read({ ...phi, rms_norm_eps: undefined, eos_token_id: undefined });
    assert.ok(config.architecture === 'phi3');
    assert.deepEqual([config.rmsNormEps, config.eosTokenIds], [1e-5, [32_000]]);
    assert.equal(config.rotaryDim, null);
    assert.deepEqual(read({ ...phi, sliding_window: 2047 }), { ...read(phi), windows: [2047] });
    const partial = read({ ...phi, partial_rotary_factor: 0.75 });
    assert.deepEqual(partial, { ...read(phi), rotaryDim: 72 });
    refuses({ ...phi, partial_rotary_factor: 0.01 }, /rotates 0 of the 96 features of a head, but/);
    refuses({ ...phi, partial_rotary_factor: 0.1 }, /rotates 9 of the 96 features of a head, but/);
  });

  it('reads GPT-2, whose default tokens lie outside of a smaller vocabulary', () => {
    const small = { model_type: 'gpt2', vocab_size: 97, n_embd: 40, n_layer: 3, n_head: 5 };
    assert.deepEqual(read({ ...small, bos_token_id: 50_256, eos_token_id: 50_256 }), {
      architecture: 'gpt2',
      hiddenSize: 40,
      intermediateSize: 160,
      layers: 3,
      heads: 5,
      vocabSize: 97,
      maxPositions: 1024,
      layerNormEps: 1e-5,
      tieWordEmbeddings: true,
      hiddenAct: 'gelu_new',
      bosTokenId: null,
      eosTokenIds: [],
      padTokenId: null,
    });
    assert.deepEqual(read({ ...small, vocab_size: 50_257 }).eosTokenIds, [50_256]);
    refuses({ ...small, eos_token_id: 97 }, /token id 97 .* beyond vocab_size 97/);
    refuses({ ...small, n_head: 6 }, /n_embd 40 is not a multiple of n_head 6/);
    refuses({ ...small, activation_function: 'relu' }, /"relu" is not supported; supported: gelu_/);
    refuses({ ...small, add_cross_attention: true }, /add_cross_attention true is not supported/);
    refuses({ ...small, scale_attn_weights: false }, /scale_attn_weights false is not supported/);
  });

  it('names a model that it does not support and lists what it does', () => {
    refuses(
      { model_type: 'bert', vocab_size: 7 },
      /^config.json: model_type "bert" is not supported; supported: llama, mistral, qwen2, qwen3, gemma2, gemma3_text, phi3, smollm3, olmo2, granite, gpt2$/,
    );
    refuses(
      { model_type: 'gemma3', text_config: { model_type: 'gemma3_text' } },
      /"gemma3" reads more than text, .*: save its text part, a "gemma3_text", as a model of its own/,
    );
    refuses(
      { model_type: 'a', text_config: { model_type: 'b' } },
      /"a" is not supported; supported/,
    );
    refuses({ model_type: 'a', text_config: 3 }, /"a" is not supported; supported/);
    refuses({ ...OLDER, hidden_act: 'gelu' }, /hidden_act "gelu" is not supported/);
    refuses({ ...OLDER, quantization_config: { bits: 4 } }, /quantised by an unnamed method/);
    const partial = { rope_type: 'default', partial_rotary_factor: 0.5 };
    refuses({ ...OLDER, rope_parameters: partial }, /partial_rotary_factor 0.5 is not supported/);
  });

  it('names a field that is missing, of the wrong type or out of bounds', () => {
    refuses(
      { ...OLDER, vocab_size: undefined },
      /^config.json: field "vocab_size" is missing, but must be a whole number/,
    );
    refuses(
      { ...OLDER, num_hidden_layers: 1.5 },
      /"num_hidden_layers" is 1.5, but must be a whole/,
    );
    refuses({ ...OLDER, hidden_size: 1e9 }, /"hidden_size" is 1000000000, but .* from 1 to 65536/);
    refuses({ ...OLDER, rms_norm_eps: 0 }, /"rms_norm_eps" is 0, but must be a number/);
    refuses(
      { ...OLDER, tie_word_embeddings: 'yes' },
      /"tie_word_embeddings" is "yes", but must be/,
    );
    refuses(
      { ...OLDER, rope_parameters: { rope_theta: '1e4' } },
      /"rope_parameters.rope_theta" is/,
    );
    refuses({}, /"model_type" is missing, but must be a string/);
  });

  it('refuses numbers that contradict each other', () => {
    refuses(
      { ...OLDER, num_attention_heads: 7, num_key_value_heads: 7 },
      /hidden_size 576 is not a/,
    );
    refuses(
      { ...OLDER, num_key_value_heads: 2 },
      /heads 9 is not a multiple of num_key_value_heads/,
    );
    refuses({ ...OLDER, head_dim: 33 }, /a head has 33 features, but .* even/);
    refuses({ ...OLDER, eos_token_id: 50_000 }, /token id 50000 .* beyond vocab_size 49152/);
  });

  it('throws nothing but UserError, whatever a field holds', () => {
    const foreign = [
      ...['no_rope_layers', 'final_logit_softcapping', 'attention_multiplier'],
      ...['rope_parameters', 'head_dim', 'sliding_window', 'layer_types'],
    ];
    const change = fc.tuple(
      fc.constantFrom(...Object.keys(OLDER), ...foreign, 'partial_rotary_factor'),
      fc.jsonValue(),
    );
    const families = fc.constantFrom(...MODEL_TYPES.filter((type) => type !== 'gpt2'));
    fc.assert(
      fc.property(families, fc.array(change, { minLength: 1, maxLength: 3 }), (family, changes) => {
        try {
          const fields = { ...OLDER, model_type: family, ...Object.fromEntries(changes) };
          const config = read(fields);
          assert.ok(config.architecture !== 'gpt2');
          assert.ok(Number.isInteger(config.headDim) && config.heads % config.keyValueHeads === 0);
          assert.ok(config.windows === null || config.windows.length === config.layers);
        } catch (error) {
          assert.ok(error instanceof UserError, String(error));
        }
      }),
    );
  });

  it('refuses bytes that are no config', () => {
    assert.throws(
      () => readModelConfig('{"model_type": "lla', 'c'),
      userError(/^c is not valid JSON/),
    );
    assert.throws(() => readModelConfig('[]', 'c'), userError(/must be a JSON object/));
    const long = ' '.repeat(CONFIG_BYTES_MAX + 1);
    assert.throws(() => readModelConfig(long, 'c'), userError(/more than the 1048576/));
  });
});
