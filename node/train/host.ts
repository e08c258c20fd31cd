/**
 * The Trainer of a real peer: training runs in a child process, so that a native crash or the kernel's
 * out-of-memory killer costs a restart and not the peer.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { DatasetStats } from '../data/dataset.js';
import type { Device } from '../engine/devices.js';
import { UserError } from '../errors.js';
import {
  TrainerDiedError,
  type Logger,
  type Trainer,
  type TrainJob,
  type TrainProgress,
  type TrainResult,
} from '../interfaces.js';
import { refuseNotFinite } from '../model/finite.js';
import type { WeightFormat } from '../model/weight-format.js';
import type { AdapterSpec } from '../../protocol/adapter.js';
import { AdapterLink } from './adapter-link.js';
import { chooseDevice, cpuInstead, type ChosenDevice, type DeviceChoice } from './choose-device.js';
import type { DomainLosses } from './compare.js';
import { isGpu } from './gpu-memory.js';
import type { MemoryPlan } from './memory-plan.js';
import type {
  AdapterParams,
  CallName,
  CallProgress,
  CallResult,
  DataProgress,
  PackingProgress,
  SessionOptions,
} from './messages.js';
import type { PersonalExperts } from './personal.js';
import { SilenceTimer } from './silence-timer.js';
import { GpuRoom, spare, type Spared } from './spared.js';
import { TrainingMemoryError, TrainingProcess, TrainingProcessError } from './training-process.js';
import { until } from './until.js';

/** Waits before a restart: doubling from the first to the last, back to the first after a success. */
export const RESTART_MS_MIN = 1000;
export const RESTART_MS_MAX = 60_000;

/** Opening may be silent for so long, in ms: it reads the model and the data, and of the data it tells how far it is. */
export const OPEN_TIMEOUT_MS = 20 * 60_000;

export interface TrainerHostOptions extends Omit<
  SessionOptions,
  'adapter' | 'device' | 'refuseTooLarge'
> {
  adapter: AdapterSpec;
  device: DeviceChoice;
  logger: Logger;
  /** Told what training will take, before the model is loaded for the first time. */
  onPlan?: (plan: MemoryPlan) => void;
  /** Told now and then how far reading the data is, the first time. */
  onReading?: (progress: DataProgress) => void;
  /** Told now and then how far the packed copy of the weights is, where one is made. */
  onPacking?: (progress: PackingProgress) => void;
}

/** After so many deaths in a row `auto` does without a GPU, even one whose small step goes well. */
const GPU_DEATHS_MAX = 2;

/** What to do where a number that is not finite has come in by the disk or by a fault of the device. */
const BROKEN_ADAPTER =
  'nothing can be trained from it; stop this peer, and join again with another --dir or put back a copy of its own';
const BROKEN_OPTIMISER =
  'the optimiser that was kept holds NaN or infinity (a damaged disk, or a fault of the device) and is dropped: training goes on with a new one';
const BROKEN_PERSONAL = 'nothing of it is kept; the swarm’s adapter is as it was';
const NOT_FINITE =
  'optimiser steps were left out because their loss or gradient was not finite; if it goes on, a run with a lower learning rate is needed';

interface Opened extends CallResult<'open'> {
  process: TrainingProcess;
  link: AdapterLink;
  chosen: ChosenDevice;
}

/** What is told while a process opens. */
type Told = 'onPlan' | 'onReading' | 'onPacking';

/** Calls may overlap; the training process answers them one after another. */
export class TrainerHost implements Trainer {
  readonly #session: Omit<TrainerHostOptions, 'logger' | Told>;
  readonly #logger: Logger;
  readonly #onPlan: (plan: MemoryPlan) => void;
  readonly #onReading: (progress: DataProgress) => void;
  readonly #onPacking: (progress: PackingProgress) => void;
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
  /** The same of each call by itself: a GPU may train and have no room left to evaluate. */
  readonly #failures = new Map<CallName, number>();
  /** Whether the first process of all died while it opened model and data. */
  #isSecondTry = false;
  /** How the last process was to use memory; null before one said so. */
  #plan: MemoryPlan | null = null;
  /** Null before memory ran out. */
  #spared: Spared | null = null;
  readonly #gpuRoom = new GpuRoom();
  /** Whether memory ran out after that, and no call has succeeded since. */
  #isExhausted = false;
  /** Why the last call failed inside the process, in words. */
  #failure: string | null = null;
  /** A sentence on a device that was lost in mid-run. */
  #deviceProblem: string | null = null;
  /** A sentence on how the device that runs evaluates; null when there is nothing to say. */
  #remark: string | null = null;

  private constructor({
    logger,
    onPlan = ignore,
    onReading = ignore,
    onPacking = ignore,
    ...session
  }: TrainerHostOptions) {
    this.#session = session;
    this.#logger = logger;
    this.#onPlan = onPlan;
    this.#onReading = onReading;
    this.#onPacking = onPacking;
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
      const hint =
        'It was opening model and data; less memory is needed with --micro-batch 1, shorter sequences or a smaller model.';
      throw new TrainerDiedError(`${error.message} ${hint}`, { cause: error });
    }
  }

  /** What the steps run on, e.g. "cpu (2 threads)"; another one after `auto` has lost a GPU. */
  get device(): string {
    return (this.#last ?? this.#firstOpened()).device;
  }

  /** Of the frozen weights: what was chosen, where that was left open. */
  get weights(): WeightFormat {
    return (this.#last ?? this.#firstOpened()).weights;
  }

  /** The device and why it is this one, e.g. "cpu (2 threads); webgpu was not taken: no adapter found". */
  get deviceLine(): string {
    return lineOf(this.#last ?? this.#firstOpened());
  }

  /** What this peer's data files held when they were first read. */
  get stats(): DatasetStats {
    return this.#firstOpened().stats;
  }

  /** Probability of a record to be in a step of private training; null where training is not private. */
  get sampleRate(): number | null {
    return this.#firstOpened().sampleRate;
  }

  /** Sentences for `status`: what the user should know of how training runs. */
  get attention(): string[] {
    const sentences: string[] = [];
    if (this.#deviceProblem !== null) sentences.push(this.#deviceProblem);
    if (this.#remark !== null) sentences.push(this.#remark);
    if (this.#spared !== null) sentences.push(this.#spared.sentence);
    const isOnGpu = isGpu(this.#last?.chosen.device ?? 'cpu');
    if (isOnGpu && this.#gpuRoom.sentence !== null) sentences.push(this.#gpuRoom.sentence);
    if (this.#isExhausted) {
      sentences.push(
        'The training process has no memory left, and is started again to try once more: close other programs, ' +
          'start this peer with --micro-batch 1, or take part in a run with shorter sequences or a smaller model.',
      );
    }
    return sentences;
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
    refuseNotFinite(job.theta, "the run's adapter", BROKEN_ADAPTER);
    const onBroken = (): void => this.#logger.warn({ epoch: job.epoch }, BROKEN_OPTIMISER);
    const result = await this.#call('train', signal, (link) =>
      link.train(job, onProgress, onBroken, signal),
    );
    const { skippedSteps, steps } = result;
    if (skippedSteps > 0) {
      this.#logger.warn({ epoch: job.epoch, skippedSteps, steps }, NOT_FINITE);
    }
    return result;
  }

  async evaluate(theta: Float32Array, signal: AbortSignal): Promise<number | null> {
    const { loss, remark } = await this.#call('evaluate', signal, (link) =>
      link.evaluate(theta, signal),
    );
    if (remark !== null && this.#remark === null) this.#logger.warn({}, remark);
    this.#remark = remark;
    return loss;
  }

  /** Time of one optimiser step in ms, measured on this peer's own data after a warm-up. */
  async measureStepMs(signal: AbortSignal = this.#closing.signal): Promise<number> {
    const { stepMs } = await this.#call('measure', signal, (link) => link.measure(signal));
    return stepMs;
  }

  /** What the swarm brought: held-out losses of the base, of training alone, and of `theta`. See compare.ts. */
  async compare(
    params: AdapterParams<'compare'>,
    onProgress: (progress: CallProgress<'compare'>) => void,
    signal: AbortSignal,
  ): Promise<DomainLosses[]> {
    const asked = { ...params, theta0: this.#session.adapter.theta0 };
    return this.#call('compare', signal, (link) => link.compare(asked, onProgress, signal));
  }

  /** See personal.ts; null without held-out text. As train. */
  async tunePersonal(
    params: AdapterParams<'personal'>,
    onProgress: (progress: CallProgress<'personal'>) => void,
    signal: AbortSignal,
  ): Promise<PersonalExperts | null> {
    const asked = { ...params, theta0: this.#session.adapter.theta0 };
    const experts = await this.#call('personal', signal, (link) =>
      link.personal(asked, onProgress, signal),
    );
    if (experts === null) return null;
    refuseNotFinite(experts.continued, 'the adapter that continued on own text', BROKEN_PERSONAL);
    refuseNotFinite(experts.alone, 'the adapter that was trained alone', BROKEN_PERSONAL);
    refuseNotFinite(experts.single, 'the best as one adapter', BROKEN_PERSONAL);
    return experts;
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

  async #call<T>(
    name: CallName,
    signal: AbortSignal,
    ask: (link: AdapterLink) => Promise<T>,
  ): Promise<T> {
    this.#closing.signal.throwIfAborted();
    try {
      const { process, link, chosen } = await until(this.#opened, signal);
      const result = await ask(link).catch(async (error: unknown) => {
        if (!(error instanceof TrainingProcessError)) throw error;
        if (error instanceof TrainingMemoryError) this.#spare(chosen);
        // An executor that failed once is not asked again: restart.
        this.#failure = error.message;
        await process.close();
        throw new TrainerDiedError(error.message, { cause: error });
      });
      this.#deaths = 0;
      this.#failures.delete(name);
      this.#gpuRoom.succeeded();
      this.#isExhausted = false;
      this.#failure = null;
      return result;
    } catch (error) {
      signal.throwIfAborted();
      this.#closing.signal.throwIfAborted();
      if (error instanceof TrainerDiedError) {
        this.#failures.set(name, (this.#failures.get(name) ?? 0) + 1);
      }
      throw error;
    }
  }

  /** Opens a process on the device that is to be had now: after a death it is looked for again. */
  async #launch(): Promise<Opened> {
    const { device, threads, weights } = this.#session;
    const failures = Math.max(this.#deaths, ...this.#failures.values());
    const isSpent = failures - this.#gpuRoom.spares >= GPU_DEATHS_MAX;
    const why = this.#gpuRoom.isFull
      ? 'the GPU has too little memory for one sequence'
      : `training failed ${failures} times in a row`;
    const isGivenUp = device === 'auto' && (isSpent || this.#gpuRoom.isFull);
    const chosen: ChosenDevice = isGivenUp
      ? { device: 'cpu', why }
      : await chooseDevice({ device, threads, weights }, this.#closing.signal);
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

  /**
   * Forks and opens: a second time where memory of the CPU ran out, and where the first process of all died.
   * A process that dies later is replaced by #relaunch.
   */
  async #open(chosen: ChosenDevice): Promise<Opened> {
    this.#closing.signal.throwIfAborted();
    const process = TrainingProcess.fork(this.#logger, chosen.device);
    this.#process = process;
    const silence = new SilenceTimer(OPEN_TIMEOUT_MS);
    const { privacy } = this.#session;
    const adapter = withoutTheta0(this.#session.adapter);
    const session = {
      ...this.#session,
      adapter,
      // The rate that the budget reckons with stays, whatever has become of the data files since.
      ...(privacy && {
        privacy: { ...privacy, sampleRate: this.#first?.sampleRate ?? privacy.sampleRate },
      }),
      device: chosen.device,
      microBatch: this.#microBatch(chosen.device),
      memory: this.#memory(chosen.device),
      // Losses of one run are compared with each other: the format stays what it was at first.
      weights: this.#spared?.weights ?? this.#format(chosen.device),
      // A peer that was running does not end because something else takes memory for a while.
      refuseTooLarge:
        this.#first === null && this.#spared === null && this.#gpuRoom.microBatch === null,
    };
    try {
      const onProgress = (progress: CallProgress<'open'>): void => {
        silence.heard();
        if ('records' in progress) this.#reading(progress);
        else if ('packed' in progress) this.#onPacking(progress);
        else if ('sentence' in progress) this.#logger.info({}, progress.sentence);
        else this.#planned(progress);
      };
      const opened = await process.call('open', session, onProgress, silence.signal);
      void process.ended.then(({ reason, isOutOfMemory }) => {
        if (isOutOfMemory) this.#spare(chosen);
        this.#relaunch(reason);
      });
      this.#last = { ...opened, process, link: new AdapterLink(process), chosen };
      this.#remark = null;
      return this.#last;
    } catch (error) {
      await process.close();
      const { isOutOfMemory } = await process.ended;
      const isShort = isOutOfMemory || error instanceof TrainingMemoryError;
      if (isShort && this.#spare(chosen)) return await this.#open(chosen);
      if (error instanceof UserError) throw error;
      if (error instanceof TrainerDiedError) {
        if (isShort || this.#first !== null || this.#isSecondTry) throw error;
        // Whoever killed it may have meant something else; what crashes by itself does so again.
        this.#isSecondTry = true;
        this.#logger.warn({ reason: error.message }, 'the training process is started once more');
        return await this.#open(chosen);
      }
      const message = error instanceof Error ? error.message : String(error);
      throw new TrainerDiedError(`The training process did not open: ${message}`, { cause: error });
    } finally {
      silence.stop();
    }
  }

  #reading(progress: DataProgress): void {
    if (this.#first === null) this.#onReading(progress);
  }

  /** Sequences at once, fewer where memory ran out. */
  #microBatch(device: Device): SessionOptions['microBatch'] {
    const spared = isGpu(device) ? this.#gpuRoom.microBatch : this.#spared?.microBatch;
    return spared ?? this.#session.microBatch;
  }

  #memory(device: Device): SessionOptions['memory'] {
    const spared = isGpu(device) ? this.#gpuRoom.memory : this.#spared?.memory;
    return spared ?? this.#session.memory;
  }

  /** That of the last process on such a device, or as asked for. */
  #format(device: Device): SessionOptions['weights'] {
    const last = this.#last?.chosen.device === device ? this.#last.weights : null;
    return last ?? this.#session.weights;
  }

  #planned(plan: MemoryPlan): void {
    const isNew = this.#plan === null || this.#plan.gpu?.device !== plan.gpu?.device;
    if (isNew && this.#first === null) this.#onPlan(plan);
    this.#plan = plan;
    this.#logger.debug({ ...plan }, 'memory planned');
  }

  #spareGpu(device: Device): boolean {
    if (!this.#gpuRoom.spare(device, this.#session, this.#plan)) return false;
    this.#logger.warn({ device }, this.#gpuRoom.sentence ?? '');
    return true;
  }

  /**
   * The first time that memory ran out, the next process takes less: see spared.ts. False when that was done before or
   * there is no less. A GPU takes less each time.
   */
  #spare({ device }: ChosenDevice): boolean {
    if (isGpu(device)) return this.#spareGpu(device);
    const spared = this.#spared === null ? spare(this.#session, this.#plan) : null;
    this.#isExhausted = spared === null;
    if (spared === null) return false;
    this.#spared = spared;
    this.#logger.warn({ ...spared }, spared.sentence);
    return true;
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

/** theta0 is as large as the adapter: it goes in pieces, to the calls that need it. */
function withoutTheta0({ rank, alpha, seed, targetModules, modules }: AdapterSpec): AdapterSpec {
  return { rank, alpha, seed, targetModules, modules };
}

function lineOf({ device, chosen: { why } }: Opened): string {
  return why === null ? device : `${device}; ${why}`;
}

function ignore(): void {
  // Calls without progress.
}
