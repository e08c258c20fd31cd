/** What a case of the compliance suite over operations is made of. */
import type { Value } from '../../node/engine/graph.js';
import type { Prng } from '../../protocol/prng.js';
import type { Plain } from './tensors.js';

export interface Operand {
  shape: readonly number[];
  dtype: 'float32' | 'int32';
  /** Whether a gradient by this operand is checked. */
  gradient: boolean;
  draw: (random: Prng) => number;
}

export interface OperationCase {
  operation: string;
  what: string;
  inputs: readonly Operand[];
  build: (inputs: readonly Value[]) => Value;
  expected: (inputs: readonly Plain[]) => Plain;
  /** Of values, relative to those above 1. Default: what rounding in float32 makes. */
  tolerance?: number;
}

export function drawn(shape: readonly number[], draw: Operand['draw'], gradient = true): Operand {
  return { shape, dtype: 'float32', gradient, draw };
}
export const centred = (...shape: number[]): Operand =>
  drawn(shape, (random) => 4 * random.nextFloat() - 2);
export const positive = (...shape: number[]): Operand =>
  drawn(shape, (random) => 0.5 + 2 * random.nextFloat());
/** Multiples of 0.1 plus `shift`: two such operands with shifts 0 and 0.05 are never close. */
export const grid = (shift: number, ...shape: number[]): Operand =>
  drawn(shape, (random) => Math.floor(20 * random.nextFloat()) / 10 + shift);
export const fixed = (operand: Operand): Operand => ({ ...operand, gradient: false });
export const whole = (below: number, ...shape: number[]): Operand => ({
  shape,
  dtype: 'int32',
  gradient: false,
  draw: (random) => Math.floor(below * random.nextFloat()),
});

/** The nearest multiples of `scale`. Ties are left to chance: the operands have none. */
function nearest(numbers: readonly number[], scale: number): number[] {
  return numbers.map((x) => Math.round(x / scale) * scale);
}

/** Codes up to `codeMax` of numbers that share a scale, times it; with `isFine` and codes of what that leaves. */
export function quantised(numbers: readonly number[], codeMax: number, isFine = false): number[] {
  const scale = Math.max(...numbers.map(Math.abs)) / codeMax;
  const coarse = nearest(numbers, scale);
  if (!isFine) return coarse;
  const left = numbers.map((x, i) => x - coarse[i]!);
  return nearest(left, scale / 254).map((x, i) => x + coarse[i]!);
}
