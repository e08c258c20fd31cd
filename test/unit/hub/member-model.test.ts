/** A model that comes part by part into the cache: whatever instant it is killed at, what is right stays, and no more. */
import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { findCached } from '../../../node/hub/fetch-model.js';
import { findFromMembers, MemberModelPlace, PartialModel } from '../../../node/hub/member-model.js';
import { listModelFiles } from '../../../node/model/model-listing.js';
import { blobRoot, chunkHashes } from '../../../protocol/blob.js';
import { toHex } from '../../../protocol/bytes.js';
import { MODEL_BYTES_MAX, MODEL_PART_BYTES } from '../../../protocol/limits.js';
import {
  partCount,
  partsOf,
  type ModelFile,
  type ModelPart,
} from '../../../protocol/model-files.js';
import { pattern } from '../../support/blobs.js';
import { testRun } from '../../support/runs.js';
import { Scratch, TINY_BASE, userError } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

const { model } = testRun().manifest;
const ROOT = 'ab'.repeat(32);
const signal = new AbortController().signal;
const rootOf = (bytes: Uint8Array): string => toHex(blobRoot(chunkHashes([bytes])));

/** A file of two parts and one of one. */
const LARGE = Buffer.alloc(MODEL_PART_BYTES + 300_000, pattern(1021));
const SMALL = pattern(1000);
const FILES: ModelFile[] = [
  { name: 'config.json', size: SMALL.length, parts: [rootOf(SMALL)] },
  {
    name: 'model.safetensors',
    size: LARGE.length,
    parts: [rootOf(LARGE.subarray(0, MODEL_PART_BYTES)), rootOf(LARGE.subarray(MODEL_PART_BYTES))],
  },
];
const PARTS = partsOf(FILES);
const bytesOf = ({ file, offset, size }: ModelPart): Uint8Array =>
  (file === 'config.json' ? SMALL : LARGE).subarray(offset, offset + size);

async function place(): Promise<MemberModelPlace> {
  return new MemberModelPlace(await scratch.directory(), model, { root: ROOT, size: 1 });
}

async function open(where: MemberModelPlace, files = FILES): Promise<PartialModel> {
  const partial = new PartialModel(where, files, signal);
  await partial.open();
  return partial;
}

describe('a model on its way from members', () => {
  it('keeps what came over a restart, and only what is right', async () => {
    const where = await place();
    const first = await open(where);
    assert.deepEqual(first.missing, PARTS);
    // The end of a file before its beginning.
    await first.put(first.missing[2]!, bytesOf(PARTS[2]!));
    assert.equal(first.heldBytes, PARTS[2]!.size);
    const second = await open(where);
    assert.deepEqual(second.missing, PARTS.slice(0, 2));
    await second.put(second.missing[1]!, bytesOf(PARTS[1]!));
    assert.deepEqual((await open(where)).missing, PARTS.slice(0, 1));
    // Half of a part, as a kill in the middle of a write leaves it, and a flipped bit.
    const file = join(where.partial, 'model.safetensors');
    const bytes = await readFile(file);
    bytes[5]! ^= 1;
    await writeFile(file, bytes);
    assert.deepEqual((await open(where)).missing, PARTS.slice(0, 2));
    await truncate(file, LARGE.length - 1);
    assert.deepEqual((await open(where)).missing, PARTS);
    await writeFile(file, Buffer.concat([LARGE, SMALL]));
    assert.deepEqual((await open(where)).missing, PARTS.slice(0, 1));
    assert.equal((await readFile(file)).length, LARGE.length);
  });

  it('gets its name when all is there, and is found by its weights then and not before', async () => {
    const where = await place();
    const listing = await listModelFiles(TINY_BASE);
    const partial = await open(where, [...listing.files]);
    for (const part of [...partial.missing])
      await partial.put(part, await readFile(join(TINY_BASE, part.file)));
    assert.deepEqual(partial.missing, []);
    assert.equal(await where.isThere(), false);
    assert.equal(await findFromMembers(where.directory, model.weightsSha256), null);
    await partial.finish();
    assert.equal(await where.isThere(), true);
    assert.deepEqual(await readdir(join(where.dir, '..')), ['none']);
    assert.deepEqual((await listModelFiles(where.dir)).name, listing.name);
    const env = { HF_HUB_CACHE: where.directory };
    assert.equal(await findCached(model, env), where.dir);
    assert.equal(await findCached({ ...model, weightsSha256: 'cd'.repeat(32) }, env), null);
  });

  it('leaves nothing where it turned out to be wrong', async () => {
    const where = await place();
    const partial = await open(where);
    await partial.put(PARTS[0]!, SMALL);
    await partial.discard();
    assert.deepEqual(await readdir(join(where.partial, '..')), []);
  });

  it('is not begun where the disk has no room for it, and says what it takes', async () => {
    const where = await place();
    const parts = Array.from({ length: partCount(MODEL_BYTES_MAX) }, () => ROOT);
    const huge = [{ name: 'model.safetensors', size: MODEL_BYTES_MAX, parts }];
    await assert.rejects(
      open(where, huge),
      userError(/^none needs 1099\.\d\d GB on the disk of .*, which has [\d.]+ GB left: free some/),
    );
  });

  it('lies in a directory whose name is a plain one, whatever the run says', async () => {
    const names = [
      ['OWNER/NAME@' + 'ab'.repeat(20), 'NAME'],
      ['../../etc', 'etc'],
      ['..', 'model'],
      ['a/b c\\d', 'b-c-d'],
      ['x.partial', 'x'],
      ['模型', 'model'],
      ['own model', 'own-model'],
    ];
    for (const [name = '', expected = ''] of names) {
      const { dir, directory } = new MemberModelPlace(
        '/cache',
        { ...model, name },
        { root: ROOT, size: 1 },
      );
      assert.equal(
        dir,
        `${directory}/murmurate/${'5a'.repeat(16)}-${'ab'.repeat(16)}/${expected}`,
        name,
      );
    }
  });

  it('passes by what else lies there', async () => {
    const where = await place();
    await mkdir(join(where.dir, '..', 'broken'), { recursive: true });
    await writeFile(join(where.directory, 'murmurate', 'file'), '');
    assert.equal(await findFromMembers(where.directory, model.weightsSha256), null);
  });
});
