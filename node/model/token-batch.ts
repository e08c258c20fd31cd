/** What data and model agree on: the arrays of one batch. */

/** Target of a position that is not trained: the ignore index of PyTorch's cross entropy. */
export const IGNORED_TARGET = -100;

/** Row-major [B, T] int32 each. */
export interface TokenBatch {
  /** 0 to vocabSize - 1. */
  readonly tokens: Int32Array;
  /** The token to predict after each position, or IGNORED_TARGET. */
  readonly targets: Int32Array;
  /** A position sees the earlier positions (and itself) whose segment is the same. */
  readonly segments: Int32Array;
}
