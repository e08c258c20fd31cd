/** The running peer's side of murmurate pause, resume, leave, extend and invite: answers what commands ask of it. */
import { setTimeout as delay } from 'node:timers/promises';
import { UserError } from '../errors.js';
import { StoreUnavailableError, type Logger } from '../interfaces.js';
import {
  answerNote,
  isAlive,
  readNote,
  type ControlReply,
  type ControlRequest,
} from '../store/control-file.js';
import type { DataDirectory } from '../store/directory.js';
import { rememberResting } from '../store/settings.js';

/** How often the directory is looked at, in ms. */
const POLL_MS = 500;

/** What can be asked of a peer. */
export interface Controls {
  /** See Peer.rest. */
  rest(isResting: boolean): void;
  /** See Peer.extend. */
  extend(epochsMax: number): Promise<string | null>;
  /** See RunningPeer.invite. */
  invite(epochs: number): string;
  /** Does what Ctrl-C does. */
  leave(): void;
}

/** Answers one request after the other until `stop` aborts. Never rejects. */
export async function answerRequests(
  directory: DataDirectory,
  controls: Controls,
  logger: Logger,
  stop: AbortSignal,
): Promise<void> {
  while (!stop.aborted) {
    try {
      await answerOne(directory, controls);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      logger.warn({ reason }, 'a request of another command could not be answered');
    }
    await delay(POLL_MS, undefined, { signal: stop }).catch(() => undefined);
  }
}

/** Looks once. Throws StoreUnavailableError. */
export async function answerOne(directory: DataDirectory, controls: Controls): Promise<void> {
  const note = await readNote(directory);
  if (note === null) return;
  // Whoever laid it down has given up, or it is no note at all.
  if (note === 'unreadable' || !isAlive(note, Date.now())) return directory.remove('control');
  if (note.reply !== null) return;
  const { request } = note;
  await answerNote(directory, { ...note, reply: await replyTo(request, directory, controls) });
  if (request.verb === 'leave') controls.leave();
}

async function replyTo(
  request: ControlRequest,
  directory: DataDirectory,
  controls: Controls,
): Promise<ControlReply> {
  try {
    return await carryOut(request, directory, controls);
  } catch (error) {
    const isTold = error instanceof UserError || error instanceof StoreUnavailableError;
    if (!isTold) throw error;
    return { isDone: false, sentence: error.message };
  }
}

async function carryOut(
  { verb, epochs }: ControlRequest,
  directory: DataDirectory,
  controls: Controls,
): Promise<ControlReply> {
  const done = (sentence: string): ControlReply => ({ isDone: true, sentence });
  switch (verb) {
    case 'pause':
      await rememberResting(directory, true);
      controls.rest(true);
      return done(PAUSED_SENTENCE);
    case 'resume':
      await rememberResting(directory, false);
      controls.rest(false);
      return done('the peer trains again, from the next epoch on at the latest');
    case 'leave':
      return done('the peer has left its run; start or join on the same --dir goes on from here');
    case 'extend': {
      const problem = await controls.extend(epochs ?? 0);
      if (problem !== null) return { isDone: false, sentence: problem };
      return done(`the run has ${epochs ?? 0} epochs now; the others hear it from this peer`);
    }
    case 'invite':
      return done(controls.invite(epochs ?? 0));
    default:
      return {
        isDone: false,
        sentence: `the peer does not know what "${verb}" is; stop it and start it again in this version`,
      };
  }
}

/** For a peer that runs and for one that does not. */
export const PAUSED_SENTENCE =
  'the peer shares but does not train, also after a restart, until murmurate resume';
