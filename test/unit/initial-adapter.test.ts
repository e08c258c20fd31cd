import assert from 'node:assert/strict';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import {
  InitialSource,
  initialBlob,
  initialRootOf,
  readInitial,
  withInitial,
  writeInitial,
} from '../../node/initial-adapter.js';
import { adapterLayout, adapterSha256, initialAdapter } from '../../protocol/adapter.js';
import { littleEndian } from '../../protocol/bytes.js';
import { decodeManifest } from '../../protocol/manifest-codec.js';
import { testRun } from '../support/runs.js';
import { Scratch, userError } from './model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

const { size } = adapterLayout(testRun().manifest.adapter);
const theta = Float32Array.from({ length: size }, (_, i) => Math.sin(i));

/** A run that begins from theta, as a peer gets it from others: without it. */
const bare = decodeManifest(
  testRun((manifest) => ({
    ...manifest,
    adapter: {
      ...manifest.adapter,
      initialSha256: adapterSha256(theta),
      initialRoot: initialRootOf(theta),
    },
  })).bytes,
);

describe('a run that begins from an adapter', () => {
  it('has no start before its adapter is there, and then just that', () => {
    assert.throws(() => initialAdapter(bare.manifest.adapter), /is not at hand/);
    const whole = withInitial(bare, littleEndian(theta), 'it');
    assert.deepEqual(initialAdapter(whole.manifest.adapter), theta);
    assert.equal(whole.id, bare.id);
    assert.deepEqual(initialBlob(bare), { root: initialRootOf(theta), size: 4 * size });
    assert.equal(initialBlob(testRun()), null);
  });

  it('refuses bytes of another adapter, cut short, or not finite', () => {
    const other = theta.slice();
    other[3] = 0.25;
    const refused = userError(/^it is not the adapter that the run "test" begins from/);
    for (const bytes of [littleEndian(other), littleEndian(theta).subarray(4), new Uint8Array()]) {
      assert.throws(() => withInitial(bare, bytes, 'it'), refused);
    }
    const broken = theta.slice().fill(NaN, 0, 1);
    const { adapter } = bare.manifest;
    const agreed = { ...adapter, initialSha256: adapterSha256(broken) };
    const run = { ...bare, manifest: { ...bare.manifest, adapter: agreed } };
    assert.throws(() => withInitial(run, littleEndian(broken), 'it'), refused);
  });

  it('is read from the data directory with it, or not at all', async () => {
    const dir = await scratch.directory();
    await assert.rejects(readInitial(dir, bare), userError(/initial-adapter.f32, .* is missing/));
    await writeInitial(dir, theta);
    const run = await readInitial(dir, bare);
    assert.deepEqual(run.manifest.adapter.theta0, theta);
    const path = join(dir, 'initial-adapter.f32');
    const bytes = await readFile(path);
    bytes[9]! ^= 1;
    await writeFile(path, bytes);
    await assert.rejects(
      readInitial(dir, bare),
      userError(/initial-adapter.f32 is not the adapter/),
    );
    await rm(path);
    const drawn = testRun();
    assert.equal(await readInitial(dir, drawn), drawn, 'one that draws its start needs no file');
  });

  it('is given to members, beside the base model', async () => {
    const model = { find: () => Promise.resolve(undefined), attention: ['a sentence'] };
    const source = new InitialSource(theta, model);
    const blob = await source.find(initialRootOf(theta));
    assert.equal(blob?.has(0), true);
    assert.deepEqual(Buffer.from(await blob.chunk(0)), Buffer.from(littleEndian(theta)));
    assert.equal(await source.find('ab'.repeat(32)), undefined);
    assert.deepEqual(source.attention, ['a sentence']);
    assert.deepEqual(new InitialSource(theta, null).attention, []);
  });
});
