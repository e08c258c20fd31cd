/**
 * What a peer's own steps make of the swarm's adapter, on its own held-out text: a taste of the adapter that
 * `export --personal` tunes. The adapter after the steps of an epoch is there anyway, so that an evaluation is all
 * that it costs; it changes nothing of what is trained or sent.
 */
import type { Clock, Trainer, TrainResult } from '../interfaces.js';

/** Evaluations take at most this share of the time that training has taken so far. */
export const PERSONAL_SHARE_MAX = 0.03;

/** The end of an epoch's training: what is measured. */
type Trained = Pick<TrainResult, 'theta' | 'seconds'>;

export class PersonalMeter {
  readonly #trainer: Pick<Trainer, 'evaluate'>;
  readonly #clock: Pick<Clock, 'now'>;
  #theta: Float32Array | null = null;
  #trainedMs = 0;
  #measuredMs = 0;
  #loss: number | null = null;

  constructor(trainer: Pick<Trainer, 'evaluate'>, clock: Pick<Clock, 'now'>) {
    this.#trainer = trainer;
    this.#clock = clock;
  }

  /** Held-out loss, nats per token; null before the first measurement, and where it was not finite. */
  get loss(): number | null {
    return this.#loss;
  }

  /** An epoch was trained. */
  note({ theta, seconds }: Trained): void {
    this.#theta = theta;
    this.#trainedMs += 1000 * seconds;
  }

  /**
   * Measures the last adapter that was noted, once. `predictedMs` is what an evaluation takes; where it would end after
   * `untilMs` of the clock or beyond PERSONAL_SHARE_MAX nothing happens. After the run (`untilMs` Infinity) time
   * is nobody's. Rejects with the reason of `signal`.
   */
  async measure(predictedMs: number, untilMs: number, signal: AbortSignal): Promise<void> {
    const theta = this.#theta;
    if (theta === null) return;
    const startMs = this.#clock.now();
    const isOver = untilMs === Infinity;
    const isAffordable = this.#measuredMs + predictedMs <= PERSONAL_SHARE_MAX * this.#trainedMs;
    if (!isOver && (!isAffordable || startMs + predictedMs > untilMs)) return;
    this.#theta = null;
    const loss = await this.#trainer.evaluate(theta, signal);
    this.#measuredMs += this.#clock.now() - startMs;
    this.#loss = Number.isFinite(loss) ? loss : null;
  }
}
