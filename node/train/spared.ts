/** With how much less memory training goes on after it ran out. */
import { WEIGHT_FORMATS, type WeightFormat } from '../model/weight-format.js';
import { microBatchSize } from './accumulate.js';
import type { MemoryPlan } from './memory-plan.js';
import type { SessionOptions } from './messages.js';

/** What the next training process is opened with. */
export interface Spared extends Pick<SessionOptions, 'memory' | 'weights'> {
  /** Sequences at once. */
  microBatch: number;
  /** What happened, for `status`. */
  sentence: string;
}

const NO_MEMORY_WITH = 'The training process had no memory left with';

const LOW =
  `${NO_MEMORY_WITH} one sequence at a time, so that it goes on with --memory low: the same training, but about ` +
  'a third slower. Close other programs and start this peer again, or start it with --memory low.';

/**
 * Half as many sequences at once; where there was one, low memory, and then the next smaller format, if they were left
 * open. Null where there is no less. `plan`: how the process used memory; null where nothing is known of it.
 */
export function spare(
  { training, microBatch, memory, weights }: Omit<SessionOptions, 'device' | 'refuseTooLarge'>,
  plan: MemoryPlan | null,
): Spared | null {
  const from =
    plan === null
      ? microBatchSize(training.batchSize, microBatch)
      : plan.replicas * plan.microBatch;
  const format = weights === 'auto' ? (plan?.format ?? 'auto') : weights;
  if (from > 1) {
    const half = Math.floor(from / 2);
    return { microBatch: half, memory, weights: format, sentence: halvedInWords(from) };
  }
  if (plan === null) return null;
  if (memory === 'auto' && plan.memory !== 'low') {
    return { microBatch: 1, memory: 'low', weights: format, sentence: LOW };
  }
  const smaller = WEIGHT_FORMATS[WEIGHT_FORMATS.indexOf(plan.format) + 1];
  if (weights !== 'auto' || smaller === undefined) return null;
  const sentence = smallerInWords(plan.format, smaller);
  return { microBatch: 1, memory: plan.memory, weights: smaller, sentence };
}

/**
 * With how much less a GPU goes on whose memory ran out: how much it has is a guess, or others use it too, so the sequences
 * at once are halved until one is left; then comes low memory, where that was left open; after that the GPU is full.
 */
export class GpuRoom {
  /** Null before its memory ran out. */
  #microBatch: number | null = null;
  #isLow = false;
  #device = '';
  /** Its memory ran out with all that saves any. */
  #isFull = false;
  /** Failures that led to less, since the last success. */
  #spares = 0;

  get microBatch(): number | null {
    return this.#microBatch;
  }

  /** Null as long as it need not be low. */
  get memory(): 'low' | null {
    return this.#isLow ? 'low' : null;
  }

  get isFull(): boolean {
    return this.#isFull;
  }

  get spares(): number {
    return this.#spares;
  }

  /** For `status`; null before anything happened. */
  get sentence(): string | null {
    const to = this.#microBatch;
    if (to === null) return null;
    const now = to === 1 ? 'one sequence goes' : `${to} sequences go`;
    const low = this.#isLow ? ' with --memory low' : '';
    return (
      `The device ${this.#device} ran out of memory, so now ${now} through the model at a time${low}: the same training, but ` +
      `slower. Start this peer with --micro-batch ${to}${this.#isLow ? ' --memory low' : ''} to begin so.`
    );
  }

  /** After its memory ran out: false where there is no less to try. `plan`: how it was used; null where nothing is known. */
  spare(
    device: string,
    { training, microBatch, memory }: Pick<SessionOptions, 'training' | 'microBatch' | 'memory'>,
    plan: MemoryPlan | null,
  ): boolean {
    const planned = plan !== null && plan.gpu !== null ? plan : null;
    const most = this.#microBatch ?? microBatchSize(training.batchSize, microBatch);
    const from = Math.min(most, planned?.microBatch ?? most);
    const isLow = this.#isLow || (planned?.memory ?? memory) === 'low';
    this.#isFull = from === 1 && (isLow || memory !== 'auto');
    if (this.#isFull) return false;
    this.#device = device;
    if (from === 1) this.#isLow = true;
    this.#microBatch = Math.max(1, Math.floor(from / 2));
    this.#spares++;
    return true;
  }

  succeeded(): void {
    this.#spares = 0;
  }
}

function halvedInWords(from: number): string {
  const to = Math.floor(from / 2);
  return (
    `${NO_MEMORY_WITH} ${from} sequences at a time, so that now ${to} go through the model at once: the same ` +
    `training, but slower. Close other programs and start this peer again, or start it with --micro-batch ${to}.`
  );
}

function smallerInWords(from: WeightFormat, to: WeightFormat): string {
  return (
    `${NO_MEMORY_WITH} ${from} weights, so that it goes on with ${to}, which are less exact. Close other programs ` +
    `and start this peer again, or start it with --weights ${to}.`
  );
}
