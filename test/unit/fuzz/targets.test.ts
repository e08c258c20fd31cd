import { existsSync, readdirSync, readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, it } from 'node:test';
import { UserError } from '../../../node/errors.js';
import { Prng } from '../../../protocol/prng.js';
import { change } from '../../fuzz/changes.js';
import { REGRESSIONS } from '../../fuzz/watch.js';
import { execute, FuzzFindingError, type FuzzTarget } from '../../fuzz/oracle.js';
import { TARGETS } from '../../fuzz/targets.js';

/** Changed inputs for each target, the same on every machine: `npm run fuzz` tries more of them, and is guided. */
const INPUTS = 150;

function ignore(): void {
  // A decoder that takes everything.
}

function regressionsOf(name: string): Uint8Array[] {
  const dir = path.join(REGRESSIONS, name);
  if (!existsSync(dir)) return [];
  return readdirSync(dir).map((file) => readFileSync(path.join(dir, file)));
}

describe('decoders of foreign bytes', () => {
  for (const [name, target] of Object.entries(TARGETS)) {
    it(`${name}: takes what our encoders make`, async () => {
      assert.ok(target.seeds.length > 0);
      for (const seed of target.seeds) await execute({ ...target, refusals: [] }, seed);
    });

    it(`${name}: refuses the rest by a documented error, soon and in little memory`, async () => {
      for (const bytes of regressionsOf(name)) await execute(target, bytes);
      const random = new Prng(new Uint8Array(32), name);
      for (let i = 0; i < INPUTS; i++) {
        const seed = target.seeds[i % target.seeds.length] ?? new Uint8Array();
        const bytes = change(seed, target.seeds, random);
        await assert.doesNotReject(
          async () => execute(target, bytes),
          Buffer.from(bytes).toString('base64'),
        );
      }
    });
  }
});

describe('the oracle', () => {
  const target = (run: FuzzTarget['run']): FuzzTarget => ({
    seeds: [],
    refusals: [UserError],
    run,
  });
  const bytes = new Uint8Array(1);
  const throwing = (error: Error): FuzzTarget =>
    target(() => {
      throw error;
    });
  const rejecting = (error: Error): FuzzTarget => target(() => Promise.reject(error));

  it('lets pass what a decoder documents', async () => {
    await execute(target(ignore), bytes);
    await execute(throwing(new UserError('no')), bytes);
    await execute(rejecting(new UserError('no')), bytes);
  });

  it('finds other errors, also those that come later', async () => {
    for (const broken of [throwing(new TypeError('x')), rejecting(new RangeError('x'))]) {
      await assert.rejects(async () => execute(broken, bytes), FuzzFindingError);
    }
  });

  it('finds what takes long', () => {
    const slow = target(() => {
      const start = process.cpuUsage();
      while (process.cpuUsage(start).user < 1_050_000);
    });
    assert.throws(() => void execute(slow, bytes), /took \d+ ms/);
  });

  it('finds what takes much memory', () => {
    const kept: Uint8Array[] = [];
    const large = target(() => void kept.push(new Uint8Array(200 * 2 ** 20)));
    assert.throws(() => void execute(large, bytes), /took \d+ MiB/);
    assert.equal(kept.length, 1);
  });
});
