import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { readModelConfig } from '../../../node/model/config.js';
import {
  configSha256,
  explainMismatch,
  fingerprintModel,
} from '../../../node/model/fingerprint.js';
import type { ModelFingerprint } from '../../../protocol/manifest.js';
import { referenceCase, Scratch, TINY_BASE, userError } from './fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

const sha256 = (bytes: string | Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** Changes one byte in the middle of a file and leaves its size and time of change as they were. */
async function changeUnseen(path: string, at: Date): Promise<void> {
  const bytes = await readFile(path);
  const middle = bytes.length >> 1;
  bytes[middle] = (bytes[middle] ?? 0) ^ 1;
  await writeFile(path, bytes);
  await utimes(path, at, at);
}

describe('fingerprintModel', () => {
  it('hashes as documented: sha256sum of the weights, bytes of the tokenizer', async () => {
    const weights = await readFile(join(TINY_BASE, 'model.safetensors'));
    assert.deepEqual(await fingerprintModel(TINY_BASE), {
      name: 'tiny-base',
      architecture: 'llama',
      // The embedded base has this name among peers: a change here splits new peers from old runs.
      configSha256: '6a61220a766ce39632db6d3f3b034137f490b5d41fc9219fa6a1e81f249d5e53',
      weightsSha256: sha256(`${sha256(weights)}  model.safetensors\n`),
      tokenizerSha256: sha256(await readFile(join(TINY_BASE, 'tokenizer.json'))),
    } satisfies ModelFingerprint);
  });

  it('hashes the config of each family as docs/PROTOCOL.md says', async () => {
    const known = {
      qwen2: 'c4b8120529f61ccd096c3152529ecbb46cc2fd087760f5d8aa9ac8958b3e5d04',
      qwen3: 'ff971e3a5cf50d238ef2326f3be4446b95365381a525e9dba50c5e57125a5f68',
      gpt2: '988fb376582e1e284b4ae84ad2b103561e20f8b0885a3ef90f04627bb1d99667',
      gemma3: '83150e0ca6729f2ffaccf80607d6b9a4637a2ab5eb74924509f19100754ac209',
      phi3: 'f4aed6f60aa0466a9dd9e924ce7a861acc438bed447c0c973e9686b98e289a52',
      'phi3-longrope': '75faa8117a776a087e597182e7ffe926919816df539642dfa21f5bc90d3cfb20',
      'qwen3-window': 'd8bdadce3ddf7014dadf5cf09cd7646bd7e982405320a82c57d621684679660c',
      'llama3-scaling': 'b115ad39d80dc16aae2530e43be70c7c75b175c5b8240e00f1bc2a983c9ccf7f',
    } as const;
    for (const [name, hash] of Object.entries(known)) {
      const path = join(referenceCase(name as keyof typeof known), 'base', 'config.json');
      assert.equal(configSha256(readModelConfig(await readFile(path), path)), hash, name);
    }
    // Written out once, so that the hash can be followed by hand.
    const gpt2 =
      '[["architecture","gpt2"],["heads",5],["hiddenAct","gelu_new"],["hiddenSize",40],' +
      '["intermediateSize",160],["layerNormEps",0.00001],["layers",3],' +
      '["tieWordEmbeddings",true],["vocabSize",97]]';
    assert.equal(sha256(gpt2), known.gpt2);
    const gemma3 =
      '[["architecture","gemma3"],["attentionBias",false],["headDim",10],["heads",6],' +
      '["hiddenAct","gelu_pytorch_tanh"],["hiddenSize",48],["intermediateSize",80],' +
      '["keyValueHeads",2],["layers",3],["localRope",{"theta":500,"scaling":null}],' +
      '["rmsNormEps",0.00001],["ropeScaling",{"type":"linear","factor":3}],["ropeTheta",20000],' +
      '["scoreScalar",14],["tieWordEmbeddings",true],["vocabSize",101],["windows",[5,null,5]]]';
    assert.equal(sha256(gemma3), known.gemma3);
  });

  it('ignores what changes no logit and sees what does', async () => {
    const text = await readFile(join(TINY_BASE, 'config.json'), 'utf8');
    const fields = JSON.parse(text) as Record<string, unknown>;
    const hashWith = (change: object): string =>
      configSha256(readModelConfig(JSON.stringify({ ...fields, ...change }), 'config.json'));
    const hash = hashWith({});
    const older = { rope_parameters: undefined, rope_theta: 10_000, torch_dtype: 'float16' };
    for (const same of [
      older,
      { transformers_version: '4.1' },
      { max_position_embeddings: 9999 },
    ]) {
      assert.equal(hashWith(same), hash);
    }
    const gemma3 = { model_type: 'gemma3_text', rope_parameters: undefined };
    const changes = [
      { rope_parameters: { rope_theta: 5e5 } },
      { rms_norm_eps: 1e-6 },
      { num_key_value_heads: 2 },
      { tie_word_embeddings: false },
      { attention_bias: true },
      { rope_scaling: { type: 'linear', factor: 2 } },
      { rope_scaling: { type: 'linear', factor: 3 } },
      { model_type: 'qwen2' },
      { model_type: 'qwen3' },
      { model_type: 'qwen3', use_sliding_window: true, max_window_layers: 3 },
      { model_type: 'mistral', sliding_window: 64 },
      { model_type: 'mistral', sliding_window: 65 },
      { model_type: 'phi3' },
      { model_type: 'phi3', rope_parameters: { partial_rotary_factor: 0.5 } },
      gemma3,
      { ...gemma3, rope_local_base_freq: 9999 },
      { ...gemma3, query_pre_attn_scalar: 64 },
    ];
    assert.equal(new Set([hash, ...changes.map(hashWith)]).size, changes.length + 1);
  });

  it('does not read a file again whose size and time of change it knows', async () => {
    const dir = await scratch.tinyBase();
    const cache = join(dir, 'cache.json');
    const longAgo = new Date('2020-01-02T03:04:05Z');
    const weights = join(dir, 'model.safetensors');
    await utimes(weights, longAgo, longAgo);
    const first = await fingerprintModel(dir, cache);
    await changeUnseen(weights, longAgo);
    assert.deepEqual(await fingerprintModel(dir, cache), first, 'came from the cache');
    const fresh = await fingerprintModel(dir);
    assert.notEqual(fresh.weightsSha256, first.weightsSha256);
    await utimes(weights, longAgo, new Date('2020-01-02T03:04:06Z'));
    assert.deepEqual(await fingerprintModel(dir, cache), fresh, 'the new time was noticed');
  });

  it('does not trust a file that changed a moment ago, nor a damaged cache', async () => {
    const dir = await scratch.tinyBase();
    const cache = join(dir, 'cache.json');
    await writeFile(cache, '{"half": ');
    const now = new Date();
    const weights = join(dir, 'model.safetensors');
    await utimes(weights, now, now);
    const first = await fingerprintModel(dir, cache);
    await changeUnseen(weights, now);
    const second = await fingerprintModel(dir, cache);
    assert.notEqual(second.weightsSha256, first.weightsSha256);
  });

  it('works where the cache cannot be written, and says when there is no model', async () => {
    const cache = join(TINY_BASE, 'no-such-folder', 'cache.json');
    assert.equal((await fingerprintModel(TINY_BASE, cache)).name, 'tiny-base');
    await assert.rejects(
      fingerprintModel(join(TINY_BASE, 'nothing')),
      userError(/does not exist: check the path/),
    );
  });
});

describe('explainMismatch', () => {
  const run: ModelFingerprint = {
    name: 'founder-model',
    architecture: 'llama',
    configSha256: '1'.repeat(64),
    weightsSha256: '9f3a'.repeat(16),
    tokenizerSha256: '3'.repeat(64),
  };

  it('is empty for the same model under another name', () => {
    assert.deepEqual(explainMismatch(run, { ...run, name: 'copy' }), []);
  });

  it('says for each differing field what each side has and what to do', () => {
    const mine = { ...run, name: 'mine', weightsSha256: '11c0'.repeat(16) };
    assert.deepEqual(explainMismatch(run, mine), [
      "the weights (*.safetensors) differ: the run has 9f3a9f3a9f3a..., mine has 11c011c011c0...: get the same files as the founder's founder-model, or give another --model",
    ]);
    const other = { ...mine, configSha256: 'a'.repeat(64), tokenizerSha256: 'b'.repeat(64) };
    const sentences = explainMismatch(run, other);
    assert.equal(sentences.length, 3);
    assert.match(sentences[0]!, /config.json\) differs: the run has 1{12}\.\.\., mine has a{12}/);
    assert.match(
      sentences[2]!,
      /tokenizer.json\) differs: the run has 3{12}\.\.\., mine has b{12}/,
    );
  });

  it('names the architecture alone when that differs', () => {
    const sentences = explainMismatch({ ...run, architecture: 'gpt2' }, { ...run, name: 'mine' });
    assert.equal(sentences.length, 1);
    assert.match(sentences[0]!, /the run has "gpt2", mine is "llama"/);
  });
});
