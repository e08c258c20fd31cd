/**
 * control.json: one note between a command and the peer that runs in the data directory. The command lays a
 * request there, the peer puts its reply in that place, the command takes it away. Whoever can write there owns
 * the peer's key as well; bounds are against accidents. Nothing of it must survive a power cut.
 */
import { randomUUID } from 'node:crypto';
import { link, open, rm, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { errnoOf } from '../files.js';
import { writeAtomically } from './atomic-file.js';
import type { DataDirectory } from './directory.js';
import { storeUnavailable } from './unavailable.js';

/** Bytes of a note; a sentence takes a few hundred. */
const NOTE_BYTES_MAX = 4096;

/** A command waits for its reply so long, in ms; a note that is meant for later comes from a clock that was wrong. */
export const NOTE_LIFE_MS = 20_000;

/** Only the owner reads and writes it. */
const OWNER_ONLY = 0o600;

const requestSchema = z.object({
  /** What is asked for; a later version may know more than this one. */
  verb: z.string().min(1).max(32),
  /** New number of epochs of the run, for `extend`; epochs that an invite is good for, for `invite`; null otherwise. */
  epochs: z.number().int().nullable(),
});

const replySchema = z.object({
  /** Whether what was asked for is done. */
  isDone: z.boolean(),
  /** What was done (an invite: itself, a secret), or why not; no line break. */
  sentence: z.string().max(2000),
});

const noteSchema = z.object({
  /** A reply carries that of its request. */
  id: z.string().min(1).max(64),
  /** Nobody waits any more then: ms since 1970. */
  untilMs: z.number(),
  request: requestSchema,
  /** Null until the peer has answered. */
  reply: replySchema.nullable(),
});

export type ControlRequest = z.infer<typeof requestSchema>;
export type ControlReply = z.infer<typeof replySchema>;
export type ControlNote = z.infer<typeof noteSchema>;

/** A new note for `request`, `nowMs` since 1970. */
export function makeNote(request: ControlRequest, nowMs: number): ControlNote {
  return { id: randomUUID(), untilMs: nowMs + NOTE_LIFE_MS, request, reply: null };
}

/** Whether somebody may still wait for it. */
export function isAlive({ untilMs }: ControlNote, nowMs: number): boolean {
  return untilMs >= nowMs && untilMs <= nowMs + NOTE_LIFE_MS;
}

/** Lays `note` down whole; false when another one lies there. Throws StoreUnavailableError. */
export async function layNote(directory: DataDirectory, note: ControlNote): Promise<boolean> {
  const path = directory.pathOf('control');
  const draft = `${path}.${note.id}.tmp`;
  try {
    await writeFile(draft, encode(note), { mode: OWNER_ONLY });
    // A link, unlike a rename, never takes the place of what is there.
    await link(draft, path);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    throw storeUnavailable('write', path, error);
  } finally {
    await rm(draft, { force: true }).catch(() => undefined);
  }
}

/** Puts `note`, with its reply, in the place of its request. Throws StoreUnavailableError. */
export async function answerNote(directory: DataDirectory, note: ControlNote): Promise<void> {
  await writeAtomically(directory.pathOf('control'), [encode(note)], OWNER_ONLY);
}

/** The note that lies there, null when there is none, 'unreadable' for anything else. Throws StoreUnavailableError. */
export async function readNote(
  directory: DataDirectory,
): Promise<ControlNote | 'unreadable' | null> {
  const path = directory.pathOf('control');
  let text: string;
  try {
    const file = await open(path, 'r');
    try {
      const buffer = new Uint8Array(NOTE_BYTES_MAX + 1);
      const { bytesRead } = await file.read(buffer);
      if (bytesRead > NOTE_BYTES_MAX) return 'unreadable';
      text = new TextDecoder().decode(buffer.subarray(0, bytesRead));
    } finally {
      await file.close();
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw storeUnavailable('read', path, error);
  }
  try {
    return noteSchema.parse(JSON.parse(text));
  } catch {
    return 'unreadable';
  }
}

function encode(note: ControlNote): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(note)}\n`);
}
