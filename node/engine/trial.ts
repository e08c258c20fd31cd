/**
 * One small train step with all that training uses, on random numbers: products, RMSNorm, rotary positions,
 * softmax, the gated MLP, cross entropy and the gradient of a LoRA pair. A device is fit for training when
 * its step agrees with the CPU's, and worth it when its step is the faster one.
 */
import { gradients } from './autodiff.js';
import type { CompiledGraph, Executor, Program, TensorData } from './executor.js';
import { constant, input, scalar, type Value } from './graph.js';
import {
  add,
  addMatmul,
  concat,
  gather,
  linearCrossEntropy,
  matmul,
  mul,
  reshape,
  rmsNorm,
  rotary,
  silu,
  softmax,
  sum,
  transpose,
} from './ops/index.js';

/** Tokens of a sequence. */
export const TRIAL_TOKENS = 128;
const T = TRIAL_TOKENS;
/** Widths of model, heads, MLP, vocabulary and adapter: half a GFLOP a sequence, 7 ms on two cores. */
const [C, HEADS, D, F, V, RANK] = [256, 4, 64, 512, 1024, 8];
const EPS = 1e-5;

/**
 * Largest differences that pass. The gradient's is relative in norm. TensorFloat-32, in which CUDA multiplies,
 * keeps 11 bits: 5e-4 a product, a few times that after the dozen products on the way to the gradient. A wrong
 * kernel is off by the order of 1.
 */
export const TRIAL_BOUNDS = { loss: 1e-3, gradient: 2e-2 } as const;

/** Steps that are timed after the first, and how long they may take in all. */
const TIMED_STEPS = 3;
const TIMED_MS_MAX = 2000;

/**
 * Sequences of a step whose result is compared, and of one that is timed: as many as in a usual batch there,
 * so that starting kernels does not outweigh them.
 */
export const COMPARED_SEQUENCES = 1;
export const TIMED_SEQUENCES = 8;

/** What a step gave. */
export interface TrialResult {
  /** Nats a token; about ln V. */
  readonly loss: number;
  /** Of the adapter: [2 C RANK] float32. */
  readonly gradient: Float32Array;
}

/** The step, compiled for one device. */
export class Trial {
  private constructor(
    private readonly graph: CompiledGraph,
    private readonly feeds: Readonly<Record<string, TensorData>>,
  ) {}

  /** Throws ExecutorError when the device cannot be had. */
  static async open(executor: Executor, sequences: number): Promise<Trial> {
    const { program, feeds } = buildTrial(sequences);
    return new Trial(await executor.compile(program), feeds);
  }

  /** Throws ExecutorError. */
  async step(): Promise<TrialResult> {
    const { loss, gradient } = await this.graph.run(this.feeds);
    return { loss: loss![0]!, gradient: Float32Array.from(gradient!) };
  }

  /** Time of the fastest of a few steps in ms; the first step, which compiles, is the caller's. */
  async fastestMs(): Promise<number> {
    let fastest = Infinity;
    const endMs = performance.now() + TIMED_MS_MAX;
    for (let i = 0; i < TIMED_STEPS && performance.now() < endMs; i++) {
      const startMs = performance.now();
      await this.step();
      fastest = Math.min(fastest, performance.now() - startMs);
    }
    return fastest;
  }

  async dispose(): Promise<void> {
    await this.graph.dispose();
  }
}

/** Why `actual` is not the step that `expected` is, in words; null when it is. */
export function disagreement(actual: TrialResult, expected: TrialResult): string | null {
  const loss = Math.abs(actual.loss / expected.loss - 1);
  if (!(loss <= TRIAL_BOUNDS.loss)) {
    return `it computes a loss of ${actual.loss}, and the CPU ${expected.loss}`;
  }
  const gradient = distance(actual.gradient, expected.gradient);
  if (gradient <= TRIAL_BOUNDS.gradient) return null;
  return (
    `its gradient is off by ${gradient.toPrecision(2)} of the CPU's norm, and at most ` +
    `${TRIAL_BOUNDS.gradient} will do`
  );
}

/** |actual - expected| / |expected|; NaN for what is not a number. */
function distance(actual: Float32Array, expected: Float32Array): number {
  let [difference, norm] = [0, 0];
  for (const [i, value] of expected.entries()) {
    difference += (actual[i]! - value) ** 2;
    norm += value ** 2;
  }
  return Math.sqrt(difference / norm);
}

function buildTrial(B: number): { program: Program; feeds: Record<string, TensorData> } {
  const N = B * T;
  const random = uniform();
  const frozen = (...shape: [number, number]): Value => constant(random(shape), shape);
  const tokens = input('tokens', 'int32', [N]);
  const targets = input('targets', 'int32', [N]);
  const loraA = input('loraA', 'float32', [C, RANK]);
  const loraB = input('loraB', 'float32', [RANK, C]);
  const table = frozen(V, C);
  const norm = (x: Value): Value => rmsNorm(x, constant(new Float32Array(C).fill(1), [C]), EPS);

  const x = gather(table, tokens); // [N, C]
  const h = norm(x);
  const q = addMatmul(matmul(h, frozen(C, C)), matmul(h, loraA), loraB);
  const attended = attend(q, matmul(h, frozen(C, C)), matmul(h, frozen(C, C)));
  const y = addMatmul(x, attended, frozen(C, C));
  const m = norm(y);
  const gated = mul(silu(matmul(m, frozen(C, F))), matmul(m, frozen(C, F)));
  const hidden = norm(addMatmul(y, gated, frozen(F, C)));
  const loss = mul(sum(linearCrossEntropy(hidden, table, targets), [0]), scalar(1 / N));

  const parts = gradients(loss, [loraA, loraB]).map((part) => reshape(part, [C * RANK]));
  const integers = (size: number): Int32Array =>
    Int32Array.from({ length: size }, (_, i) => (i * 7919 + 13 * size) % V);
  return {
    program: { outputs: { loss, gradient: concat(parts, 0) } },
    feeds: {
      tokens: integers(N),
      targets: integers(N).map((token) => (token + 1) % V),
      loraA: random([C, RANK]),
      loraB: random([RANK, C]),
    },
  };
}

/** Causal attention with rotary positions. q, k, v: [N, C] -> [N, C]. */
function attend(q: Value, k: Value, v: Value): Value {
  const N = q.shape[0]!;
  const B = N / T;
  const mask = new Float32Array(T * T);
  for (let t = 0; t < T; t++) mask.fill(-1e9, t * T + t + 1, (t + 1) * T);
  const half = D / 2;
  const angles = Array.from(
    { length: T * half },
    (_, i) => Math.floor(i / half) * 10_000 ** (-(i % half) / half),
  );
  const [cos, sin] = [Math.cos, Math.sin].map((f) =>
    constant(Float32Array.from(angles, f), [T, half]),
  ) as [Value, Value];
  const rotated = (x: Value): Value => rotary(reshape(x, [B, T, C]), cos, sin);
  const byHead = (x: Value): Value => transpose(reshape(x, [B, T, HEADS, D]), [0, 2, 1, 3]);
  const scores = matmul(byHead(rotated(q)), byHead(rotated(k)), {
    transB: true,
    alpha: 1 / Math.sqrt(D),
  }); // [B, HEADS, T, T]
  const weights = softmax(add(scores, constant(mask, [T, T])));
  return reshape(transpose(matmul(weights, byHead(v)), [0, 2, 1, 3]), [N, C]);
}

/**
 * Numbers of one sequence, the same on every machine: `shape` [rows, columns] of them, uniform, such that
 * the product with `rows` numbers of variance 1 has variance 1. A linear congruential generator will do.
 */
function uniform(): (shape: readonly [number, number]) => Float32Array {
  let state = 1;
  return ([rows, columns]) => {
    const largest = Math.sqrt(3 / rows);
    return Float32Array.from({ length: rows * columns }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return largest * (state / 2 ** 31 - 1);
    });
  };
}
