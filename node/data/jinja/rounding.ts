/** Numbers rounded as Python rounds them. */

/** As round(): halves go to the even neighbour, of the number as it is written. */
export function rounded(value: number, digits: number): number {
  if (digits === 0) {
    const floor = Math.floor(value);
    const rest = value - floor;
    return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
  }
  if (digits < 0) {
    const unit = 10 ** -digits;
    return rounded(value / unit, 0) * unit;
  }
  return Number(exactFixed(value, Math.min(digits, 100)));
}

/** As '%.*f': by the number's exact value, halves to the even digit. */
export function exactFixed(value: number, digits: number): string {
  // toFixed works with the exact value, and takes the larger of two that are as near.
  const text = value.toFixed(Math.min(100, digits));
  const half = Math.abs(value) * 10 ** digits;
  if (half < 2 ** 52 && half % 1 === 0.5 && Math.floor(half) % 2 === 0) {
    return `${value < 0 ? '-' : ''}${(Math.floor(half) / 10 ** digits).toFixed(digits)}`;
  }
  return text;
}
