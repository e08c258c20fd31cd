/** How a model uses memory while it trains, from as fast as it can be to as little as possible. */
export const MEMORY_MODES = ['fast', 'normal', 'low'] as const;
/**
 * fast: each matrix product lays its weight out anew for itself, once: twice the weights for a few per cent of speed.
 * normal: weights are held once; those of 8 bits are other codes for each product in every mode.
 * low: as normal, and what the layers compute is not kept for the backward pass but computed again, and logits exist
 * for a few tokens at a time.
 */
export type MemoryMode = (typeof MEMORY_MODES)[number];
