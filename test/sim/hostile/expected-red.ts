/**
 * What the program does not bear yet. A scenario in this list must fail, and one that passes fails its test until it
 * is taken off: nothing is skipped, and nothing stays here by mistake.
 */
import assert from 'node:assert/strict';
import type { Outcome, Scenario } from '../checkers.js';
import type { FaultKind } from './plan.js';

/** Scenario of known-faults.ts -> why it fails. */
export const expectedRed: Readonly<Record<string, string>> = {};

/** Kinds of fault that random plans leave out until then -> the expected-red scenario that shows each alone. */
export const unprovenFaults: Readonly<Partial<Record<FaultKind, string>>> = {};

/**
 * Runs a known fault. Null when it fails as this list expects; else it must pass. Only a checker's word counts as a
 * failure: a scenario that breaks by itself shows nothing.
 */
export async function runKnown(
  name: string,
  scenario: Scenario,
  seed: number,
  peers: number,
): Promise<Outcome | null> {
  const reason = expectedRed[name];
  if (reason === undefined) return scenario.run(seed, peers);
  await assert.rejects(
    scenario.run(seed, peers),
    (error) => error instanceof assert.AssertionError,
    `${name} passes: take it off the list in test/sim/hostile/expected-red.ts`,
  );
  return null;
}
