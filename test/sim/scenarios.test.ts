import { test } from 'node:test';
import assert from 'node:assert/strict';
import { SCENARIOS } from './scenarios.js';
import { SEAL_SCENARIOS } from './seal-scenarios.js';

/** Seeds per scenario: each run takes well under a second. */
const SEEDS = [1, 2, 3];
/** Those of runs with seals are longer: some seconds each. npm run sim:nightly -- --scenario NAME takes more. */
const SEAL_SEEDS = [1];
const PEERS = 6;

for (const [name, scenario] of Object.entries(SCENARIOS)) {
  test(`${name}: ${scenario.title}`, async () => {
    for (const seed of name in SEAL_SCENARIOS ? SEAL_SEEDS : SEEDS) {
      try {
        await scenario.run(seed, PEERS);
      } catch (cause) {
        const replay = `npm run sim -- --scenario ${name} --seed ${seed} --peers ${PEERS}`;
        throw new Error(`replay with: ${replay}`, { cause });
      }
    }
  });
}

test('the same seed gives the same adapter, and another seed another one', async () => {
  const scenario = SCENARIOS['everything'];
  assert.ok(scenario);
  const [first, again, other] = [
    await scenario.run(7, PEERS),
    await scenario.run(7, PEERS),
    await scenario.run(8, PEERS),
  ];
  assert.deepEqual(first, again);
  assert.notEqual(first.sha256, other.sha256);
});
