import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { EMBEDDED_MODEL_DIRECTORY, PACKAGE_DIRECTORY } from '../../node/version.js';
import { HubServer, repositoryOf } from '../support/hub.js';
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

/** The model that the documents fetch; here it is the embedded one, from a hub on loopback. */
const HUB_MODEL = 'HuggingFaceTB/SmolLM2-135M-Instruct';

/** Documents at one time: their commands wait for epochs and for each other. */
const CONCURRENCY = 2;

describe(
  'the commands of a document do what is shown, one after the other',
  { concurrency: CONCURRENCY },
  () => {
    let hub: HubServer;
    before(async () => {
      hub = await HubServer.start();
      hub.repositories.set(HUB_MODEL, repositoryOf(EMBEDDED_MODEL_DIRECTORY));
    });
    after(() => hub.stop());

    for (const { name, blocks } of documents) {
      it(name, async () => {
        const scratch = await mkdtemp(path.join(tmpdir(), 'murmurate-docs-'));
        const machines = new Map<string, Machine>();
        const clipboard = emptyClipboard();
        try {
          for (const { machine: on, commands } of blocks) {
            const home = path.join(scratch, on === '' ? 'home' : on);
            const machine = machines.get(on) ?? (await Machine.create(home, clipboard, hub.url));
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
  },
);
