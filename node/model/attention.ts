/** Attention over packed sequences: the mask, and grouped queries (Ainslie et al. 2023) without copies. */
import { constant, scalar, type Value } from '../engine/graph.js';
import {
  add,
  concat,
  equal,
  matmul,
  reshape,
  select,
  softmax,
  transpose,
} from '../engine/ops/index.js';
import type { KeyValueCache } from './cache.js';
import type { ModelInputs } from './family.js';

/** Stands for -infinity in the attention mask: e^-1e9 is 0 in float32, and 0 times it is no NaN. */
export const MASKED = -1e9;

/** What one attention layer reads. */
export interface AttentionInputs {
  readonly q: Value;
  readonly k: Value;
  readonly v: Value;
  readonly mask: Value;
  readonly cache: KeyValueCache | undefined;
}

/** Heads of one attention layer. */
export interface AttentionShape {
  /** Query heads, a multiple of keyValueHeads. */
  readonly heads: number;
  readonly keyValueHeads: number;
  /** D: features of one head. */
  readonly headDim: number;
  /** Scores are divided by its square root; null or absent: by that of D. */
  readonly scoreScalar?: number | null;
}

/**
 * [B, 1, 1, T, S] float32: 0 where row t may see column s, else MASKED. The columns are the tokens; with a
 * cache its places come before them. With `window` a row sees that many tokens at most, itself the last.
 */
export function attentionMask(
  { segments, positions, cache }: ModelInputs,
  window: number | null = null,
): Value {
  const [B, T] = segments.shape as [number, number];
  const causal = new Float32Array(T * T).fill(MASKED);
  for (let t = 0; t < T; t++) {
    const first = window === null ? 0 : Math.max(0, t + 1 - window);
    causal.fill(0, t * T + first, t * T + t + 1);
  }
  const same = equal(reshape(segments, [B, 1, 1, T, 1]), reshape(segments, [B, 1, 1, 1, T]));
  const own = select(same, constant(causal, [T, T]), scalar(MASKED)); // [B, 1, 1, T, T]
  return cache === undefined ? own : concat([cache.mask(positions, window), own], 4);
}

/**
 * q: B T heads D, k and v: B T keyValueHeads D elements, token by token, head by head;
 * mask: as attentionMask makes it -> softmax(q k^T / sqrt scoreScalar + mask) v: [B T, heads D] float32.
 * Layers take their keys and values of earlier tokens out of the cache in turn.
 */
export function attention(
  { q, k, v, mask, cache }: AttentionInputs,
  { heads, keyValueHeads, headDim, scoreScalar }: AttentionShape,
): Value {
  const [B, , , T, S] = mask.shape as [number, number, number, number, number];
  // Query heads of one key/value head lie side by side, so keys and values need no copies.
  const group = heads / keyValueHeads;
  const queries = reshape(
    transpose(reshape(q, [B, T, keyValueHeads, group, headDim]), [0, 2, 3, 1, 4]),
    [B, keyValueHeads, group * T, headDim],
  );
  const perHead = (y: Value): Value =>
    transpose(reshape(y, [B, T, keyValueHeads, headDim]), [0, 2, 1, 3]); // [B, KV, T, D]
  const own = { keys: perHead(k), values: perHead(v) };
  const { keys, values } = cache?.extend(own) ?? own; // [B, KV, S, D]
  const scores = matmul(queries, keys, {
    transB: true,
    alpha: 1 / Math.sqrt(scoreScalar ?? headDim),
  });
  const grouped = reshape(scores, [B, keyValueHeads, group, T, S]);
  const attended = matmul(
    reshape(softmax(add(grouped, mask)), [B, keyValueHeads, group * T, S]),
    values,
  );
  const context = transpose(
    reshape(attended, [B, keyValueHeads, group, T, headDim]),
    [0, 3, 1, 2, 4],
  ); // [B, T, KV, G, D]
  return reshape(context, [B * T, heads * headDim]);
}
