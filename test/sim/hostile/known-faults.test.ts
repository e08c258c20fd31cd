import assert from 'node:assert/strict';
import { test } from 'node:test';
import { expectedRed, runKnown, unprovenFaults } from './expected-red.js';
import { KNOWN_FAULTS } from './known-faults.js';

const PEERS = 6;
const SEED = 1;

for (const [name, scenario] of Object.entries(KNOWN_FAULTS)) {
  const state = name in expectedRed ? ' (expected to fail)' : '';
  test(`${name}: ${scenario.title}${state}`, async () => {
    await runKnown(name, scenario, SEED, PEERS);
  });
}

test('what is expected to fail is a known fault, and random plans leave nothing else out', () => {
  const unknown = Object.keys(expectedRed).filter((name) => !(name in KNOWN_FAULTS));
  assert.deepEqual(unknown, []);
  const hidden = Object.values(unprovenFaults).filter((name) => !(name in expectedRed));
  assert.deepEqual(hidden, []);
});
