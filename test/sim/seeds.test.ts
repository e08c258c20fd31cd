import assert from 'node:assert/strict';
import { test } from 'node:test';
import { replayOf, runSeeds } from './seeds.js';

const SEEDS = 50;
const FIRST = 1;
const OPTIONS = { scenario: 'everything-brief', peers: 16 };

test(`${OPTIONS.peers} peers with all faults at once end in one adapter, for ${SEEDS} seeds`, async () => {
  let reports = 0;
  await runSeeds(OPTIONS, { first: FIRST, count: SEEDS, jobs: 2 }, ({ seed, error }) => {
    reports += 1;
    assert.equal(error, null, `replay with: ${replayOf(OPTIONS, seed)}`);
  });
  assert.equal(reports, SEEDS);
});
