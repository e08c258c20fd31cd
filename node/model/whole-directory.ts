/**
 * A directory that is there as a whole or not at all. It is made beside its place, in one that names the process which
 * makes it: what a killed process left there is removed by the next one that writes to the same place.
 */
import { randomUUID } from 'node:crypto';
import { readdir, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { makeDirectory, readIfThere, renameDurably } from '../files.js';
import { decodeOwner, encodeOwner, ownerState, thisProcess } from '../process-owner.js';

const OWNER_FILE = 'owner.json';
/** The directory as it will be, inside of the temporary one. */
const CONTENT = 'content';
/** What the temporary directory of a place is called. */
const TEMPORARY = /^(.*)\.tmp-[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/s;

/** What cannot be asked for its process is nobody's when nothing in it has changed for so long, in ms. */
export const ABANDONED_MS = 3_600_000;

/**
 * Makes `place`, which must not exist, of what `write` writes into the directory that it is given. Rejects with what
 * `write` or the system throws; nothing is left then.
 */
export async function writeWholeDirectory(
  place: string,
  write: (dir: string) => Promise<void>,
): Promise<void> {
  await removeAbandoned(dirname(place), basename(place));
  const temporary = `${place}.tmp-${randomUUID()}`;
  const content = join(temporary, CONTENT);
  try {
    await makeDirectory(temporary);
    await writeFile(join(temporary, OWNER_FILE), encodeOwner(await thisProcess()));
    await makeDirectory(content);
    await write(content);
    await renameDurably(content, place);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/**
 * Removes what killed writers left in `parent`, of all places there or of the one that is called `target`. A folder that
 * cannot be listed or cleaned will say so when it is written to.
 */
export async function removeAbandoned(parent: string, target?: string): Promise<void> {
  for (const name of await readdir(parent).catch(() => [])) {
    const temporary = join(parent, name);
    const of = TEMPORARY.exec(name)?.[1];
    if (of === undefined || (target ?? of) !== of || !(await isAbandoned(temporary))) continue;
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
  }
}

async function isAbandoned(temporary: string): Promise<boolean> {
  try {
    const bytes = await readIfThere(join(temporary, OWNER_FILE));
    const owner = bytes && decodeOwner(bytes);
    const state = owner === null ? 'unknown' : await ownerState(owner);
    if (state !== 'unknown') return state === 'dead';
    return Date.now() - (await newestChangeMs(temporary)) > ABANDONED_MS;
  } catch {
    return false;
  }
}

/** When something in `dir`, or it itself, was changed last, in ms since 1970. */
async function newestChangeMs(dir: string): Promise<number> {
  const names = await readdir(dir, { recursive: true });
  const times = await Promise.all(
    ['.', ...names].map(async (name) => (await stat(join(dir, name))).mtimeMs),
  );
  return Math.max(...times);
}
