/**
 * What a peer's own steps make of the swarm's adapter, on its own held-out text: a taste of the adapter that
 * `export --personal` tunes. The adapter after the steps of an epoch is there anyway, so that an evaluation is all
 * that it costs; it changes nothing of what is trained or sent.
 */
import type { Clock, Trainer, TrainResult } from '../interfaces.js';

/** Evaluations take at most this share of the time that training has taken so far. */
export const PERSONAL_SHARE_MAX = 0.03;

/** The end of an epoch's training: what is measured. `epoch` is that of the update which was made of it. */
type Trained = Pick<TrainResult, 'theta' | 'seconds'> & { epoch: number };

/** The loss after the own steps of one epoch, nats per token. */
export interface PersonalLoss {
  epoch: number;
  loss: number;
}

export class PersonalMeter {
  readonly #trainer: Pick<Trainer, 'evaluate'>;
  readonly #clock: Pick<Clock, 'now'>;
  #trained: Pick<Trained, 'theta' | 'epoch'> | null = null;
  #trainedMs = 0;
  #measuredMs = 0;
  #newest: PersonalLoss | null = null;

  constructor(trainer: Pick<Trainer, 'evaluate'>, clock: Pick<Clock, 'now'>) {
    this.#trainer = trainer;
    this.#clock = clock;
  }

  /** What was measured last, on held-out text; null before the first measurement, and where it was not finite. */
  get newest(): PersonalLoss | null {
    return this.#newest;
  }

  /** An epoch was trained. */
  note({ theta, epoch, seconds }: Trained): void {
    this.#trained = { theta, epoch };
    this.#trainedMs += 1000 * seconds;
  }

  /** What was noted is not there any more. */
  forget(): void {
    this.#trained = null;
  }

  /**
   * Measures the last adapter that was noted, once. `predictedMs` is what an evaluation takes; where it would end after
   * `untilMs` of the clock or beyond PERSONAL_SHARE_MAX nothing happens. After the run (`untilMs` Infinity) time
   * is nobody's. Rejects with the reason of `signal`.
   */
  async measure(predictedMs: number, untilMs: number, signal: AbortSignal): Promise<void> {
    const trained = this.#trained;
    if (trained === null) return;
    const startMs = this.#clock.now();
    const isOver = untilMs === Infinity;
    const isAffordable = this.#measuredMs + predictedMs <= PERSONAL_SHARE_MAX * this.#trainedMs;
    if (!isOver && (!isAffordable || startMs + predictedMs > untilMs)) return;
    this.#trained = null;
    const loss = await this.#trainer.evaluate(trained.theta, signal);
    this.#measuredMs += this.#clock.now() - startMs;
    const isFinite = loss !== null && Number.isFinite(loss);
    this.#newest = isFinite ? { epoch: trained.epoch, loss } : null;
  }
}
