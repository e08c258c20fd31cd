/** A short chaos run of one seed; `npm run chaos` makes longer ones of any seed. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FAULT_KINDS } from '../chaos/plan.js';
import { summary } from '../chaos/report.js';
import { runChaos } from '../chaos/run.js';

const SEED = 1;
const DURATION_MS = 90_000;

describe('five real peers under every fault', () => {
  it('end in one adapter with whole stores, and leave nothing behind', async (t) => {
    const { signal } = t;
    const say = (line: string): void => t.diagnostic(line);
    const outcome = await runChaos({ seed: SEED, peers: 5, durationMs: DURATION_MS, say, signal });
    for (const line of summary(outcome).split('\n')) say(line);
    assert.deepEqual(outcome.problems, []);
    const kinds = new Set(outcome.plan.faults.map(({ kind }) => kind));
    assert.deepEqual([...kinds].sort(), [...FAULT_KINDS].sort());
  });
});
