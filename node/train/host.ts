/**
 * The Trainer of a real peer: training runs in a child process, so that a native crash or the kernel's
 * out-of-memory killer costs a restart and not the peer.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { DatasetStats } from '../data/dataset.js';
import { UserError } from '../errors.js';
import {
  TrainerDiedError,
  type Logger,
  type Trainer,
  type TrainJob,
  type TrainProgress,
  type TrainResult,
} from '../interfaces.js';
import { chooseDevice, cpuInstead, type ChosenDevice, type DeviceChoice } from './choose-device.js';
import type { DomainLosses } from './compare.js';
import type { CallName, CallParams, CallProgress, CallResult, SessionOptions } from './messages.js';
import { TrainingProcess, TrainingProcessError } from './training-process.js';

/** Waits before a restart: doubling from the first to the last, back to the first after a success. */
export const RESTART_MS_MIN = 1000;
export const RESTART_MS_MAX = 60_000;

/** Opening reads the model and tokenises the data: minutes for big ones on a slow disk. */
export const OPEN_TIMEOUT_MS = 20 * 60_000;

export interface TrainerHostOptions extends Omit<SessionOptions, 'device'> {
  device: DeviceChoice;
  logger: Logger;
}

/** After so many deaths in a row `auto` does without a GPU, even one whose small step goes well. */
const GPU_DEATHS_MAX = 2;

const NOT_FINITE =
  'optimiser steps were left out because their loss or gradient was not finite; if it goes on, a run with a lower learning rate is needed';

interface Opened extends CallResult<'open'> {
  process: TrainingProcess;
  chosen: ChosenDevice;
}

/** Calls may overlap; the training process answers them one after another. */
export class TrainerHost implements Trainer {
  readonly #session: Omit<TrainerHostOptions, 'logger'>;
  readonly #logger: Logger;
  /** Aborted by close(): ends waiting for a restart. */
  readonly #closing = new AbortController();
  #process: TrainingProcess | null = null;
  /** The process that calls go to, once it is open. */
  #opened: Promise<Opened>;
  #first: Opened | null = null;
  /** What runs, or ran last. */
  #last: Opened | null = null;
  /** Deaths since the last call that succeeded. */
  #deaths = 0;
  /** Why the last call failed inside the process, in words. */
  #failure: string | null = null;
  #deviceProblem: string | null = null;

  private constructor({ logger, ...session }: TrainerHostOptions) {
    this.#session = session;
    this.#logger = logger;
    this.#opened = this.#launch();
  }

  /**
   * Resolves when the model is on its device and the data are read. Throws UserError (bad model or
   * data), TrainerDiedError (the process died while opening), `signal.reason`. Nothing is left running then.
   */
  static async open(options: TrainerHostOptions, signal?: AbortSignal): Promise<TrainerHost> {
    const host = new TrainerHost(options);
    try {
      host.#first = await until(host.#opened, signal ?? host.#closing.signal);
      return host;
    } catch (error) {
      await host.close();
      if (!(error instanceof TrainerDiedError)) throw error;
      const hint = 'It was opening model and data; a smaller model, batch or sequence needs less.';
      throw new TrainerDiedError(`${error.message} ${hint}`, { cause: error });
    }
  }

  /** What the steps run on, e.g. "cpu (2 threads)"; another one after `auto` has lost a GPU. */
  get device(): string {
    return (this.#last ?? this.#firstOpened()).device;
  }

  /** The device and why it is this one, e.g. "cpu (2 threads); webgpu was not taken: no adapter found". */
  get deviceLine(): string {
    return lineOf(this.#last ?? this.#firstOpened());
  }

  /** A sentence on a device that was lost in mid-run; null when none was. */
  get deviceProblem(): string | null {
    return this.#deviceProblem;
  }

  /** What this peer's data files held when they were first read. */
  get stats(): DatasetStats {
    return this.#firstOpened().stats;
  }

  /** Of the training process; null while there is none. */
  get pid(): number | null {
    return this.#process?.pid ?? null;
  }

  /**
   * Rejects with TrainerDiedError when the process dies or fails (it is started again meanwhile), and
   * with UserError when a restart found model or data spoilt.
   */
  async train(
    job: TrainJob,
    onProgress: (progress: TrainProgress) => void,
    signal: AbortSignal,
  ): Promise<TrainResult> {
    const result = await this.#call('train', job, onProgress, signal);
    const { skippedSteps, steps } = result;
    if (skippedSteps > 0) {
      this.#logger.warn({ epoch: job.epoch, skippedSteps, steps }, NOT_FINITE);
    }
    return result;
  }

  async evaluate(theta: Float32Array, signal: AbortSignal): Promise<number | null> {
    const { loss } = await this.#call('evaluate', { theta }, ignore, signal);
    return loss;
  }

  /** Time of one optimiser step in ms, measured on this peer's own data after a warm-up. */
  async measureStepMs(signal?: AbortSignal): Promise<number> {
    const { stepMs } = await this.#call('measure', {}, ignore, signal ?? this.#closing.signal);
    return stepMs;
  }

  /** What the swarm brought: held-out losses of the base, of training alone, and of `theta`. See compare.ts. */
  async compare(
    params: CallParams<'compare'>,
    onProgress: (progress: CallProgress<'compare'>) => void,
    signal: AbortSignal,
  ): Promise<DomainLosses[]> {
    const { domains } = await this.#call('compare', params, onProgress, signal);
    return domains;
  }

  /** Ends the training process; resolves when it is gone. Calls under way reject. */
  async close(): Promise<void> {
    this.#closing.abort(new TrainerDiedError('The trainer was closed.'));
    await this.#process?.close();
  }

  #firstOpened(): Opened {
    if (this.#first === null) throw new TypeError('TrainerHost.open has not resolved');
    return this.#first;
  }

  async #call<K extends CallName>(
    name: K,
    params: CallParams<K>,
    onProgress: (progress: CallProgress<K>) => void,
    signal: AbortSignal,
  ): Promise<CallResult<K>> {
    this.#closing.signal.throwIfAborted();
    try {
      const { process } = await until(this.#opened, signal);
      const result = await process
        .call(name, params, onProgress, signal)
        .catch(async (error: unknown) => {
          if (!(error instanceof TrainingProcessError)) throw error;
          // An executor that failed once (out of device memory, say) is not asked again: restart.
          this.#failure = error.message;
          await process.close();
          throw new TrainerDiedError(error.message, { cause: error });
        });
      this.#deaths = 0;
      this.#failure = null;
      return result;
    } catch (error) {
      signal.throwIfAborted();
      this.#closing.signal.throwIfAborted();
      throw error;
    }
  }

  /** Opens a process on the device that is to be had now: after a death it is looked for again. */
  async #launch(): Promise<Opened> {
    const { device, threads } = this.#session;
    const isSpent = device === 'auto' && this.#deaths >= GPU_DEATHS_MAX;
    const chosen: ChosenDevice = isSpent
      ? { device: 'cpu', why: `training failed ${this.#deaths} times in a row` }
      : await chooseDevice({ device, threads }, this.#closing.signal);
    try {
      return await this.#open(chosen);
    } catch (error) {
      this.#closing.signal.throwIfAborted();
      if (device !== 'auto' || chosen.device === 'cpu') throw error;
      // The model may be too large for the GPU; what is wrong with model or data, the CPU finds as well.
      const reason = error instanceof Error ? error.message : String(error);
      return this.#open(cpuInstead(chosen, reason));
    }
  }

  /** Forks and opens. A process that dies later is replaced by #relaunch. */
  async #open(chosen: ChosenDevice): Promise<Opened> {
    this.#closing.signal.throwIfAborted();
    const process = TrainingProcess.fork(this.#logger);
    this.#process = process;
    const deadline = AbortSignal.timeout(OPEN_TIMEOUT_MS);
    try {
      const options = { ...this.#session, device: chosen.device };
      const opened = await process.call('open', options, ignore, deadline);
      void process.ended.then((reason) => this.#relaunch(reason));
      this.#last = { ...opened, process, chosen };
      return this.#last;
    } catch (error) {
      await process.close();
      if (error instanceof UserError || error instanceof TrainerDiedError) throw error;
      const message = error instanceof Error ? error.message : String(error);
      throw new TrainerDiedError(`The training process did not open: ${message}`, { cause: error });
    }
  }

  /** Replaces a process that ended, unless it was closed or its files are spoilt. */
  #relaunch(reason: string): void {
    if (this.#closing.signal.aborted) return;
    const waitMs = Math.min(RESTART_MS_MIN * 2 ** this.#deaths, RESTART_MS_MAX);
    this.#deaths++;
    const before = this.#last;
    this.#logger.warn({ waitMs }, `the training process ${reason}; it is started again`);
    const opened = delay(waitMs, undefined, { signal: this.#closing.signal }).then(() =>
      this.#launch(),
    );
    this.#opened = opened;
    opened.then(
      (after) => {
        this.#logger.info({}, 'the training process runs again');
        if (before !== null) this.#compareDevices(before, after, this.#failure ?? reason);
      },
      (error: unknown) => this.#onLaunchFailed(error),
    );
  }

  #compareDevices(before: Opened, after: Opened, reason: string): void {
    if (before.chosen.device === after.chosen.device) return;
    this.#deviceProblem =
      `The device ${before.device} was lost in mid-run (${reason.replace(/\.$/, '')}); training goes on with ` +
      `${lineOf(after)}.`;
    this.#logger.warn({}, this.#deviceProblem);
  }

  #onLaunchFailed(error: unknown): void {
    if (this.#closing.signal.aborted) return;
    const message = error instanceof Error ? error.message : String(error);
    if (error instanceof UserError) {
      this.#logger.error({}, `the training process cannot start: ${message}`);
    } else {
      this.#relaunch(`failed again (${message})`);
    }
  }
}

/** `promise`, or a rejection with `signal.reason` when that comes first. */
function until<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      const reason: unknown = signal.reason;
      reject(reason instanceof Error ? reason : new DOMException(String(reason), 'AbortError'));
    };
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

function lineOf({ device, chosen: { why } }: Opened): string {
  return why === null ? device : `${device}; ${why}`;
}

function ignore(): void {
  // Calls without progress.
}
