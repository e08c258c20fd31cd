/** The asking side of murmurate pause, resume, leave, extend and invite: a request to the peer in a directory, its reply. */
import { setTimeout as delay } from 'node:timers/promises';
import { UserError } from '../errors.js';
import { readRun } from '../home.js';
import {
  isAlive,
  layNote,
  makeNote,
  NOTE_LIFE_MS,
  readNote,
  type ControlReply,
  type ControlRequest,
} from '../store/control-file.js';
import { DataDirectory } from '../store/directory.js';
import { DirectoryInUseError, lockDirectory, type DirectoryLock } from '../store/lock.js';

/** How often the reply is looked for, in ms. */
const POLL_MS = 100;

/** A peer that leaves is gone after 5 s; its lock too, unless the disk is slow. */
const LEAVE_MS_MAX = 10_000;

/**
 * Has the peer that runs in `dir` do what `request` says, and resolves with its sentence. Where none runs,
 * `alone` is called, which has the directory to itself.
 * Throws UserError (no run there, refused, no answer), what `alone` throws, StoreUnavailableError, `signal.reason`.
 */
export async function askPeer(
  dir: string,
  request: ControlRequest,
  signal: AbortSignal,
  alone: (directory: DataDirectory) => Promise<string>,
): Promise<string> {
  const directory = new DataDirectory(dir);
  if ((await readRun(directory)) === null) {
    throw new UserError(
      `${dir} holds no run; start or join one there first, or name another directory with --dir`,
    );
  }
  const lock = await lockIfFree(dir);
  if (lock !== null) {
    try {
      return await alone(directory);
    } finally {
      await lock.release();
    }
  }
  const { isDone, sentence } = await exchange(directory, request, signal);
  if (!isDone) throw new UserError(sentence);
  return sentence;
}

/** For a command that only a running peer can carry out. */
export function noPeerRuns({ path }: DataDirectory): Promise<never> {
  return Promise.reject(
    new UserError(`no peer runs in ${path}; start it first, with murmurate start or join`),
  );
}

/** Resolves when no process holds `dir` any more. Throws UserError when it still does after 10 s, `signal.reason`. */
export async function untilFree(dir: string, signal: AbortSignal): Promise<void> {
  const endMs = performance.now() + LEAVE_MS_MAX;
  while (performance.now() < endMs) {
    const lock = await lockIfFree(dir);
    if (lock !== null) return lock.release();
    await delay(POLL_MS, undefined, { signal });
  }
  throw new UserError(
    `the peer in ${dir} has not ended within ${LEAVE_MS_MAX / 1000} s; end it with Ctrl-C, twice if need be`,
  );
}

/** Null when a process holds it. */
async function lockIfFree(dir: string): Promise<DirectoryLock | null> {
  try {
    return await lockDirectory(dir);
  } catch (error) {
    if (error instanceof DirectoryInUseError) return null;
    throw error;
  }
}

async function exchange(
  directory: DataDirectory,
  request: ControlRequest,
  signal: AbortSignal,
): Promise<ControlReply> {
  const note = makeNote(request, Date.now());
  let isLaid = false;
  try {
    while (isAlive(note, Date.now())) {
      isLaid ||= await layNote(directory, note);
      const found = await readNote(directory);
      const reply = found !== null && found !== 'unreadable' && found.id === note.id && found.reply;
      if (reply) return reply;
      await delay(POLL_MS, undefined, { signal });
    }
  } finally {
    if (isLaid) await takeBack(directory, note.id);
  }
  throw new UserError(
    `the peer in ${directory.path} has not answered within ${NOTE_LIFE_MS / 1000} s; it may still be starting, ` +
      'so try again, or end it with Ctrl-C',
  );
}

/** Removes the note, unless it is that of another command by now. */
async function takeBack(directory: DataDirectory, id: string): Promise<void> {
  const found = await readNote(directory);
  if (found !== null && found !== 'unreadable' && found.id === id)
    await directory.remove('control');
}
