import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { checkBaseModel, openBaseModel } from '../../node/base-model.js';
import { testRun } from '../support/runs.js';
import { Scratch, userError } from './model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

async function sha256Of(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}

/** A model that was read before, in 2020: its weight file, the file's hash then, and the cache. */
async function knownModel(): Promise<{
  dir: string;
  weights: string;
  before: string;
  cache: string;
}> {
  const dir = await scratch.tinyBase();
  const weights = join(dir, 'model.safetensors');
  const longAgo = new Date('2020-01-02T03:04:05Z');
  await utimes(weights, longAgo, longAgo);
  const cache = join(dir, 'cache.json');
  assert.deepEqual((await openBaseModel(dir, cache)).changes, []);
  return { dir, weights, before: await sha256Of(weights), cache };
}

describe('openBaseModel', () => {
  it('names a weight file that is cut short, with its hash now and as it was', async () => {
    const { dir, weights, before, cache } = await knownModel();
    await truncate(weights, 5_000_000);
    const now = await sha256Of(weights);
    const sentence = `model.safetensors has 5000000 bytes, .*: it is cut short, get it again \\(its SHA-256 is ${now}\\)`;
    await assert.rejects(openBaseModel(dir), userError(new RegExp(`${sentence}$`)));
    await assert.rejects(
      openBaseModel(dir, cache),
      userError(new RegExp(`${sentence}; when this peer last read it whole, that was ${before}$`)),
    );
  });

  it('names a weight file with a damaged header, with its hash', async () => {
    const { dir, weights } = await knownModel();
    const bytes = await readFile(weights);
    bytes[8] = 0x58;
    await writeFile(weights, bytes);
    const now = await sha256Of(weights);
    await assert.rejects(
      openBaseModel(dir),
      userError(
        new RegExp(`header of .*model.safetensors is not valid JSON.*SHA-256 is ${now}\\)$`),
      ),
    );
  });
});

describe('checkBaseModel', () => {
  it('says which file changed where a model is no longer that of its run', async () => {
    const { dir, weights, before, cache } = await knownModel();
    const { fingerprint } = await openBaseModel(dir, cache);
    const run = testRun((manifest) => ({ ...manifest, model: { ...fingerprint, files: null } }));
    const bytes = await readFile(weights);
    bytes[bytes.length - 100]! ^= 1;
    await writeFile(weights, bytes);
    const base = await openBaseModel(dir, cache);
    const now = await sha256Of(weights);
    assert.deepEqual(base.changes, [{ file: weights, before, now }]);
    assert.throws(
      () => checkBaseModel(run, base),
      userError(
        new RegExp(
          `the weights .* differ: the run has ${fingerprint.weightsSha256.slice(0, 12)}.*model.safetensors has changed since ` +
            `this peer last read it \\(its SHA-256 was ${before}, now it is ${now}\\)$`,
        ),
      ),
    );
  });
});
