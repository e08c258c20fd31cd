import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { PACKAGE_DIRECTORY } from '../../node/version.js';
import { consoleBlocks, type Block } from './console.js';
import { emptyClipboard, Machine } from './machine.js';

const names = (await readdir(path.join(PACKAGE_DIRECTORY, 'docs'), { recursive: true }))
  .filter((name) => name.endsWith('.md'))
  .map((name) => path.join('docs', name));

/** Those that show a terminal. */
const documents: { name: string; blocks: Block[] }[] = [];
for (const name of ['README.md', ...names.sort()]) {
  const blocks = consoleBlocks(await readFile(path.join(PACKAGE_DIRECTORY, name), 'utf8'));
  if (blocks.length > 0) documents.push({ name, blocks });
}

describe('the commands of a document do what is shown, one after the other', () => {
  for (const { name, blocks } of documents) {
    it(name, async () => {
      const scratch = await mkdtemp(path.join(tmpdir(), 'murmurate-docs-'));
      const machines = new Map<string, Machine>();
      const clipboard = emptyClipboard();
      try {
        for (const { machine: on, commands } of blocks) {
          const home = path.join(scratch, on === '' ? 'home' : on);
          const machine = machines.get(on) ?? (await Machine.create(home, clipboard));
          machines.set(on, machine);
          for (const command of commands) await machine.type(command);
        }
      } finally {
        await Promise.all([...machines.values()].map((machine) => machine.stop()));
        await rm(scratch, { recursive: true, force: true });
      }
    });
  }

  it('in the README and in every guide', () => {
    const tested = documents.map(({ name }) => name);
    const wanted = ['README.md', ...names.filter((name) => name.startsWith('docs/guides/'))];
    assert.deepEqual(
      wanted.filter((name) => !tested.includes(name)),
      [],
    );
  });
});
