/** The frame around start and join: opens what both need, closes what is left open when one fails. */
import { basename } from 'node:path';
import type { BaseModel } from '../base-model.js';
import { checkData } from '../compose-trainer.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { openHome, type Home } from '../home.js';
import type { Logger } from '../interfaces.js';
import { createLogger } from '../log.js';
import { parseAddress } from '../net/addresses.js';
import type { Host } from '../net/host.js';
import { readSwarmKey, type SwarmKey } from '../net/swarm-key.js';
import { readSettings } from '../store/settings.js';
import { checkWeights } from '../train/weight-formats.js';
import type { Run } from '../../protocol/manifest.js';
import { isLeftToRun, mayFetchFromMembers, openBase, type FromMembers } from './base-choice.js';
import { columnsOf, sayDataFiles } from './data-options.js';
import type { PeerOptions } from './live.js';
import { createProgress, type Progress } from './progress.js';
import { openStatusPage, type StatusPage } from './status-page.js';
import type { VerbIo } from './verb.js';
import { rawOutput } from './output.js';

/** Everything of a peer that does not depend on the run. */
export interface Session {
  home: Home;
  /**
   * The base model for `run`, null for one that is yet to be founded; opened once. Where it is not here, `fromMembers`
   * may be asked. Throws UserError.
   */
  openBase(run: Run | null, fromMembers?: FromMembers): Promise<BaseModel>;
  host: Host;
  page: StatusPage;
  logger: Logger;
  progress: Progress;
  options: PeerOptions;
  io: VerbIo;
  /** Aborted when another process has taken the data directory. */
  lost: AbortSignal;
  /** Calls `close` when the session ends; the last one first. */
  atEnd(close: () => Promise<void>): void;
}

/**
 * Opens directory, model, status server and host, runs `body`, and closes them in any case. A swarm key, which
 * may have come with an invite (`invitedKey`), is kept in the directory, so that a restart need not be given it.
 * Throws UserError for whatever of them cannot be had, and what `body` throws.
 */
export async function withSession(
  options: PeerOptions,
  contacts: readonly string[],
  io: VerbIo,
  body: (session: Session) => Promise<void>,
  invitedKey: SwarmKey | null = null,
): Promise<void> {
  checkData(options.data);
  columnsOf(options);
  checkWeights(options.device, options.weights);
  for (const address of contacts) parseAddress(address);
  const swarmKey = (await givenSwarmKey(options.swarmKey)) ?? invitedKey;
  const progress = createProgress(io);
  const logger = createLogger({
    level: options.logLevel,
    format: options.logFormat,
    out: rawOutput(progress.log),
    colour: io.terminal,
  });
  await sayDataFiles(options.data, progress.log);
  const lost = new AbortController();
  const stop = (sentence: string): void => lost.abort(new UserError(sentence));
  const say = (sentence: string): void => void progress.log.write(`${sentence}\n`);
  const home = await openHome(options.dir, stop, say);
  const opened: (() => Promise<void>)[] = [() => home.lock.release()];
  try {
    const before = await readSettings(home.directory);
    const cacheFile = home.directory.pathOf('modelHashes');
    let opening: Promise<BaseModel> | null = null;
    const openOnce = (run: Run | null, fromMembers?: FromMembers): Promise<BaseModel> => {
      opening ??= openBase(options.model, run, before, cacheFile, io, fromMembers).then((base) => {
        logger.debug({ model: basename(base.dir) }, 'base model opened');
        return base;
      });
      return opening;
    };
    // What needs nobody else is told before anything goes on the network.
    const isHere = home.run !== null && !mayFetchFromMembers(options.model);
    if (isHere || !isLeftToRun(options.model)) await openOnce(home.run);
    const page = await openStatusPage(options.http, home.directory);
    opened.push(async () => page.server?.stop());
    const { directory, identity } = home;
    const { listen, upnp } = options;
    const kept = directory.pathOf('swarmKey');
    await swarmKey?.keep(kept);
    const init = { identity, listen, upnp, swarmKey: swarmKey ?? (await readSwarmKey(kept)) };
    // libp2p takes longest of all to load, and most verbs need none of it.
    const { openHostOnSamePort } = await import('../net/port-memory.js');
    const host = await openHostOnSamePort(directory.pathOf('port'), init, logger);
    opened.push(() => host.stop());
    const atEnd = (close: () => Promise<void>): void => {
      opened.push(close);
    };
    const parts = { home, openBase: openOnce, host, page, logger, progress, options, io };
    await body({ ...parts, lost: lost.signal, atEnd });
  } catch (error) {
    // Ctrl-C while something was being opened is no failure.
    if (!io.signal.aborted) throw error;
  } finally {
    progress.stop();
    await closeAll(opened.reverse());
  }
}

/** The key in the file that the user named. Throws UserError. */
export async function givenSwarmKey(path: string | null): Promise<SwarmKey | null> {
  if (path === null) return null;
  const key = await readSwarmKey(path);
  if (key !== null) return key;
  throw new UserError(
    `there is no swarm key at ${path}; make one with murmurate swarm-key, or copy that of another peer`,
    EXIT_USAGE,
  );
}

/** Calls all of `closes` in order, whatever one of them throws; then throws the first of that. */
async function closeAll(closes: readonly (() => Promise<void>)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const close of closes) await close().catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw failures[0];
}
