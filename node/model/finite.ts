/** Keeps NaN and infinity out of an adapter: one such number, once averaged, would be in the adapter of every peer. */
import { UserError } from '../errors.js';

/** Where the first value is that is no finite number; -1 without one. */
export function firstNotFinite(values: Float32Array | Float64Array): number {
  // By index: `every` with a callback takes ten times as long.
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return i;
  return -1;
}

/** Throws UserError: "`what` holds NaN (value 17 of 4096): `remedy`". */
export function refuseNotFinite(
  values: Float32Array | Float64Array,
  what: string,
  remedy: string,
): void {
  const at = firstNotFinite(values);
  if (at === -1) return;
  const found = Number.isNaN(values[at]) ? 'NaN' : 'infinity';
  throw new UserError(`${what} holds ${found} (value ${at + 1} of ${values.length}): ${remedy}`);
}
