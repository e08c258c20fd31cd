/** Documents whose commands are typed, one after the other, as tests. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { EMBEDDED_MODEL_DIRECTORY, PACKAGE_DIRECTORY } from '../../node/version.js';
import { HubServer, repositoryOf } from '../support/hub.js';
import { consoleBlocks, type Block } from './console.js';
import { emptyClipboard, Machine } from './machine.js';

/** The model that the documents fetch; here it is the embedded one, from a hub on loopback. */
const HUB_MODEL = 'HuggingFaceTB/SmolLM2-135M-Instruct';

/** Names of the documents in `folder`, from the top of the repository. */
export async function documentsIn(folder: string): Promise<string[]> {
  const names = await readdir(path.join(PACKAGE_DIRECTORY, folder));
  const documents = names.filter((name) => name.endsWith('.md')).sort();
  return documents.map((name) => path.join(folder, name));
}

/** Makes a test of each document that shows a terminal. Resolves with the names of those that show none. */
export async function typeDocuments(names: readonly string[]): Promise<string[]> {
  const documents = new Map<string, Block[]>();
  for (const name of names)
    documents.set(name, consoleBlocks(await readFile(path.join(PACKAGE_DIRECTORY, name), 'utf8')));
  const typed = [...documents].filter(([, blocks]) => blocks.length > 0);
  describe('the commands of a document do what is shown, one after the other', () => {
    let hub: HubServer;
    before(async () => {
      hub = await HubServer.start();
      hub.repositories.set(HUB_MODEL, repositoryOf(EMBEDDED_MODEL_DIRECTORY));
    });
    after(() => hub.stop());
    for (const [name, blocks] of typed) it(name, () => typeAll(blocks, hub.url));
  });
  return names.filter((name) => documents.get(name)?.length === 0);
}

async function typeAll(blocks: readonly Block[], hubUrl: string): Promise<void> {
  const scratch = await mkdtemp(path.join(tmpdir(), 'murmurate-docs-'));
  const machines = new Map<string, Machine>();
  const clipboard = emptyClipboard();
  try {
    for (const { machine: on, commands } of blocks) {
      const home = path.join(scratch, on === '' ? 'home' : on);
      const machine = machines.get(on) ?? (await Machine.create(home, clipboard, hubUrl));
      machines.set(on, machine);
      for (const command of commands) await machine.type(command);
    }
  } finally {
    await Promise.all([...machines.values()].map((machine) => machine.stop()));
    await rm(scratch, { recursive: true, force: true });
  }
}
