import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { DamagedStateError } from '../../../node/store/array-file.js';
import { DataDirectory } from '../../../node/store/directory.js';
import {
  readExperts,
  writeExperts,
  type StoredExperts,
} from '../../../node/store/personal-file.js';

const owner = { runId: 'ab'.repeat(32), adapterSize: 5 };
const experts: StoredExperts = {
  facts: {
    ...{ swarmSha256: '0f'.repeat(32), epoch: 3, updates: 8 },
    heldOutLoss: {
      ...{ base: 4.5, swarm: 1.5, continued: 1.25, alone: null, single: 1.25, mixture: 1.125 },
    },
    ...{ end: 'continued', share: 0.75, rounds: 6, hasNoisyUpdates: false },
  },
  continued: Float32Array.of(1, 2, 3, 4, 5),
  alone: Float32Array.of(-1, -2, -3, -4, -5),
  single: Float32Array.of(0.5, 0, -0, 1e-38, 3e38),
};

describe('personal.bin', () => {
  let dir = '';
  let directory: DataDirectory;
  let file = '';
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'murmurate-experts-'));
    directory = new DataDirectory(dir);
    file = directory.pathOf('personal');
  });
  after(() => rm(dir, { recursive: true }));

  it('gives back what was written, and is its owner’s alone', async () => {
    assert.equal(await readExperts(directory, owner), null);
    await writeExperts(directory, owner, experts);
    assert.deepEqual(await readExperts(directory, owner), experts);
    assert.equal((await stat(file)).mode & 0o777, 0o600);
  });

  it('refuses another run’s, what was cut or changed, and numbers that are none', async () => {
    await writeExperts(directory, owner, experts);
    const whole = await readFile(file);
    const refused = async (
      sentence: RegExp,
      bytes: Uint8Array = whole,
      asked = owner,
    ): Promise<void> => {
      await writeFile(file, bytes);
      await assert.rejects(
        readExperts(directory, asked),
        (error) => error instanceof DamagedStateError && sentence.test(error.message),
      );
    };
    await refused(/belongs to run abab.*, not cdcd/, whole, { ...owner, runId: 'cd'.repeat(32) });
    await refused(/have 5 coordinates, those of the run 6/, whole, { ...owner, adapterSize: 6 });
    for (const length of [0, 20, 100, whole.length - 1]) {
      await refused(/holds only|SHA-256 does not match/, whole.subarray(0, length));
    }
    for (let at = 0; at < whole.length; at += 7) {
      const changed = Uint8Array.from(whole);
      changed[at]! ^= 1;
      await refused(/SHA-256|does not begin|version/, changed);
    }
    // One expert fewer than the header promises, and one number that is none.
    await writeExperts(directory, owner, { ...experts, single: new Float32Array(0) });
    await refused(/is shorter than its header says/, await readFile(file));
    await writeExperts(directory, owner, { ...experts, alone: Float32Array.of(1, 2, NaN, 4, 5) });
    await refused(/holds NaN or infinity/, await readFile(file));
  });
});
