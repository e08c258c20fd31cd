/** A row format without a run. */
import { Prng } from '../../protocol/prng.js';
import type { Compression } from '../../protocol/manifest.js';
import { BLOCK_COORDINATES, codeOf, type RowFormat } from '../../protocol/row-format.js';

/** Rows of so many coordinates; `seed` draws the signs. */
export function rowFormat(
  coordinates: number,
  seed = 0,
  codec: Compression['codec'] = 'rot1',
): RowFormat {
  const random = new Prng(Uint8Array.of(seed), 'signs');
  const signs = Float64Array.from({ length: BLOCK_COORDINATES }, () =>
    random.nextBelow(2) === 0 ? 1 : -1,
  );
  const blocks = Math.ceil(coordinates / BLOCK_COORDINATES);
  return { code: codeOf(codec), coordinates, blocks, signs };
}
