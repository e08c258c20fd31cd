import assert from 'node:assert/strict';
import { test } from 'node:test';
import { replayOf, runSeeds } from '../seeds.js';
import { drawPlan, HOSTILE_ACTS, MACHINE_FAULTS, NETWORK_FAULTS } from './plan.js';
import { provenKinds } from './run.js';
import { unprovenFaults } from './expected-red.js';

const SEEDS = 30;
const FIRST = 1;
const OPTIONS = { scenario: 'hostile', peers: 16 };

test(`hostile members, faults and manifests of ${SEEDS} seeds leave one adapter of all honest work`, async () => {
  let reports = 0;
  await runSeeds(OPTIONS, { first: FIRST, count: SEEDS, jobs: 2 }, ({ seed, error }) => {
    reports += 1;
    assert.equal(error, null, `replay with: ${replayOf(OPTIONS, seed)}`);
  });
  assert.equal(reports, SEEDS);
});

test('the plans of these seeds have every fault in them, and every kind of run', () => {
  const plans = Array.from({ length: SEEDS }, (_, i) => drawPlan(FIRST + i, provenKinds()));
  const drawn = new Set<string>(plans.flatMap(({ faults }) => faults.map(({ kind }) => kind)));
  const all = [...NETWORK_FAULTS, ...MACHINE_FAULTS, ...HOSTILE_ACTS];
  const missing = all.filter((kind) => !drawn.has(kind) && !(kind in unprovenFaults));
  assert.deepEqual(missing, []);
  const modes = new Set(plans.map(({ settings }) => `${settings.mode} ${settings.isRobust}`));
  assert.deepEqual([...modes].sort(), [
    'allowlist false',
    'allowlist true',
    'invite false',
    'open false',
  ]);
});

test('hostile members have less than a third of the weight', () => {
  for (let seed = 0; seed < 200; seed++) {
    const { weights, honest } = drawPlan(seed, provenKinds()).settings;
    const sum = (some: readonly number[]): number => some.reduce((a, b) => a + b, 0);
    assert.ok(3 * sum(weights.slice(honest)) < sum(weights), `seed ${seed}`);
  }
});
