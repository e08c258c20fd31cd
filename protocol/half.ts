/** IEEE 754 binary16 by integer arithmetic: the scales of the codecs, the same bits on every machine. */

/** Largest finite binary16 value. */
export const HALF_MAX = 65504;

const scratch = new DataView(new ArrayBuffer(8));

/**
 * The binary16 pattern of `value` >= 0, rounded to nearest, ties to even. Values beyond HALF_MAX become HALF_MAX: a
 * scale is never infinite.
 */
export function toHalf(value: number): number {
  return value >= HALF_MAX ? 0x7bff : Math.min(nearestHalf(value), 0x7bff);
}

/** The exact value of a binary16 pattern, 0 to 0xffff; may be infinite or NaN. */
export function fromHalf(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * fraction * 5.960464477539063e-8; // fraction x 2^-24
  scratch.setUint32(0, ((exponent + 112) << 23) | (fraction << 13));
  return sign * scratch.getFloat32(0);
}

function nearestHalf(value: number): number {
  // Below 2^-14 binary16 counts in steps of 2^-24.
  if (value < 6.103515625e-5) return roundTiesToEven(value * 16777216);
  scratch.setFloat64(0, value);
  const high = scratch.getUint32(0);
  // The same digits with exponent 10: 1024 to 2048, of which binary16 keeps the integer part. Straight
  // from the double, because rounding to binary32 first would make ties that are none.
  scratch.setUint32(0, (high & 0xfffff) | (1033 << 20));
  // Exponents are biased by 1023 and 15; 2048 carries into the exponent by itself.
  return ((high >>> 20) - 1009) * 1024 + roundTiesToEven(scratch.getFloat64(0));
}

function roundTiesToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
