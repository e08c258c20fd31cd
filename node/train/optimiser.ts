/**
 * AdamW on the flat adapter: Adam (Kingma and Ba, 1412.6980) with decoupled weight decay (Loshchilov
 * and Hutter, 1711.05101), in the order of operations of torch.optim.AdamW.
 */
import type { OptimiserState } from '../interfaces.js';
import { firstNotFinite } from '../model/finite.js';

export interface AdamWSettings {
  /** Of this one step, 0 or more. */
  learningRate: number;
  /** Decay of the first moment, 0 to below 1. */
  beta1: number;
  /** Decay of the second moment, 0 to below 1. */
  beta2: number;
  /** Added to the root of the second moment, above 0. */
  epsilon: number;
  /** Weights shrink by learningRate x weightDecay a step, apart from the gradient. */
  weightDecay: number;
}

/** As in torch.nn.utils.clip_grad_norm_: keeps the quotient finite where the norm is zero. */
const CLIP_EPSILON = 1e-6;

/** Zero moments for an adapter of `size` coordinates. */
export function newOptimiserState(size: number): OptimiserState {
  return { step: 0, m: new Float32Array(size), v: new Float32Array(size) };
}

/** Zero moments again, in place. */
export function resetOptimiserState(state: OptimiserState): void {
  state.step = 0;
  state.m.fill(0);
  state.v.fill(0);
}

/** A copy that shares no memory with `state`. */
export function copyOptimiserState(state: OptimiserState): OptimiserState {
  return { step: state.step, m: state.m.slice(), v: state.v.slice() };
}

/** Whether a step can be taken from `state`: finite moments, the second of them not negative. */
export function isFiniteState({ m, v }: OptimiserState): boolean {
  if (firstNotFinite(m) !== -1 || firstNotFinite(v) !== -1) return false;
  for (let i = 0; i < v.length; i++) if (v[i]! < 0) return false;
  return true;
}

/** L2 norm of `values` ([n] float32), summed in float64; NaN or Infinity where one of them is. */
export function l2Norm(values: Float32Array): number {
  let sum = 0;
  // By index: iterating a typed array with for-of is several times slower.
  for (let i = 0; i < values.length; i++) sum += values[i]! * values[i]!;
  return Math.sqrt(sum);
}

/**
 * Scales `gradient` ([n] float32) in place so that its norm is at most `normMax`, as
 * torch.nn.utils.clip_grad_norm_ does over all tensors together. Returns the norm before; where that
 * is not finite the gradient is left alone.
 */
export function clipGradientNorm(gradient: Float32Array, normMax: number): number {
  const norm = l2Norm(gradient);
  const scale = normMax / (norm + CLIP_EPSILON);
  if (Number.isFinite(norm) && scale < 1) {
    for (let i = 0; i < gradient.length; i++) gradient[i]! *= scale;
  }
  return norm;
}

/**
 * One step in place. `theta`, `gradient`, `state.m` and `state.v` are [adapterSize] float32; each
 * coordinate is computed in float64 and stored as float32. Counts `state.step` up.
 */
export function adamWStep(
  theta: Float32Array,
  gradient: Float32Array,
  state: OptimiserState,
  settings: AdamWSettings,
): void {
  const { learningRate, beta1, beta2, epsilon, weightDecay } = settings;
  const { m, v } = state;
  state.step += 1;
  const stepSize = learningRate / (1 - beta1 ** state.step);
  const rootCorrection = Math.sqrt(1 - beta2 ** state.step);
  const keep = 1 - learningRate * weightDecay;
  for (let i = 0; i < theta.length; i++) {
    const g = gradient[i]!;
    const first = m[i]! + (g - m[i]!) * (1 - beta1);
    const second = beta2 * v[i]! + (1 - beta2) * g * g;
    m[i] = first;
    v[i] = second;
    theta[i] =
      theta[i]! * keep - (stepSize * first) / (Math.sqrt(second) / rootCorrection + epsilon);
  }
}
