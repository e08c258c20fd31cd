/**
 * Who harms the adapter, as far as this peer's held-out text can tell: the fold of some epochs with and without
 * each author. A survey looks at one author after another, in what training leaves of an epoch, and judges when
 * it has seen them all. It is this peer's own opinion, which goes into a sentence of `attention` and nowhere else:
 * what is folded must not depend on it.
 */
import { EpochFold } from '../../protocol/epoch-fold.js';
import { subtractSteps } from '../../protocol/grid.js';
import type { Run } from '../../protocol/manifest.js';
import type { UpdateHeader } from '../../protocol/update.js';
import type { Logger, Trainer } from '../interfaces.js';
import { inPieces } from './pieces.js';
import type { Replica } from './replica.js';

/**
 * Epochs that a survey leaves authors out of, or more, until all have published equally often: in fewer, one author's
 * share is lost in the noise of a batch.
 */
export const SURVEY_EPOCHS = 4;

/** Looks in one epoch: an evaluation each, and each only where the slot leaves time for it. */
const LOOKS_MAX = 2;

/** With fewer authors there is no saying who is the odd one out. */
const AUTHORS_MIN = 4;

/**
 * An author is named when it harms by so many robust standard deviations (1.4826 times the median distance
 * from the median) more than the middle author does, two surveys in a row: see docs/THREATS.md for what that
 * catches and how often it accuses an honest peer.
 */
const SCORE_MIN = 4;

/** Differences below this share of the loss are noise, whatever the others do. */
const HARM_SHARE_MIN = 0.002;

/** One author in one survey. */
export interface Look {
  author: string;
  /** Held-out loss with all authors and without this one, nats per token. */
  withAll: number;
  without: number;
  /** How far its harm lies above that of the middle author, in robust standard deviations. */
  score: number;
}

/** What an author is named for. */
export interface Suspicion extends Look {
  fromEpoch: number;
  toEpoch: number;
}

interface Survey {
  fromEpoch: number;
  /** Of each epoch from there on, as they were when the survey began. */
  epochs: readonly (readonly UpdateHeader[])[];
  /** The fold's sum before the first of them, and with those of `added`: [adapterSize] whole steps. */
  sum: Float64Array;
  /** Sums of steps are exact: what was added is taken out again, and no second array is needed. */
  added: readonly (readonly UpdateHeader[])[];
  /** Loss of the adapter after the last of them; null before it was measured. */
  withAll: number | null;
  left: string[];
  losses: { author: string; without: number }[];
}

export interface SurveyorComponents {
  replica: Replica;
  trainer: Trainer;
  logger: Logger;
}

export class Surveyor {
  readonly #c: SurveyorComponents;
  readonly #run: Run;
  readonly #rows: EpochFold;
  #survey: Survey | null = null;
  /** Authors that the last survey found harmful, and those that the last two did. */
  #harmful = new Set<string>();
  #suspicions: Suspicion[] = [];

  constructor(components: SurveyorComponents) {
    this.#c = components;
    this.#run = components.replica.run;
    this.#rows = new EpochFold(this.#run, components.replica.formats);
  }

  /** Authors that two surveys in a row found harmful. */
  get suspicions(): readonly Suspicion[] {
    return this.#suspicions;
  }

  /**
   * Looks at the next authors while `hasTime`; a survey that begins is about the epochs before `epoch`, whose
   * updates have come. Rejects with the reason of `signal`.
   */
  async look(epoch: number, hasTime: () => boolean, signal: AbortSignal): Promise<void> {
    for (let i = 0; i < LOOKS_MAX && hasTime(); i++) {
      this.#survey ??= await this.#begin(epoch, signal);
      const survey = this.#survey;
      if (survey === null) return;
      if (survey.fromEpoch < this.#c.replica.readableFrom) {
        this.#survey = null;
        return;
      }
      if (survey.withAll === null) survey.withAll = await this.#loss(survey, null, signal);
      else await this.#lookAtNext(survey, signal);
      if (survey.left.length > 0) continue;
      this.#judge(survey);
      this.#survey = null;
    }
  }

  /** Null while the log has too few epochs or authors. */
  async #begin(epoch: number, signal: AbortSignal): Promise<Survey | null> {
    const { replica } = this.#c;
    const { cohorts } = this.#run.manifest.schedule;
    const length = cohorts * Math.ceil(SURVEY_EPOCHS / cohorts);
    const fromEpoch = epoch - length;
    if (fromEpoch < replica.readableFrom) return null;
    const count = Math.max(length, replica.log.newestEpoch - fromEpoch + 1);
    const since = Array.from({ length: count }, (_, i) => replica.inEpoch(fromEpoch + i));
    const epochs = since.slice(0, length);
    const left = [...new Set(epochs.flat().map(({ author }) => author))].sort();
    if (left.length < AUTHORS_MIN) return null;
    const sum = this.#c.replica.foldSum().slice();
    await this.#add(sum, -1, fromEpoch, since, signal);
    return { fromEpoch, epochs, sum, added: [], withAll: null, left, losses: [] };
  }

  async #lookAtNext(survey: Survey, signal: AbortSignal): Promise<void> {
    const author = survey.left.at(-1);
    if (author === undefined) return;
    const without = await this.#loss(survey, author, signal);
    survey.left.pop();
    survey.losses.push({ author, without });
  }

  /** Held-out loss after the survey's epochs, as if `author` had sent nothing in them; NaN when it is not finite. */
  async #loss(survey: Survey, author: string | null, signal: AbortSignal): Promise<number> {
    const { sum, fromEpoch, epochs } = survey;
    const others = epochs.map((updates) => updates.filter((one) => one.author !== author));
    try {
      await this.#add(sum, -1, fromEpoch, survey.added, signal);
      await this.#add(sum, 1, fromEpoch, others, signal);
      survey.added = others;
    } catch (error) {
      // Half of them are in the sum.
      this.#survey = null;
      throw error;
    }
    const theta = this.#c.replica.initialTheta();
    subtractSteps(theta, sum, theta);
    return (await this.#c.trainer.evaluate(theta, signal)) ?? NaN;
  }

  /** sum <- sum + sign x what the fold makes of these updates. */
  async #add(
    sum: Float64Array,
    sign: 1 | -1,
    fromEpoch: number,
    epochs: readonly (readonly UpdateHeader[])[],
    signal: AbortSignal,
  ): Promise<void> {
    for (const [i, updates] of epochs.entries()) {
      const steps = this.#rows.add(sum, sign, fromEpoch + i, updates, this.#c.replica.log);
      await inPieces(steps, signal);
    }
  }

  #judge({ fromEpoch, withAll, losses }: Survey): void {
    if (withAll === null || !Number.isFinite(withAll)) return;
    const looks = scored(withAll, losses);
    const harmful = looks.filter(
      ({ score, without }) =>
        score >= SCORE_MIN && withAll - without >= HARM_SHARE_MIN * Math.abs(withAll),
    );
    const toEpoch = fromEpoch + SURVEY_EPOCHS - 1;
    this.#suspicions = harmful
      .filter(({ author }) => this.#harmful.has(author))
      .map((look) => ({ ...look, fromEpoch, toEpoch }));
    this.#harmful = new Set(harmful.map(({ author }) => author));
    this.#c.logger.info({ fromEpoch, toEpoch, looks }, 'authors compared');
  }
}

/** The looks of one survey, those whose loss is not finite left out. */
export function scored(
  withAll: number,
  losses: readonly { author: string; without: number }[],
): Look[] {
  const finite = losses.filter(({ without }) => Number.isFinite(without));
  const harms = finite.map(({ without }) => withAll - without);
  const middle = median(harms);
  const spread = 1.4826 * median(harms.map((harm) => Math.abs(harm - middle)));
  const least = Math.max(spread, (HARM_SHARE_MIN * Math.abs(withAll)) / SCORE_MIN);
  return finite.map((one, i) => ({
    ...one,
    withAll,
    score: ((harms[i] ?? 0) - middle) / least,
  }));
}

/** Of an even number of values the mean of the two in the middle; 0 of none. */
function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const upper = sorted[sorted.length >>> 1] ?? 0;
  const lower = sorted[(sorted.length - 1) >>> 1] ?? 0;
  return (upper + lower) / 2;
}
