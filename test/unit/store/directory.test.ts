import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { StoreUnavailableError } from '../../../node/interfaces.js';
import { DataDirectory } from '../../../node/store/directory.js';
import { readSettings, writeSettings } from '../../../node/store/settings.js';

let place = '';
before(async () => {
  place = await mkdtemp(join(tmpdir(), 'murmurate-directory-'));
});
after(() => rm(place, { recursive: true, force: true }));

describe('DataDirectory', () => {
  it('is made with its parents, for its owner alone, and may be there already', async () => {
    const directory = new DataDirectory(join(place, 'one', 'two', 'three'));
    await directory.create();
    await directory.create();
    assert.equal((await stat(directory.path)).mode & 0o777, 0o700);
  });

  it('cannot be made below a file or where the system refuses it: one sentence, no endless try', async () => {
    await writeFile(join(place, 'file'), '');
    const paths = [join(place, 'file', 'x'), join(place, 'file')];
    // /proc refuses new names with ENOENT, though it is there.
    if (existsSync('/proc/self')) paths.push('/proc/no-such/peer', '/proc/peer');
    for (const path of paths) {
      await assert.rejects(new DataDirectory(path).create(), (error) => {
        assert.ok(error instanceof StoreUnavailableError, String(error));
        assert.ok(error.message.startsWith(`cannot make the directory ${path}: `), error.message);
        return true;
      });
    }
  });

  it('keeps lines, ignores blank ones, and has none before they are written', async () => {
    const directory = new DataDirectory(place);
    assert.deepEqual(await directory.readLines('http'), []);
    await directory.writeLines('http', ['4001', '', ' 4002 ']);
    assert.deepEqual(await directory.readLines('http'), ['4001', '4002']);
    await directory.remove('http');
    await directory.remove('http');
    assert.deepEqual(await directory.readLines('http'), []);
  });

  it('keeps the settings of the last start; damaged ones count as none', async () => {
    const directory = new DataDirectory(place);
    assert.equal(await readSettings(directory), null);
    const settings = {
      modelDir: '/m',
      dataFiles: ['/d1', '/d2'],
      heldOutShare: 0.2,
      isResting: false,
    };
    await writeSettings(directory, settings);
    assert.deepEqual(await readSettings(directory), settings);
    await writeFile(directory.pathOf('settings'), '{"modelDir": 3');
    assert.equal(await readSettings(directory), null);
  });
});
