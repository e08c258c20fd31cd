/** What a peer's private training has spent of its budget, kept on disk ahead of what it can reveal. */
import type { PrivacyGuard, PrivacyReport } from '../interfaces.js';
import { epsilonOf, stepsWithin, type NoisySteps, type PrivacyBudget } from './accountant.js';
import type { PrivateTraining } from './private-gradient.js';

/** What a peer asks for, before its data are counted. */
export type PrivacySettings = Pick<PrivateTraining, 'noise' | 'clip' | 'batchSize'> & PrivacyBudget;

/** Counts steps of one setting after those of earlier ones. */
export class PrivacySpending implements PrivacyGuard {
  readonly #settings: PrivacySettings;
  readonly #sampleRate: number;
  readonly #save: (taken: readonly NoisySteps[]) => Promise<void>;
  /** What is on disk. */
  #taken: readonly NoisySteps[];

  /** `taken`: what is on disk. `save` replaces it atomically, for good, or rejects and leaves it. */
  constructor(
    settings: PrivacySettings & { sampleRate: number },
    taken: readonly NoisySteps[],
    save: (taken: readonly NoisySteps[]) => Promise<void>,
  ) {
    this.#settings = settings;
    this.#sampleRate = settings.sampleRate;
    this.#taken = taken;
    this.#save = save;
  }

  report(): PrivacyReport {
    const { epsilon, delta, noise, clip } = this.#settings;
    return {
      epsilon: epsilonOf(this.#taken, delta),
      epsilonMax: epsilon,
      ...{ delta, noise, clip, sampleRate: this.#sampleRate },
      steps: this.#taken.reduce((sum, { steps }) => sum + steps, 0),
      stepsLeft: stepsWithin(this.#taken, this.#next, this.#settings),
    };
  }

  async charge(steps: number): Promise<void> {
    await this.#add(steps);
  }

  async atLeast(steps: number): Promise<void> {
    await this.#add(Math.max(0, steps - this.report().steps));
  }

  async refund(steps: number): Promise<void> {
    await this.#add(-steps);
  }

  get #next(): Omit<NoisySteps, 'steps'> {
    return { sampleRate: this.#sampleRate, noise: this.#settings.noise };
  }

  async #add(steps: number): Promise<void> {
    if (steps === 0) return;
    const { sampleRate, noise } = this.#next;
    const isSame = (one: NoisySteps): boolean =>
      one.sampleRate === sampleRate && one.noise === noise;
    const before = this.#taken.find(isSame)?.steps ?? 0;
    const others = this.#taken.filter((one) => !isSame(one));
    const taken = [...others, { sampleRate, noise, steps: before + steps }];
    await this.#save(taken);
    this.#taken = taken;
  }
}
