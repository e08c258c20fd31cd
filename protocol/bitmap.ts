/** Sets of small numbers as bitmaps: bit n mod 8 of byte floor(n / 8). */

/** `numbers` ascending; trailing zero bytes are left out. */
export function toBitmap(numbers: readonly number[]): Uint8Array<ArrayBuffer> {
  const bitmap = new Uint8Array(((numbers.at(-1) ?? -1) >> 3) + 1);
  for (const n of numbers) bitmap[n >> 3] = (bitmap[n >> 3] ?? 0) | (1 << (n & 7));
  return bitmap;
}

/** The numbers from `start` to `end` - 1 whose bit is set, ascending. Empty bytes cost one step each. */
export function fromBitmap(bitmap: Uint8Array, start = 0, end = 8 * bitmap.length): number[] {
  const numbers: number[] = [];
  const last = Math.min(end, 8 * bitmap.length);
  for (let n = Math.max(0, start); n < last;) {
    const rest = (bitmap[n >> 3] ?? 0) >> (n & 7);
    if (rest === 0) n = (n | 7) + 1;
    else {
      if ((rest & 1) === 1) numbers.push(n);
      n += 1;
    }
  }
  return numbers;
}
