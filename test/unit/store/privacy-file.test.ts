import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { UserError } from '../../../node/errors.js';
import { DataDirectory } from '../../../node/store/directory.js';
import { readPrivacyLedger, writePrivacyLedger } from '../../../node/store/privacy-file.js';

let directory: DataDirectory;
before(async () => {
  directory = new DataDirectory(await mkdtemp(join(tmpdir(), 'murmurate-privacy-')));
});
after(() => rm(directory.path, { recursive: true }));

describe('privacy.json', () => {
  it('is nothing before the first write, and then what was written last, to the last digit', async () => {
    assert.equal(await readPrivacyLedger(directory), null);
    const taken = [
      { sampleRate: 8 / 284, noise: 1.1, steps: 40 },
      { sampleRate: 1, noise: 3, steps: 0 },
    ];
    await writePrivacyLedger(directory, []);
    assert.deepEqual(await readPrivacyLedger(directory), []);
    await writePrivacyLedger(directory, taken);
    assert.deepEqual(await readPrivacyLedger(directory), taken);
  });

  it('is refused when it is damaged, and never taken for an empty one', async () => {
    for (const text of [
      '',
      '{"taken": []',
      '{"taken": [{"noise": 1, "sampleRate": 2, "steps": 3}]}',
      '[]',
    ]) {
      await writeFile(directory.pathOf('privacy'), text);
      await assert.rejects(readPrivacyLedger(directory), (error) => {
        assert.ok(error instanceof UserError);
        assert.match(error.message, /privacy\.json is damaged, so that nobody knows .* lower by/);
        return true;
      });
    }
  });
});
