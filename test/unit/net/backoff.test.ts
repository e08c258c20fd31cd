import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BACKOFF_BASE_MS, BACKOFF_MAX_MS, backoffMs } from '../../../node/net/backoff.js';

describe('backoffMs', () => {
  it('doubles from the base to the bound', () => {
    const waits = [1, 2, 3, 4, 5, 6].map((failures) => backoffMs(failures, 1));
    assert.deepEqual(waits, [1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
  });

  it('waits at least half and never more than the bound, whatever the dice say', () => {
    fc.assert(
      fc.property(
        fc.nat(),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (n, r) => {
          const waitMs = backoffMs(n, r);
          assert.ok(waitMs >= BACKOFF_BASE_MS / 2 && waitMs <= BACKOFF_MAX_MS, `${waitMs}`);
        },
      ),
    );
  });

  it('spreads peers that failed together over half of the wait', () => {
    assert.deepEqual([backoffMs(3, 0), backoffMs(3, 0.5), backoffMs(3, 1)], [2_000, 3_000, 4_000]);
  });
});
