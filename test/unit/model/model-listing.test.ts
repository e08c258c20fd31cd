/** Listing a model directory for others, and giving its files from the disk. */
import assert from 'node:assert/strict';
import { appendFile, cp, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fingerprintModel } from '../../../node/model/fingerprint.js';
import { cachedParts, rememberedSha256 } from '../../../node/model/hash-cache.js';
import { listModelFiles, type ModelListing } from '../../../node/model/model-listing.js';
import { SharedModel } from '../../../node/model/shared-model.js';
import { blobRoot, chunkHashes } from '../../../protocol/blob.js';
import { sha256, toHex } from '../../../protocol/bytes.js';
import { BLOB_CHUNK_BYTES, MODEL_PART_BYTES } from '../../../protocol/limits.js';
import { catalogueName, decodeModelFiles } from '../../../protocol/model-files.js';
import { pattern } from '../../support/blobs.js';
import { referenceCase, Scratch, TINY_BASE, userError } from './fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

const rootOf = (bytes: Uint8Array): string => toHex(blobRoot(chunkHashes([bytes])));

/** As files are that nobody touched for long: what changed just now is not remembered. */
async function settle(file: string): Promise<void> {
  await utimes(file, 1_700_000_000, 1_700_000_000);
}

describe('the listing of a model directory', () => {
  it('has what a peer reads of it, nothing else, and the roots of the bytes', async () => {
    const { files, catalogue, name } = await listModelFiles(TINY_BASE);
    assert.deepEqual(files.map((file) => file.name).sort(), [
      ...['chat_template.jinja', 'config.json', 'generation_config.json', 'model.safetensors'],
      ...['tokenizer.json', 'tokenizer_config.json'],
    ]);
    for (const file of files) {
      const bytes = await readFile(join(TINY_BASE, file.name));
      assert.deepEqual([file.size, file.parts], [bytes.length, [rootOf(bytes)]], file.name);
    }
    assert.deepEqual(name, catalogueName(catalogue));
    assert.equal(decodeModelFiles(catalogue).length, files.length);
  });

  it('of a model in shards has the shards and their index', async () => {
    const dir = await scratch.directory();
    await cp(join(referenceCase('mistral-shards'), 'base'), dir, { recursive: true });
    await cp(join(TINY_BASE, 'tokenizer.json'), join(dir, 'tokenizer.json'));
    await writeFile(join(dir, 'unused.safetensors'), 'no part of the model');
    const names = (await listModelFiles(dir)).files.map((file) => file.name);
    assert.ok(names.includes('model.safetensors.index.json'));
    assert.ok(names.filter((name) => name.endsWith('.safetensors')).length > 1);
    assert.ok(!names.includes('unused.safetensors'));
  });

  it('is remembered beside the hashes of the fingerprint, until a file changes', async () => {
    const dir = await scratch.tinyBase();
    const config = join(dir, 'config.json');
    for (const name of ['config.json', 'tokenizer.json', 'model.safetensors'])
      await settle(join(dir, name));
    const cacheFile = join(await scratch.directory(), 'hashes.json');
    const { weightsSha256 } = await fingerprintModel(dir, cacheFile);
    const first = await listModelFiles(dir, cacheFile);
    const weights = join(dir, 'model.safetensors');
    const cache = JSON.parse(await readFile(cacheFile, 'utf8')) as Record<
      string,
      { parts?: string[]; sha256: string }
    >;
    assert.equal(cache[weights]?.parts?.length, 1);
    assert.equal(
      await rememberedSha256(weights, cacheFile),
      toHex(sha256(await readFile(weights))),
    );
    cache[config]!.parts = ['ef'.repeat(32)];
    await writeFile(cacheFile, JSON.stringify(cache));
    const second = await listModelFiles(dir, cacheFile);
    assert.notEqual(second.name.root, first.name.root, 'the cache is used');
    assert.equal((await fingerprintModel(dir, cacheFile)).weightsSha256, weightsSha256);
    await appendFile(config, '\n');
    const third = await listModelFiles(dir, cacheFile);
    assert.deepEqual(third.files.find(({ name }) => name === 'config.json')?.parts, [
      rootOf(await readFile(config)),
    ]);
  });

  it('cuts files at the bounds of parts', async () => {
    const file = join(await scratch.directory(), 'weights');
    for (const size of [1, MODEL_PART_BYTES, MODEL_PART_BYTES + 1]) {
      const bytes = Buffer.alloc(size, pattern(1021));
      await writeFile(file, bytes);
      const parts = [bytes.subarray(0, MODEL_PART_BYTES), bytes.subarray(MODEL_PART_BYTES)];
      const expected = parts.filter(({ length }) => length > 0).map(rootOf);
      assert.deepEqual(await cachedParts(file, {}), { size, parts: expected }, `${size}`);
    }
  });

  it('says which file has a name that cannot be told', async () => {
    const dir = await scratch.directory();
    await cp(join(referenceCase('mistral-shards'), 'base'), dir, { recursive: true });
    await cp(join(TINY_BASE, 'tokenizer.json'), join(dir, 'tokenizer.json'));
    const index = join(dir, 'model.safetensors.index.json');
    const text = await readFile(index, 'utf8');
    const [, shard = ''] = /"([^"]+\.safetensors)"/.exec(text) ?? [];
    await cp(join(dir, shard), join(dir, 'my weights.safetensors'));
    await writeFile(index, text.replaceAll(shard, 'my weights.safetensors'));
    await assert.rejects(
      listModelFiles(dir),
      userError(/my weights\.safetensors has a name that cannot be told to others/),
    );
  });
});

describe('a shared model', () => {
  const share = async (): Promise<{ dir: string; listing: ModelListing; model: SharedModel }> => {
    const dir = await scratch.tinyBase();
    const listing = await listModelFiles(dir);
    return { dir, listing, model: new SharedModel(listing) };
  };
  const rootIn = ({ files }: ModelListing, name: string): string =>
    files.find((file) => file.name === name)?.parts[0] ?? '';

  it('gives the catalogue and every part, chunk by chunk, and nothing else', async () => {
    const { dir, listing, model } = await share();
    const catalogue = await model.find(listing.name.root);
    assert.deepEqual(Buffer.from(await catalogue!.chunk(0)), Buffer.from(listing.catalogue));
    for (const { name, size, parts } of listing.files) {
      const source = await model.find(parts[0]!);
      const chunks = Array.from({ length: source!.chunkCount }, (_, i) => source!.chunk(i));
      const bytes = Buffer.concat(await Promise.all(chunks.map(async (chunk) => chunk)));
      assert.ok(bytes.equals(await readFile(join(dir, name))), name);
      assert.equal(toHex(blobRoot(source!.hashes!)), parts[0]);
      assert.equal(bytes.length, size);
    }
    assert.equal(await model.find('00'.repeat(32)), undefined);
    assert.deepEqual(model.attention, []);
  });

  it('does not lie about a file that has changed: not before, not after it was hashed', async () => {
    const { dir, listing, model } = await share();
    const root = rootIn(listing, 'model.safetensors');
    const source = await model.find(root);
    const file = join(dir, 'model.safetensors');
    const bytes = await readFile(file);
    bytes[BLOB_CHUNK_BYTES + 5]! ^= 1;
    await writeFile(file, bytes);
    assert.ok((await source!.chunk(0)).length > 0, 'what is as it was is given');
    await assert.rejects(async () => source!.chunk(1), /has changed/);
    assert.equal(await model.find(root), undefined);
    assert.deepEqual(model.attention.length, 1);
    assert.match(model.attention[0]!, /model\.safetensors has changed, so it is not given/);
    const config = join(dir, 'config.json');
    await appendFile(config, ' ');
    assert.ok((await stat(config)).size > 0);
    await writeFile(config, (await readFile(config, 'utf8')).replace('{', '['));
    assert.equal(await model.find(rootIn(listing, 'config.json')), undefined);
    assert.equal(model.attention.length, 2);
  });

  it('says once that a file is gone, and goes on with the others', async () => {
    const { dir, listing, model } = await share();
    const source = await model.find(rootIn(listing, 'model.safetensors'));
    await rm(join(dir, 'model.safetensors'));
    await assert.rejects(async () => source!.chunk(0), { code: 'ENOENT' });
    await assert.rejects(async () => source!.chunk(1), { code: 'ENOENT' });
    assert.deepEqual(
      model.attention.map((sentence) => sentence.replace(dir, basename(dir))),
      [
        'tiny-base/model.safetensors cannot be read (ENOENT), so it is not given to other members any more: put the file back, and start again.',
      ],
    );
    assert.ok(await model.find(rootIn(listing, 'tokenizer.json')));
    assert.equal(await model.find(listing.name.root), undefined, 'it is no whole model');
  });
});
