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
  await removeAbandoned(place);
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

/** What earlier writers of `place` left: a folder that cannot be listed or cleaned will say so when it is written to. */
async function removeAbandoned(place: string): Promise<void> {
  const parent = dirname(place);
  for (const name of await readdir(parent).catch(() => [])) {
    const temporary = join(parent, name);
    if (!isTemporaryOf(basename(place), name) || !(await isAbandoned(temporary))) continue;
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
  }
}

/** Whether `name` is what writeWholeDirectory calls the temporary directory of one that is called `target`. */
function isTemporaryOf(target: string, name: string): boolean {
  const prefix = `${target}.tmp-`;
  return (
    name.startsWith(prefix) &&
    /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/.test(name.slice(prefix.length))
  );
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
