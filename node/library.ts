/** A peer inside of another program: what start and join do, without a command line around it. */
import { Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { joinOptions, type JoinOptions as JoinValues } from './cli/join-options.js';
import { joining } from './cli/join.js';
import { keepRunning, ownOptions, type LiveInit } from './cli/live.js';
import { withSession, type Session } from './cli/session.js';
import { startOptions, type StartOptions as StartValues } from './cli/start-options.js';
import { prepareStart } from './cli/start.js';
import type { VerbIo } from './cli/verb.js';
import type { RunningPeer } from './compose.js';
import { optionsFrom, type GivenValue, type ResolvedOptions } from './config/sources.js';
import type { OptionSpecs } from './config.js';
import { writePeftAdapter } from './model/peft.js';
import type { StatusReport } from './status.js';
import { readStoredRun } from './stored-run.js';
import type { SwarmKey } from './net/swarm-key.js';

/** How often the state of the run is looked at, in ms. */
const POLL_MS = 200;

/** Of the command line alone. */
type CommandLineOnly = 'json' | 'exitWhenFinished' | 'address';

/** What a program adds to the options of the command line. */
export interface Surroundings {
  /** Ends the peer, also while it is being opened. */
  signal?: AbortSignal;
  /** Where log lines and progress go, as far as `logLevel` asks for them; nowhere by default. */
  log?: Writable;
}

/**
 * Options of `murmurate start`, each with its flag's name in camelCase and its flag's bounds and default, but that no
 * status server is opened (`http: 'off'`). What is left out has its default.
 */
export type StartOptions = Partial<Omit<StartValues, CommandLineOnly>> & Surroundings;

/** Options of `murmurate join`, as StartOptions. */
export type JoinOptions = Partial<Omit<JoinValues, CommandLineOnly>> & Surroundings;

/** A peer that takes part in a run until it is stopped. It owns its data directory and a training process. */
export class Peer {
  readonly #peer: RunningPeer;
  readonly #stopping: AbortController;
  readonly #dir: string;
  readonly #modelDir: string;
  /**
   * Resolves when the peer has stopped, and rejects when it could not go on: training failed for good, or another
   * process has taken the data directory.
   */
  readonly done: Promise<void>;

  private constructor(peer: RunningPeer, { dir, modelDir, done, stopping }: Opened) {
    this.#peer = peer;
    this.#dir = dir;
    this.#modelDir = modelDir;
    this.#stopping = stopping;
    this.done = done;
  }

  /**
   * Founds a run, or resumes the one in `dir`. Resolves when the peer is on the network.
   * @throws UserError with one sentence: a wrong option, model, data file or directory; and the reason of `signal`.
   */
  static async start({ signal, log, ...given }: StartOptions = {}): Promise<Peer> {
    const { values, origins } = check(startOptions, given);
    const options = values as StartValues;
    const prepare = (session: Session): Promise<LiveInit> =>
      prepareStart(session, options, origins);
    return Peer.#open(
      { options, contacts: options.bootstrap, invitedKey: null, prepare },
      { signal, log },
    );
  }

  /**
   * Takes part in the run that the peer or bootstrap node at `address` (or an invite) knows, or resumes it. Resolves
   * when the peer is on the network; waits for the other side until `timeout` seconds are over.
   * @throws as start does, and where the run does not admit this peer.
   */
  static async join(address: string, { signal, log, ...given }: JoinOptions = {}): Promise<Peer> {
    const { values, origins } = check(joinOptions, given);
    const options = values as JoinValues;
    return Peer.#open({ options, ...joining(address, options, origins) }, { signal, log });
  }

  /** What `GET /status` of the command line says, as of now. */
  status(): StatusReport {
    return this.#peer.status();
  }

  /**
   * A report after each epoch from now on, the last one when the run is over: `run.epoch` is then the number of epochs
   * that are over, and the held-out loss the last one measured. Ends when the run or the peer does; throws when the
   * peer could not go on (see done).
   */
  async *epochs(): AsyncGenerator<StatusReport, void, undefined> {
    const { signal } = this.#stopping;
    let epoch = this.status().run.epoch;
    let isFinished = false;
    while (!signal.aborted && !isFinished) {
      const report = this.status();
      const { state, epoch: now, epochsMax } = report.run;
      isFinished = state === 'finished';
      // The last epoch is over when all of it is folded, and before the first they count from below 0.
      const isOver = now > Math.max(0, epoch) && now < epochsMax;
      epoch = now;
      if (isFinished || isOver) yield report;
      else await delay(POLL_MS, undefined, { signal }).catch(() => undefined);
    }
    if (!isFinished) await this.done;
  }

  /** Stops training and goes on sharing (`true`), or trains again (`false`). */
  pause(isResting = true): void {
    this.#peer.rest(isResting);
  }

  /**
   * An invite for one peer that can be used for `epochs` more epochs; a secret.
   * @throws UserError where this peer did not found an invite-only run.
   */
  invite(epochs: number): string {
    return this.#peer.invite(epochs);
  }

  /**
   * Writes the adapter as it stands, for Hugging Face PEFT: adapter_config.json and adapter_model.safetensors in `target`.
   * Works after stop() too. @throws UserError when the directory cannot be written.
   */
  async exportAdapter(target: string): Promise<void> {
    const { run, theta } = await readStoredRun(this.#dir);
    const spec = run.manifest.adapter;
    await writePeftAdapter(target, { spec, theta, baseModelName: this.#modelDir });
  }

  /** Leaves the run; what is worth keeping is on disk when it resolves. May be called twice. Never rejects. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.done.catch(() => undefined);
  }

  static #open(
    { options, contacts, invitedKey, prepare }: Opening,
    { signal, log }: { signal: AbortSignal | undefined; log: Writable | undefined },
  ): Promise<Peer> {
    const stopping = new AbortController();
    const stop = AbortSignal.any([...(signal ? [signal] : []), stopping.signal]);
    const io: VerbIo = {
      stdout: nowhere(),
      stderr: log ?? nowhere(),
      terminal: false,
      signal: stop,
      interrupt: () => stopping.abort(),
    };
    return new Promise((resolve, reject) => {
      const body = async (session: Session): Promise<void> => {
        const init = await prepare(session);
        const { dir: modelDir } = await session.openBase(init.run);
        const parts = { dir: options.dir, modelDir, stopping };
        await keepRunning({ ...init, ...ownOptions(options) }, ({ peer }, until) => {
          resolve(new Peer(peer, { ...parts, done }));
          return aborted(until);
        });
      };
      const done = withSession(options, contacts, io, body, invitedKey).finally(() =>
        stopping.abort(),
      );
      // Once the peer is there these change nothing; before, it ended because it was told to, or failed.
      done.then(() => reject(stop.reason as Error), reject);
    });
  }
}

/** What opening a peer takes. */
interface Opening {
  options: StartValues | JoinValues;
  contacts: readonly string[];
  invitedKey: SwarmKey | null;
  prepare: (session: Session) => Promise<LiveInit>;
}

/** What a Peer keeps. */
interface Opened {
  dir: string;
  modelDir: string;
  done: Promise<void>;
  stopping: AbortController;
}

function check(specs: OptionSpecs, given: object): ResolvedOptions {
  return optionsFrom(specs, { http: 'off', ...(given as Record<string, GivenValue>) });
}

function nowhere(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done() });
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
}
