/** In which numbers the frozen weights of a model compute: each peer's own choice. */
import type { CodeMax } from '../engine/ops/quantised.js';

/** As they are, or in 8-bit integers where that does: see LinearLayer. */
export const PRECISIONS = ['fp32', 'int8'] as const;
export type Precision = (typeof PRECISIONS)[number];

/** How a layer multiplies with its weight in 8-bit integers. */
export interface EightBits {
  readonly codeMax: CodeMax;
  /** Of what it reads forward, 8 bits are too few. */
  readonly isSensitive: boolean;
}
