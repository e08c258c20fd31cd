/** How a model uses memory while it trains: as it is fastest, or as little as possible. */
export const MEMORY_MODES = ['normal', 'low'] as const;
/**
 * low: what the layers compute is not kept for the backward pass but computed again, logits exist for a few
 * tokens at a time, and weights are held once.
 */
export type MemoryMode = (typeof MEMORY_MODES)[number];
