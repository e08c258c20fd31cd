/**
 * What the program does not bear yet. A scenario in this list must fail, and one that passes fails its test until it
 * is taken off: nothing is skipped, and nothing stays here by mistake.
 */
import type { FaultKind } from './plan.js';

/** Scenario of known-faults.ts -> why it fails. */
export const expectedRed: Readonly<Record<string, string>> = {};

/** Kinds of fault that random plans leave out until then -> the expected-red scenario that shows each alone. */
export const unprovenFaults: Readonly<Partial<Record<FaultKind, string>>> = {};
