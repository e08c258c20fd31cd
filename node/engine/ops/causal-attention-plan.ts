/** How attention over long sequences is cut into blocks of queries, and what memory a block takes. */

/** Heads and reach of one attention layer. */
export type CausalAttentionAttributes = {
  /** Query heads, a multiple of keyValueHeads. */
  readonly heads: number;
  readonly keyValueHeads: number;
  /** Scores are multiplied by it. */
  readonly alpha: number;
  /** Tokens that one sees at most, itself the last; 0: no such bound. */
  readonly window: number;
  /** Scores are bounded by softcap; 0: they are not. */
  readonly cap: number;
};

/** Stands for -infinity in masks: e^-1e9 is 0 in float32, and 0 times it is not NaN. */
export const MASKED = -1e9;

/** With fewer rows products are slow, with more a block computes more that its mask hides. */
const ROWS_MIN = 32;
const ROWS_MAX = 128;
/** Short sequences have this many blocks. */
const BLOCKS = 16;
/** Scores in one block, unless ROWS_MIN has more: 64 MiB. */
const SCORES_MAX = 2 ** 24;

/** The sizes of one attention layer, and how its queries are cut into blocks. */
export interface AttentionPlan extends CausalAttentionAttributes {
  readonly B: number;
  readonly T: number;
  /** Query heads of one key/value head. */
  readonly group: number;
  /** Features of one head. */
  readonly D: number;
  /** Blocks, and the queries of each; the last block may have fewer. */
  readonly count: number;
  readonly rows: number;
}

/** q: [B, T, heads D]. */
export function attentionPlan(
  q: { readonly shape: readonly number[] },
  attributes: CausalAttentionAttributes,
): AttentionPlan {
  const { heads, keyValueHeads } = attributes;
  const [B, T, width] = q.shape as [number, number, number];
  const fitting = Math.floor(SCORES_MAX / (B * heads * T));
  const most = Math.max(ROWS_MIN, Math.min(ROWS_MAX, Math.ceil(T / BLOCKS), fitting));
  const count = Math.ceil(T / most);
  return {
    ...{ ...attributes, B, T, group: heads / keyValueHeads, D: width / heads },
    ...{ count, rows: Math.ceil(T / count) },
  };
}

/** Bytes beside operands and result while attention runs forward. */
export function forwardWorkspace(plan: AttentionPlan): number {
  const { scores, mask, queries, keys } = elementsOf(plan);
  // Scores before and after masking or softmax; scaled queries; blocks of the result, twice; keys and values by head, and those of a block.
  return 4 * (2 * scores + 2 * mask + 3 * queries + 4 * keys);
}

/** Bytes beside operands and result while the gradient is computed. */
export function backwardWorkspace(plan: AttentionPlan): number {
  const { scores, mask, queries, keys } = elementsOf(plan);
  // As forward, with the slope of the scores; two sums over keys, the last and the next, and what is added.
  const arrays = plan.cap === 0 ? 3 : 4;
  return 4 * (arrays * scores + 2 * mask + 3 * queries + 10 * keys);
}

/** Elements of one block's scores and mask, of all queries, and of all keys. */
function elementsOf({ B, T, heads, keyValueHeads, D, rows }: AttentionPlan): {
  scores: number;
  mask: number;
  queries: number;
  keys: number;
} {
  return {
    scores: B * heads * rows * T,
    mask: B * rows * T,
    queries: B * T * heads * D,
    keys: B * T * keyValueHeads * D,
  };
}
