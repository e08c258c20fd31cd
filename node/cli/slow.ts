/** Says what is being waited for where silence would look like a hang. */
import type { Writable } from 'node:stream';

/** Longest silence before the first line, in ms. */
const QUIET_MS_MAX = 3000;

/** What start and join wait for before they are on the network. */
export const LOADING = 'loading the model and the data';

/** Settles as `work` does; writes "<what> ..." to `out` once when that takes longer than `quietMs`. */
export async function sayIfSlow<T>(
  out: Writable,
  what: string,
  work: Promise<T>,
  quietMs = QUIET_MS_MAX,
): Promise<T> {
  const timer = setTimeout(() => out.write(`${what} ...\n`), quietMs);
  try {
    return await work;
  } finally {
    clearTimeout(timer);
  }
}
