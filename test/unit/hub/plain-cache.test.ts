/** A cache of plain files, as Hugging Face's library makes it where links may not be made: on Windows. */
import assert from 'node:assert/strict';
import { cp, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { planFor, doctorOptions } from '../../../node/cli/doctor.js';
import { defaultsOf } from '../../../node/config.js';
import { cachedModels } from '../../../node/hub/cache.js';
import { fetchModel, findCached } from '../../../node/hub/fetch-model.js';
import { fingerprintModel } from '../../../node/model/fingerprint.js';
import { referenceCase, Scratch, TINY_BASE } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

const COMMIT = 'c0ffee0123'.repeat(4);

/** A cache with the models of these cases, each under its own name, without a link. */
async function cacheWith(...cases: Parameters<typeof referenceCase>[0][]) {
  const cache = await scratch.directory();
  for (const name of cases) {
    const folder = join(cache, `models--owner--${name}`);
    const snapshot = join(folder, 'snapshots', COMMIT);
    await mkdir(join(folder, 'refs'), { recursive: true });
    await writeFile(join(folder, 'refs', 'main'), COMMIT);
    await cp(join(referenceCase(name), 'base'), snapshot, { recursive: true });
    await cp(join(TINY_BASE, 'tokenizer.json'), join(snapshot, 'tokenizer.json'));
  }
  const dirOf = (name: string): string =>
    join(cache, `models--owner--${name}`, 'snapshots', COMMIT);
  return { cache, dirOf, env: { HF_HUB_CACHE: cache, HF_HUB_OFFLINE: '1' } };
}

describe('a cache of plain files', () => {
  it('has the model of a run, one file or many, by what is in them', async () => {
    const { dirOf, env, cache } = await cacheWith('mistral', 'mistral-shards', 'qwen2');
    const cacheFile = join(cache, 'hashes.json');
    for (const name of ['qwen2', 'mistral-shards']) {
      const wanted = await fingerprintModel(dirOf(name));
      assert.equal(await findCached(wanted, env), dirOf(name));
      assert.equal(await findCached(wanted, env, cacheFile), dirOf(name));
      const other = { ...wanted, weightsSha256: 'ab'.repeat(32) };
      assert.equal(await findCached(other, env), null);
    }
    const wanted = await fingerprintModel(dirOf('qwen2'));
    await rm(join(dirOf('qwen2'), 'tokenizer.json'));
    assert.equal(await findCached(wanted, env), null, 'a snapshot that is not whole');
  });

  it('is listed with its sizes, and has a model by name without a connection', async () => {
    const { cache, dirOf, env } = await cacheWith('llama-gqa-tied');
    const [model] = await cachedModels(cache);
    assert.equal(model?.name, 'owner/llama-gqa-tied');
    assert.ok(model.bytes > 100_000);
    const options = {
      ...{ env, signal: new AbortController().signal },
      ...{ say: () => undefined, onProgress: () => undefined },
    };
    for (const revision of [null, 'main', COMMIT]) {
      const found = await fetchModel({ name: 'owner/llama-gqa-tied', revision }, options);
      assert.deepEqual(found, { dir: dirOf('llama-gqa-tied'), commit: COMMIT });
    }
  });

  it('has what doctor looks at', async () => {
    const { dirOf, env } = await cacheWith('llama-untied-bias');
    const before = { ...process.env };
    Object.assign(process.env, env);
    try {
      const options = { ...defaultsOf(doctorOptions), model: 'owner/llama-untied-bias' };
      assert.equal((await planFor(options)).model.dir, dirOf('llama-untied-bias'));
    } finally {
      delete process.env['HF_HUB_CACHE'];
      delete process.env['HF_HUB_OFFLINE'];
      Object.assign(process.env, before);
    }
  });
});
