import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import * as fc from 'fast-check';
import { z } from 'zod';
import { UserError } from '../../node/errors.js';
import { parseJson, readBoundedFile, readFileIfThere, readJsonFile } from '../../node/json-file.js';
import { Scratch, userError } from './model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

const schema = z.object({
  layers: z.array(z.object({ size: z.int({ error: 'but must be whole' }) })),
});

describe('parseJson', () => {
  it('names the field by its path and shows its value', () => {
    const refuses = (text: string, pattern: RegExp): void =>
      assert.throws(() => parseJson(text, 'a.json', schema), userError(pattern));
    refuses(
      '{"layers": [{"size": 1}, {"size": 2.5}]}',
      /^a.json: field "layers.1.size" is 2.5, but must be whole$/,
    );
    refuses('{"layers": [{}]}', /field "layers.0.size" is missing, but must be whole/);
    refuses('7', /^a.json: the document is 7, /);
    const long = JSON.stringify({ layers: [{ size: 'x'.repeat(5000) }] });
    refuses(long, /is "x{59}\.\.\., but must be whole$/);
    const deep = `${'['.repeat(30_000)}${']'.repeat(30_000)}`;
    refuses(
      `{"layers": [{"size": ${deep}}]}`,
      /^a.json is nested more than 100 levels deep: it is damaged/,
    );
    refuses(
      `{"layers": [{"size": "\u202e\\u001b"}]}`,
      /is "\\u202e\\u001b", but must/,
    );
  });

  it('refuses a document of many values, and does not count what is within a string', () => {
    const many = `{"layers": [], "x": [${'[],'.repeat(4_200_000)}[]]}`;
    assert.throws(
      () => parseJson(many, 'a.json', schema),
      userError(/^a.json has more than 4194304 values: it is damaged/),
    );
    const text = JSON.stringify({ layers: [], x: `\\"${'[,{'.repeat(3_000_000)}` });
    assert.deepEqual(parseJson(text, 'a.json', schema), { layers: [] });
  });

  it('throws nothing but UserError, whatever the bytes', () => {
    const bytes = fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.json(), fc.string());
    fc.assert(
      fc.property(bytes, (input) => {
        try {
          parseJson(input, 'x', schema);
        } catch (error) {
          assert.ok(error instanceof UserError);
        }
      }),
    );
  });
});

describe('readBoundedFile', () => {
  it('reads up to the bound and refuses what is longer, missing or no file', async () => {
    const dir = await scratch.directory();
    const path = join(dir, 'a.json');
    await writeFile(path, '{"a":1}');
    assert.equal((await readBoundedFile(path, 7, 'the thing')).length, 7);
    await assert.rejects(
      readBoundedFile(path, 6, 'the thing'),
      userError(/a.json \(the thing\) has 7 bytes, more than the 6 that it may have/),
    );
    await mkdir(join(dir, 'folder'));
    await assert.rejects(
      readBoundedFile(join(dir, 'folder'), 6, 'the thing'),
      userError(/folder \(the thing\) is not a regular file/),
    );
    await assert.rejects(
      readJsonFile(join(dir, 'gone.json'), 6, 'the thing', z.unknown()),
      userError(/gone.json \(the thing\) does not exist: check the path/),
    );
  });

  it('takes a missing file as null only where that is asked for', async () => {
    const dir = await scratch.directory();
    assert.equal(await readFileIfThere(join(dir, 'gone'), 6, 'the thing'), null);
    await writeFile(join(dir, 'long'), '1234567');
    await assert.rejects(
      readFileIfThere(join(dir, 'long'), 6, 'the thing'),
      userError(/has 7 bytes/),
    );
  });
});
