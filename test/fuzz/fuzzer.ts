/**
 * A fuzzer guided by coverage, in the manner of AFL (Zalewski 2014): an input that reaches new code is kept, and changed
 * again. V8 says what ran at a price of milliseconds, so that it is asked after a batch of inputs, and a batch that
 * reached something is halved until the input is found. The same seed and targets give the same inputs, but for the
 * length of a batch, which is a time.
 */
import { Prng } from '../../protocol/prng.js';
import { change } from './changes.js';
import { Coverage } from './coverage.js';
import { execute, type FuzzTarget } from './oracle.js';

/** A batch ends after so many inputs, or after so long in ms: asking for coverage is then some tenth of the time. */
const BATCH_INPUTS_MAX = 2_000;
const BATCH_MS_MAX = 200;

/** Making a finding smaller ends after so long, in ms: each attempt may be slow. */
const SHRINK_MS_MAX = 5_000;

export interface FuzzLimits {
  seconds: number;
  /** Executions after which it ends, if the time has not come. */
  executions: number;
  seed: number;
}

export interface FuzzFigures {
  executions: number;
  seconds: number;
  /** Code that was reached: functions, and characters of source. */
  functions: number;
  characters: number;
  /** Inputs that reached new code, the first ones included. */
  corpus: number;
}

/** Hooks into a run: `onInput` before each execution, `onProgress` after each batch. */
export interface FuzzHooks {
  onInput(bytes: Uint8Array): void;
  onProgress(figures: FuzzFigures): void;
}

export class Fuzzer {
  readonly #target: FuzzTarget;
  readonly #hooks: FuzzHooks;
  readonly #coverage = new Coverage();
  readonly #corpus: Uint8Array[] = [];
  readonly #startMs = performance.now();
  #executions = 0;

  constructor(target: FuzzTarget, hooks: FuzzHooks) {
    this.#target = target;
    this.#hooks = hooks;
  }

  get figures(): FuzzFigures {
    return {
      executions: this.#executions,
      seconds: (performance.now() - this.#startMs) / 1_000,
      functions: this.#coverage.functions,
      characters: this.#coverage.reached,
      corpus: this.#corpus.length,
    };
  }

  /** Ends within `limits`, or with the first FuzzFindingError. */
  async run({ seconds, executions, seed }: FuzzLimits): Promise<void> {
    const random = new Prng(Uint8Array.of(...bytesOf(seed)), 'fuzz');
    try {
      for (const input of this.#target.seeds) await this.#try(input);
      this.#corpus.push(...this.#target.seeds);
      this.#coverage.take(true);
      while (this.#executions < executions && this.figures.seconds < seconds) {
        const batch: Uint8Array[] = [];
        const endMs = performance.now() + BATCH_MS_MAX;
        while (batch.length < BATCH_INPUTS_MAX && performance.now() < endMs) {
          const input = change(this.#pick(random), this.#corpus, random);
          batch.push(input);
          await this.#try(input);
        }
        if (this.#coverage.take(false)) await this.#credit(batch);
        this.#hooks.onProgress(this.figures);
      }
    } finally {
      this.#coverage.close();
    }
  }

  /** Newer inputs, which reached what is rare, more often. */
  #pick(random: Prng): Uint8Array {
    const newest = this.#corpus.length - 1;
    const back = random.nextBelow(2) === 0 ? newest + 1 : Math.min(newest + 1, 16);
    return this.#corpus[newest - random.nextBelow(back)] ?? new Uint8Array();
  }

  async #try(input: Uint8Array): Promise<void> {
    this.#executions += 1;
    this.#hooks.onInput(input);
    const pending = execute(this.#target, input);
    // Waiting for nothing would cost more than most decoders.
    if (pending !== undefined) await pending;
  }

  /** Keeps those of `batch` that reach new code. */
  async #credit(batch: readonly Uint8Array[]): Promise<void> {
    const half = Math.ceil(batch.length / 2);
    for (const part of [batch.slice(0, half), batch.slice(half)]) {
      for (const input of part) await this.#try(input);
      const [only, ...others] = part;
      if (only === undefined) continue;
      if (others.length > 0) {
        if (this.#coverage.take(false)) await this.#credit(part);
      } else if (this.#coverage.take(true)) this.#corpus.push(only);
    }
  }
}

function* bytesOf(seed: number): Generator<number> {
  for (let rest = seed; rest > 0; rest = Math.floor(rest / 256)) yield rest % 256;
}

/** A smaller input that breaks the oracle as well: pieces are taken out as long as it does. */
export async function shrink(target: FuzzTarget, input: Uint8Array): Promise<Uint8Array> {
  let smallest = input;
  const endMs = performance.now() + SHRINK_MS_MAX;
  for (let length = input.length >> 1; length > 0; length >>= 1) {
    for (let at = 0; at < smallest.length && performance.now() < endMs;) {
      const smaller = Buffer.concat([smallest.subarray(0, at), smallest.subarray(at + length)]);
      if (await breaks(target, smaller)) smallest = smaller;
      else at += length;
    }
  }
  return Uint8Array.from(smallest);
}

async function breaks(target: FuzzTarget, input: Uint8Array): Promise<boolean> {
  try {
    await execute(target, input);
    return false;
  } catch {
    return true;
  }
}
