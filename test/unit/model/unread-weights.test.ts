import assert from 'node:assert/strict';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { readModelConfig } from '../../../node/model/config.js';
import { isModelDirectory, openModelDirectory } from '../../../node/model/model-directory.js';
import {
  readSafetensorsHeader,
  readTensorF32,
  writeSafetensors,
} from '../../../node/model/safetensors.js';
import { checkEveryWeight } from '../../../node/model/unread-weights.js';
import { openWeights } from '../../../node/model/weight-index.js';
import {
  REFERENCE_CASES,
  referenceCase,
  Scratch,
  TINY_BASE,
  userError,
  type ReferenceCaseName,
} from './fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

interface Tensor {
  name: string;
  shape: readonly number[];
  data: Float32Array;
}

/** The base of a case with other tensors and fields of its config. */
async function changed(
  name: ReferenceCaseName,
  change: (tensors: Tensor[]) => Tensor[],
  fields: object = {},
): Promise<string> {
  const dir = join(await scratch.directory(), 'model');
  await cp(join(referenceCase(name), 'base'), dir, { recursive: true });
  await cp(join(TINY_BASE, 'tokenizer.json'), join(dir, 'tokenizer.json'));
  const file = join(dir, 'model.safetensors');
  const { tensors } = await readSafetensorsHeader(file);
  const read = tensors.map(async (entry) => ({
    ...{ name: entry.name, shape: entry.shape },
    data: await readTensorF32(entry),
  }));
  await writeSafetensors(file, change(await Promise.all(read)), { format: 'pt' });
  const path = join(dir, 'config.json');
  const config = JSON.parse(await readFile(path, 'utf8')) as object;
  await writeFile(path, JSON.stringify({ ...config, ...fields }));
  return dir;
}

const zeros = (name: string, ...shape: number[]): Tensor => ({
  name,
  shape,
  data: new Float32Array(shape.reduce((a, b) => a * b, 1)),
});
const named = (tensors: readonly Tensor[], name: string): Tensor =>
  tensors.find((tensor) => tensor.name === name)!;

async function refuses(dir: string, pattern: RegExp): Promise<void> {
  await assert.rejects(openModelDirectory(dir), userError(pattern));
  assert.equal(await isModelDirectory(dir), true, 'nothing that fetching again would mend');
}

describe('a model directory', () => {
  for (const name of REFERENCE_CASES) {
    it(`of whose weights all are read: ${name}`, async () => {
      const base = join(referenceCase(name), 'base');
      const path = join(base, 'config.json');
      const config = readModelConfig(await readFile(path), path);
      await checkEveryWeight(config, await openWeights(base));
    });
  }

  it('is refused with the names of tensors that its graph does not read', async () => {
    const added = (...tensors: Tensor[]): Promise<string> =>
      changed('llama-gqa-tied', (all) => [...all, ...tensors]);
    await refuses(
      await added(zeros('score.weight', 1, 48)),
      /model.safetensors has a tensor that a llama model .* does not use \(score.weight\): get/,
    );
    const biases = [0, 1, 2].map((i) => zeros(`model.layers.${i}.self_attn.q_proj.bias`, 48));
    await refuses(
      await added(...biases, zeros('v_head.summary.weight', 1, 48)),
      /has tensors .* \(model.layers.0.self_attn.q_proj.bias, .*layers.2.self_attn.q_proj.bias and 1 more\)/,
    );
    await refuses(
      await changed('llama-untied-bias', (all) => all, { attention_bias: false }),
      /has tensors that .* does not use \(.*_proj.bias/,
    );
    await refuses(
      await changed('llama-gqa-tied', (all) => all, { num_hidden_layers: 2 }),
      /has the weight model.layers.2.*, but the model's config has only 2 layers/,
    );
    await refuses(
      await changed('qwen3', (all) => all, { model_type: 'qwen2' }),
      /does not use \(model.layers.0.self_attn.k_norm.weight|no weight .*bias/,
    );
  });

  it('may hold tables that follow from the config', async () => {
    await openModelDirectory(
      await changed('llama-gqa-tied', (all) => [
        ...all,
        zeros('model.layers.0.self_attn.rotary_emb.inv_freq', 4),
        zeros('model.rotary_emb.inv_freq', 4),
      ]),
    );
    await openModelDirectory(
      await changed('gpt2', (all) => [
        ...all,
        zeros('transformer.h.0.attn.bias', 1, 1, 64, 64),
        zeros('transformer.h.0.attn.masked_bias', 1),
      ]),
    );
    await refuses(
      await changed('llama-gqa-tied', (all) => [...all, zeros('h.0.attn.bias', 4)]),
      /does not use \(h.0.attn.bias\)/,
    );
  });

  it('may hold the tied matrix twice, but no other one in its place', async () => {
    const head = (all: Tensor[], change: (data: Float32Array) => void): Tensor[] => {
      const { shape, data } = named(all, 'model.embed_tokens.weight');
      const copy = data.slice();
      change(copy);
      return [...all, { name: 'lm_head.weight', shape, data: copy }];
    };
    await openModelDirectory(await changed('llama-gqa-tied', (all) => head(all, () => undefined)));
    const other = (all: Tensor[]): Tensor[] =>
      head(all, (data) => {
        data[data.length - 1]! += 1;
      });
    await refuses(
      await changed('llama-gqa-tied', other),
      /lm_head.weight is not the embeddings, but config.json says that the two are one \(tie_word/,
    );
    await openModelDirectory(
      await changed('llama-gqa-tied', other, { tie_word_embeddings: false }),
    );
    await refuses(
      await changed('llama-gqa-tied', (all) => [...all, zeros('lm_head.weight', 4, 4)]),
      /lm_head.weight is not the embeddings/,
    );
    await refuses(
      await changed('gpt2', (all) => [...all, zeros('lm_head.weight', 97, 40)]),
      /lm_head.weight is not the embeddings/,
    );
  });

  it('is refused for a tensor of a shard that the index does not name', async () => {
    const dir = join(await scratch.directory(), 'model');
    await cp(join(referenceCase('mistral-shards'), 'base'), dir, { recursive: true });
    await cp(join(TINY_BASE, 'tokenizer.json'), join(dir, 'tokenizer.json'));
    await openModelDirectory(dir);
    const path = join(dir, 'model.safetensors.index.json');
    const index = JSON.parse(await readFile(path, 'utf8')) as {
      weight_map: Record<string, string>;
    };
    const [shard = ''] = Object.values(index.weight_map);
    const { tensors } = await readSafetensorsHeader(join(dir, shard));
    const read = tensors.map(async (entry) => ({
      ...{ name: entry.name, shape: entry.shape },
      data: await readTensorF32(entry),
    }));
    const more = [...(await Promise.all(read)), zeros('v_head.weight', 1)];
    await writeSafetensors(join(dir, shard), more, { format: 'pt' });
    await refuses(dir, /has a tensor that .* does not use \(v_head.weight\)/);
  });
});
