import assert from 'node:assert/strict';
import { cp, mkdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, describe, it } from 'node:test';
import { modelName, openModelDirectory } from '../../../node/model/model-directory.js';
import {
  readSafetensorsHeader,
  readTensorF32,
  writeSafetensors,
} from '../../../node/model/safetensors.js';
import { openWeights } from '../../../node/model/weight-index.js';
import { referenceCase, Scratch, TINY_BASE, userError } from './fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

async function refuses(dir: string, pattern: RegExp): Promise<void> {
  await assert.rejects(openModelDirectory(dir), userError(pattern));
}

/** The reference case's weights in two shards, with an index as Transformers writes it. */
async function sharded(): Promise<{ dir: string; weightMap: Record<string, string> }> {
  const dir = await scratch.directory();
  const single = join(referenceCase('llama-gqa-tied'), 'base', 'model.safetensors');
  const { tensors } = await readSafetensorsHeader(single);
  const weightMap: Record<string, string> = {};
  for (const half of [0, 1]) {
    const shard = `model-0000${half + 1}-of-00002.safetensors`;
    const part = tensors.filter((_, i) => i % 2 === half);
    const data = await Promise.all(
      part.map(async (entry) => ({ ...entry, data: await readTensorF32(entry) })),
    );
    await writeSafetensors(join(dir, shard), data, { format: 'pt' });
    for (const { name } of part) weightMap[name] = shard;
  }
  await cp(join(single, '..', 'config.json'), join(dir, 'config.json'));
  await cp(join(TINY_BASE, 'tokenizer.json'), join(dir, 'tokenizer.json'));
  await writeIndex(dir, weightMap);
  return { dir, weightMap };
}

async function writeIndex(dir: string, weightMap: Record<string, string>): Promise<void> {
  const index = { metadata: { total_size: 1 }, weight_map: weightMap };
  await writeFile(join(dir, 'model.safetensors.index.json'), JSON.stringify(index));
}

describe('openModelDirectory', () => {
  it('opens a directory with one weight file', async () => {
    const model = await openModelDirectory(TINY_BASE);
    assert.equal(model.name, 'tiny-base');
    assert.equal(model.config.layers, 6);
    assert.equal(model.weights.size, 56);
    assert.equal(model.tokenizerFile, join(TINY_BASE, 'tokenizer.json'));
  });

  it('reads the same tensors from shards', async () => {
    const { dir } = await sharded();
    const { weights } = await openModelDirectory(dir);
    const whole = await openWeights(join(referenceCase('llama-gqa-tied'), 'base'));
    assert.deepEqual([...weights.keys()].sort(), [...whole.keys()].sort());
    for (const [name, entry] of whole) {
      assert.deepEqual(await readTensorF32(weights.get(name)!), await readTensorF32(entry));
    }
  });

  it('says what is missing', async () => {
    const dir = await scratch.tinyBase();
    await refuses(join(dir, 'nothing'), /nothing \(the model directory\) does not exist: check/);
    await refuses(join(dir, 'config.json'), /is a file, not a model directory/);
    await rm(join(dir, 'tokenizer.json'));
    await refuses(dir, /has no tokenizer.json: get the rest/);
    await writeFile(join(dir, 'tokenizer.model'), '');
    await refuses(dir, /has tokenizer.model but no tokenizer.json: make one with Transformers/);
    await rename(join(dir, 'model.safetensors'), join(dir, 'model-00001-of-00002.safetensors'));
    await refuses(dir, /has model-00001-of-00002.safetensors but no model.safetensors.index.json/);
    await rm(join(dir, 'model-00001-of-00002.safetensors'));
    await refuses(dir, /has neither model.safetensors nor model.safetensors.index.json/);
    await writeFile(join(dir, 'pytorch_model.bin'), '');
    await refuses(
      dir,
      /weights as pytorch_model.bin, but only safetensors and GGUF are read: convert it/,
    );
    await rm(join(dir, 'config.json'));
    await refuses(dir, /has no config.json: give the directory of a Hugging Face model/);
  });

  it('says what is damaged or cut short', async () => {
    const dir = await scratch.tinyBase();
    const weights = join(dir, 'model.safetensors');
    await truncate(weights, 10_000_000);
    await refuses(
      dir,
      /model.safetensors has 10000000 bytes, .* promises 10957216: it is cut short/,
    );
    const config = await readFile(join(dir, 'config.json'), 'utf8');
    await writeFile(join(dir, 'config.json'), config.slice(0, 300));
    await refuses(dir, /config.json is not valid JSON \(damaged or cut short\): get it again/);
    await rm(join(dir, 'config.json'));
    await mkdir(join(dir, 'config.json'));
    await refuses(dir, /config.json \(the model's config\) is not a regular file/);
  });

  it('says how an index and its shards contradict each other', async () => {
    const { dir, weightMap } = await sharded();
    const [name, shard] = Object.entries(weightMap)[0]!;
    const other = Object.values(weightMap).find((file) => file !== shard)!;
    await writeIndex(dir, { ...weightMap, [name]: other });
    await refuses(dir, new RegExp(`says that ${other} holds the tensor ${name}, but it does not`));
    await writeIndex(dir, { ...weightMap, [name]: 'model-00003-of-00003.safetensors' });
    await refuses(dir, /names the weight file model-00003-of-00003.safetensors, which is missing/);
    const outside = `../${basename(dir)}/${shard}`;
    await writeIndex(dir, { ...weightMap, [name]: outside });
    await refuses(dir, /not the plain name of a .safetensors file/);
    await writeFile(join(dir, 'model.safetensors.index.json'), '{"weight_map": ["a"]}');
    await refuses(dir, /field "weight_map" is \["a"\], but must be an object/);
  });
});

describe('modelName', () => {
  it('is printable and fits a manifest', () => {
    assert.equal(modelName('/models/SmolLM2-135M/'), 'SmolLM2-135M');
    assert.equal(modelName('/'), 'model');
    assert.equal(modelName('/models/a\u0007b\nc'), 'abc');
    assert.equal(Array.from(modelName(`/m/${'\u{1F99C}'.repeat(200)}`)).length, 128);
  });
});
