import assert from 'node:assert/strict';
import { test } from 'node:test';
import { replayOf, runSeeds } from './seeds.js';

/** One takes about three and a half seconds of CPU time. */
const SEEDS = 8;
const FIRST = 1;
const OPTIONS = { scenario: 'everything', peers: 16 };

test(`${OPTIONS.peers} peers with all faults at once end in one adapter, for ${SEEDS} seeds`, async () => {
  let reports = 0;
  await runSeeds(OPTIONS, { first: FIRST, count: SEEDS, jobs: 2 }, ({ seed, error }) => {
    reports += 1;
    assert.equal(error, null, `replay with: ${replayOf(OPTIONS, seed)}`);
  });
  assert.equal(reports, SEEDS);
});
