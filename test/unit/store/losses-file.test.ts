import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { DataDirectory } from '../../../node/store/directory.js';
import { LOSSES_MAX, readLosses, writeLosses } from '../../../node/store/losses-file.js';

const [ONE, OTHER] = ['1'.repeat(64), '2'.repeat(64)];
const sha256 = (n: number): string => n.toString(16).padStart(64, '0');

describe('held-out-losses.json', () => {
  let dir: string;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'murmurate-losses-'));
  });
  after(() => rm(dir, { recursive: true }));

  it('gives back what was measured in the same way, and nothing of another', async () => {
    const directory = new DataDirectory(dir);
    assert.equal((await readLosses(directory, ONE)).size, 0);
    const losses = new Map([
      [sha256(1), 3.25],
      [sha256(2), null],
    ]);
    await writeLosses(directory, ONE, losses);
    assert.deepEqual(await readLosses(directory, ONE), losses);
    assert.equal((await readLosses(directory, OTHER)).size, 0);
  });

  it('keeps the newest, and is as good as none where it is damaged', async () => {
    const directory = new DataDirectory(dir);
    const many = new Map(Array.from({ length: LOSSES_MAX + 5 }, (_, i) => [sha256(i), i]));
    await writeLosses(directory, ONE, many);
    const kept = [...(await readLosses(directory, ONE)).values()];
    assert.deepEqual([kept.length, kept[0], kept.at(-1)], [LOSSES_MAX, 5, LOSSES_MAX + 4]);
    await writeFile(join(dir, 'held-out-losses.json'), '{"measure":');
    assert.equal((await readLosses(directory, ONE)).size, 0);
  });
});
