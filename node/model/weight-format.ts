/** The formats of a model's frozen weights in memory: each peer's own choice. */

/**
 * fp32: float32. bf16: 16 bits as the model's files hold them. int8: 8 bits, one scale for each output feature.
 * int4: 4 bits, one scale for each block of inputs. All but fp32 are mapped from files and never copied.
 */
export const WEIGHT_FORMATS = ['fp32', 'bf16', 'int8', 'int4'] as const;
export type WeightFormat = (typeof WEIGHT_FORMATS)[number];
