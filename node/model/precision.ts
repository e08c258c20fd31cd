/** In which numbers the frozen weights of a model compute: each peer's own choice. */

/** As they are, or in 8-bit integers where that does: see frozen-product.ts. */
export const PRECISIONS = ['fp32', 'int8'] as const;
export type Precision = (typeof PRECISIONS)[number];
