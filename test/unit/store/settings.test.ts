import assert from 'node:assert/strict';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { DataDirectory } from '../../../node/store/directory.js';
import { readSettings, writeSettings } from '../../../node/store/settings.js';

const scratch = await mkdtemp(path.join(tmpdir(), 'murmurate-settings-'));
after(() => rm(scratch, { recursive: true, force: true }));

describe('settings', () => {
  it('are written when they change, and only then, so that a peer starts again on a full disk', async () => {
    const directory = new DataDirectory(scratch);
    const settings = { modelDir: '/m', dataFiles: ['/a.txt'], heldOutShare: 0.1, isResting: false };
    // An atomic write makes a new file.
    const inode = async (): Promise<number> => (await stat(directory.pathOf('settings'))).ino;
    await writeSettings(directory, settings);
    const first = await inode();
    await writeSettings(directory, { ...settings });
    assert.equal(await inode(), first);
    await writeSettings(directory, { ...settings, heldOutShare: 0.2 });
    assert.notEqual(await inode(), first);
    assert.equal((await readSettings(directory))?.heldOutShare, 0.2);
  });
});
