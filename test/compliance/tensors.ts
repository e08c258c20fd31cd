/** Small dense tensors of plain numbers, for expected values. */

export class Plain {
  constructor(
    readonly shape: readonly number[],
    readonly data: readonly number[],
  ) {}

  /** The tensor whose element at `index` is f(...index). */
  static from(shape: readonly number[], f: (...index: number[]) => number): Plain {
    const count = shape.reduce((product, n) => product * n, 1);
    const data = Array.from({ length: count }, (_, flat) => {
      const index: number[] = [];
      let rest = flat;
      for (let axis = shape.length - 1; axis >= 0; axis--) {
        index.unshift(rest % shape[axis]!);
        rest = Math.floor(rest / shape[axis]!);
      }
      return f(...index);
    });
    return new Plain(shape, data);
  }

  /** Element at `index`; an index along an axis of length 1 counts as 0 (broadcasting). */
  at(...index: number[]): number {
    const own = index.slice(index.length - this.shape.length);
    const flat = this.shape.reduce((sum, n, axis) => sum * n + (n === 1 ? 0 : own[axis]!), 0);
    return this.data[flat]!;
  }
}

/** Sum of f(0) to f(count - 1). */
export function total(count: number, f: (i: number) => number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += f(i);
  return sum;
}
