/**
 * What is as large as the adapter, on its way between a peer and its training process: written and read in pieces, one
 * call after another, so that neither side holds a message of it. The moments stay where they were made, and what the
 * peer holds is a name for them.
 */
import { MomentsLostError, type Moments, type TrainJob, type TrainResult } from '../interfaces.js';
import { PIECE_COORDINATES, type AdapterArray } from './adapter-arrays.js';
import type { DomainLosses } from './compare.js';
import {
  PENDING_CALLS_MAX,
  type AdapterParams,
  type CallParams,
  type CallProgress,
  type CallResult,
} from './messages.js';
import type { PersonalExperts } from './personal.js';
import { TrainingProcessError, type TrainingProcess } from './training-process.js';
import { until } from './until.js';

/** A piece that takes longer, once the first one came through, is stuck: the process is killed. */
const PIECE_MS_MAX = 60_000;

/**
 * For so long moments are waited for. They can be saved again after the next epoch, and a peer that is told to stop has
 * little time; what it waits for is no more than a call that was given up and still computes.
 */
const MOMENTS_MS_MAX = 1000;

export class AdapterLink {
  readonly #process: TrainingProcess;
  /** Settles when nothing is under way any more. */
  #turn: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  /** Those that the process holds; null where a call has taken them. */
  #moments: KeptMoments | null = null;

  constructor(process: TrainingProcess) {
    this.#process = process;
    void process.ended.then(() => (this.#moments = null));
  }

  /** As Trainer.train. `onBroken` is told where the moments hold what AdamW never gives: training then begins with zeros. */
  train(
    job: TrainJob,
    onProgress: (progress: CallProgress<'train'>) => void,
    onBroken: () => void,
    signal: AbortSignal,
  ): Promise<TrainResult & { skippedSteps: number }> {
    return this.#alone(signal, async () => {
      const { theta, epoch, steps, deadlineMs, into } = job;
      await this.#write('theta', theta, signal);
      const moments = await this.#hand(job.optimiser, onBroken, signal);
      // Whatever becomes of the call, those from before are gone.
      this.#moments = null;
      const params = { epoch, moments, steps, deadlineMs };
      const { step, ...result } = await this.#process.call('train', params, onProgress, signal);
      this.#moments = new KeptMoments(this, step, theta.length);
      const optimiser = this.#moments;
      const trained = await this.#read('theta', into ?? new Float32Array(theta.length), signal);
      return { ...result, theta: trained, optimiser };
    });
  }

  evaluate(theta: Float32Array, signal: AbortSignal): Promise<CallResult<'evaluate'>> {
    return this.#alone(signal, async () => {
      await this.#write('theta', theta, signal);
      return this.#process.call('evaluate', {}, ignore, signal);
    });
  }

  measure(signal: AbortSignal): Promise<CallResult<'measure'>> {
    return this.#alone(signal, () => this.#process.call('measure', {}, ignore, signal));
  }

  compare(
    { theta, theta0, ...params }: AdapterParams<'compare'>,
    onProgress: (progress: CallProgress<'compare'>) => void,
    signal: AbortSignal,
  ): Promise<DomainLosses[]> {
    return this.#alone(signal, async () => {
      const asked = { ...params, ...(await this.#writeBoth(theta, theta0, signal)) };
      const { domains } = await this.#process.call('compare', asked, onProgress, signal);
      return domains;
    });
  }

  personal(
    { theta, theta0, ...params }: AdapterParams<'personal'>,
    onProgress: (progress: CallProgress<'personal'>) => void,
    signal: AbortSignal,
  ): Promise<PersonalExperts | null> {
    return this.#alone(signal, async () => {
      const asked = { ...params, ...(await this.#writeBoth(theta, theta0, signal)) };
      const { experts } = await this.#process.call('personal', asked, onProgress, signal);
      if (experts === null) return null;
      const made = (array: AdapterArray): Promise<Float32Array> =>
        this.#read(array, new Float32Array(theta.length), signal);
      const [continued, alone] = [await made('continued'), await made('alone')];
      return { ...experts, continued, alone, single: await made('single') };
    });
  }

  /** Whether `moments` are what the process holds. */
  holds(moments: KeptMoments): boolean {
    return this.#moments === moments;
  }

  /** A piece of them. Rejects with MomentsLostError where they are gone, or their process has no time. */
  async readMoments(
    moments: KeptMoments,
    array: 'm' | 'v',
    start: number,
    length: number,
  ): Promise<Float32Array> {
    const reading = this.#alone(never, () => {
      if (!this.holds(moments)) throw new MomentsLostError(GONE);
      return this.#process.call('read', { array, start, length }, ignore, never);
    });
    try {
      const { values } = await until(reading, AbortSignal.timeout(MOMENTS_MS_MAX));
      return checked(values, array, length);
    } catch (error) {
      if (error instanceof MomentsLostError) throw error;
      const why = error instanceof Error ? error.message : String(error);
      throw new MomentsLostError(`the optimiser's moments were not read: ${why}`, { cause: error });
    }
  }

  /** Runs `work` when all that came before has ended, for the arrays are those of one call. */
  async #alone<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    if (this.#waiting >= PENDING_CALLS_MAX) {
      throw new RangeError(
        `${this.#waiting} calls wait for the training process, the most that may: wait for one to end`,
      );
    }
    const turn = this.#turn;
    let done = ignore;
    const mine = new Promise<void>((resolve) => (done = resolve));
    this.#turn = turn.then(() => mine);
    this.#waiting++;
    try {
      await until(turn, signal);
      return await work();
    } finally {
      this.#waiting--;
      done();
    }
  }

  async #write(array: AdapterArray, values: Float32Array, signal: AbortSignal): Promise<void> {
    for (let start = 0; start < values.length; start += PIECE_COORDINATES) {
      await this.#writePiece(
        array,
        start,
        values.subarray(start, start + PIECE_COORDINATES),
        signal,
      );
    }
  }

  async #writePiece(
    array: AdapterArray,
    start: number,
    values: Float32Array,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#process.call('write', { array, start, values }, ignore, signal, silenceOf(start));
  }

  async #writeBoth(
    theta: Float32Array,
    theta0: Float32Array | undefined,
    signal: AbortSignal,
  ): Promise<{ isTheta0Written: boolean }> {
    await this.#write('theta', theta, signal);
    if (theta0 !== undefined) await this.#write('theta0', theta0, signal);
    return { isTheta0Written: theta0 !== undefined };
  }

  async #read(array: AdapterArray, into: Float32Array, signal: AbortSignal): Promise<Float32Array> {
    for (let start = 0; start < into.length; start += PIECE_COORDINATES) {
      const length = Math.min(PIECE_COORDINATES, into.length - start);
      const params = { array, start, length };
      const { values } = await this.#process.call('read', params, ignore, signal, silenceOf(start));
      into.set(checked(values, array, length), start);
    }
    return into;
  }

  /** Sees to it that the process has these moments. */
  async #hand(
    moments: Moments | null,
    onBroken: () => void,
    signal: AbortSignal,
  ): Promise<CallParams<'train'>['moments']> {
    if (moments === null) return { from: 'zero' };
    if (moments === this.#moments) return { from: 'kept' };
    const { size, step } = moments;
    // Counts through m and v.
    let at = 0;
    for await (const piece of moments.pieces()) {
      for (let i = 0; i < piece.length;) {
        const [array, start] = at < size ? (['m', at] as const) : (['v', at - size] as const);
        const values = piece.subarray(i, i + Math.min(PIECE_COORDINATES, size - start));
        if (!isMoment(values, array)) {
          onBroken();
          return { from: 'zero' };
        }
        await this.#writePiece(array, start, values, signal);
        i += values.length;
        at += values.length;
      }
    }
    return { from: 'written', step };
  }
}

/** A name for the moments that a training process holds. */
class KeptMoments implements Moments {
  readonly #link: AdapterLink;

  constructor(
    link: AdapterLink,
    readonly step: number,
    readonly size: number,
  ) {
    this.#link = link;
  }

  get isThere(): boolean {
    return this.#link.holds(this);
  }

  async *pieces(): AsyncGenerator<Float32Array> {
    for (const array of ['m', 'v'] as const) {
      for (let start = 0; start < this.size; start += PIECE_COORDINATES) {
        const length = Math.min(PIECE_COORDINATES, this.size - start);
        yield await this.#link.readMoments(this, array, start, length);
      }
    }
  }
}

const GONE = 'the optimiser’s moments went with the training process';

const never = new AbortController().signal;

/** The first piece may wait for a call that was given up and still computes; those after it for nothing. */
function silenceOf(start: number): number | undefined {
  return start === 0 ? undefined : PIECE_MS_MAX;
}

function checked(values: Float32Array, array: AdapterArray, length: number): Float32Array {
  if (values.length === length) return values;
  throw new TrainingProcessError(
    `The training process gave ${values.length} of ${length} ${array}.`,
  );
}

/** As isFiniteState, of a piece. */
function isMoment(values: Float32Array, array: 'm' | 'v'): boolean {
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value) || (array === 'v' && value < 0)) return false;
  }
  return true;
}

function ignore(): void {
  // Calls without progress.
}
