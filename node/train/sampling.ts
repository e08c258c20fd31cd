/** Which token comes next: the likeliest, or one drawn from the softmax at a temperature, of the likeliest ones only. */
import type { Prng } from '../../protocol/prng.js';

/** How a token is chosen. */
export interface Sampling {
  /** 0 takes the likeliest token; above 0 draws from softmax(logits / temperature). */
  temperature: number;
  /** Draws among the fewest tokens that have this share of the probability, above 0 to 1 (nucleus: Holtzman et al. 2020); default 1. */
  topP?: number;
}

/** Index of the next token; `logits`: [vocabSize] float32. */
export function choose(
  logits: Float32Array,
  { temperature, topP = 1 }: Sampling,
  random: Prng,
): number {
  return temperature === 0 ? likeliest(logits) : draw(logits, temperature, random, topP);
}

/** Index of the largest of `logits` ([vocabSize] float32), the first of equal ones. */
export function likeliest(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

/** An index drawn from softmax(logits / temperature); `logits`: [vocabSize] float32, temperature > 0. */
export function draw(logits: Float32Array, temperature: number, random: Prng, topP = 1): number {
  const peak = logits[likeliest(logits)]!;
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - peak) / temperature));
  const total = topP < 1 ? keepNucleus(weights, topP) : sum(weights);
  let left = random.nextFloat() * total;
  for (let i = 0; i < weights.length; i++) {
    left -= weights[i]!;
    if (left < 0) return i;
  }
  return likeliest(logits);
}

/** Zeroes all but the fewest weights, the largest, that have `topP` of the sum; returns what they sum to. */
function keepNucleus(weights: Float64Array, topP: number): number {
  const wanted = topP * sum(weights);
  // Most of a vocabulary has next to no weight: sorting it would take longer than the draw is worth.
  const order = [...weights.keys()].filter((i) => weights[i]! > 1e-12);
  order.sort((a, b) => weights[b]! - weights[a]! || a - b);
  let kept = 0;
  let count = 0;
  while (count < order.length && kept < wanted) kept += weights[order[count++]!]!;
  const nucleus = new Set(order.slice(0, count));
  for (let i = 0; i < weights.length; i++) if (!nucleus.has(i)) weights[i] = 0;
  return kept;
}

function sum(weights: Float64Array): number {
  return weights.reduce((total, weight) => total + weight, 0);
}
