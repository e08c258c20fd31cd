/** In which numbers the frozen weights of a model compute: each peer's own choice. */

/** As they are, or linear layers that are quantisable in 8-bit integers: see LinearLayer. */
export const PRECISIONS = ['fp32', 'int8'] as const;
export type Precision = (typeof PRECISIONS)[number];
