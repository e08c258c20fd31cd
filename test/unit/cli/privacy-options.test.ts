import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import {
  checkDelta,
  checkLedger,
  openPrivacyBudget,
  privacyLine,
  privacyOf,
} from '../../../node/cli/privacy-options.js';
import { formatStatus } from '../../../node/cli/status.js';
import { EXIT_USAGE, UserError } from '../../../node/errors.js';
import { DataDirectory } from '../../../node/store/directory.js';
import { FileStore } from '../../../node/store/file-store.js';
import { testRun } from '../../support/runs.js';
import { sampleStatus } from '../status-sample.js';

const run = testRun();
const FLAGS = {
  ...{ dpNoise: 1, dpEpsilon: 8, dpDelta: 1e-5, dpClip: 0.5 },
  ...{ dpBatch: 'auto' as const, weights: 'fp32' },
};
const given = new Set(['dpNoise', 'dpEpsilon']);
const settings = privacyOf(FLAGS, given, 16);

function usage(sentence: RegExp): (error: unknown) => boolean {
  return (error) =>
    error instanceof UserError && error.exitCode === EXIT_USAGE && sentence.test(error.message);
}

let directory: DataDirectory;
before(async () => {
  directory = new DataDirectory(await mkdtemp(join(tmpdir(), 'murmurate-privacy-')));
});
after(() => rm(directory.path, { recursive: true }));

describe('privacyOf', () => {
  it('is null without --dp-noise, and takes its batch from the run unless told', () => {
    assert.equal(privacyOf({ ...FLAGS, dpNoise: null }, new Set(['data']), 16), null);
    assert.deepEqual(settings, { noise: 1, epsilon: 8, delta: 1e-5, clip: 0.5, batchSize: 16 });
    assert.equal(privacyOf({ ...FLAGS, dpBatch: 64 }, given, 16)?.batchSize, 64);
  });

  it('refuses flags that mean nothing, miss another or contradict it', () => {
    const idle = { ...FLAGS, dpNoise: null };
    assert.throws(
      () => privacyOf(idle, new Set(['dpClip']), 16),
      usage(/--dp-clip means nothing without --dp-noise/),
    );
    assert.throws(
      () => privacyOf({ ...FLAGS, dpEpsilon: null }, given, 16),
      usage(/needs --dp-epsilon/),
    );
  });
});

describe('checkDelta', () => {
  it('wants a delta below one in the number of records', () => {
    checkDelta(null, { examples: 10 ** 9 });
    checkDelta(settings, { examples: 99_999 });
    assert.throws(
      () => checkDelta(settings, { examples: 100_000 }),
      usage(/--dp-delta is 0.00001, but with 100000 records .* below 1\/100000/),
    );
  });
});

describe('the budget of a data directory', () => {
  const trainer = { sampleRate: 0.05 };

  it('is refused after steps without noise, and kept once it was opened', async () => {
    const state = {
      ...{ epoch: 3, residual: new Float32Array(266), update: null, settledSeal: null },
      ...{ waitingSteps: 0, steps: 24, tokens: 9, heldOutBase: null, heldOutHistory: [] },
    };
    const store = new FileStore(directory, run.id);
    await store.saveState(state);
    await assert.rejects(
      checkLedger(directory, run, settings),
      usage(/has taken 24 steps without noise/),
    );
    await checkLedger(directory, run, null);
    await store.saveState({ ...state, steps: 0 });
    await checkLedger(directory, run, settings);
    assert.equal(await openPrivacyBudget(directory, trainer, null), null);
    await assert.rejects(openPrivacyBudget(directory, { sampleRate: null }, settings), TypeError);
    await openPrivacyBudget(directory, trainer, settings);
    await assert.rejects(
      checkLedger(directory, run, null),
      usage(/trains with differential privacy/),
    );
    await store.saveState(state);
    await checkLedger(directory, run, settings);
  });

  it('goes on after a restart from what was spent, also with another setting', async () => {
    const first = await openPrivacyBudget(directory, trainer, settings);
    await first?.charge(50);
    await first?.refund(10);
    const again = await openPrivacyBudget(directory, trainer, settings);
    assert.deepEqual(again?.report(), first?.report());
    assert.equal(again?.report().steps, 40);
    const noisier = settings && { ...settings, noise: 2 };
    const other = await openPrivacyBudget(directory, trainer, noisier);
    await other?.charge(5);
    const report = (await openPrivacyBudget(directory, trainer, settings))?.report();
    assert.equal(report?.steps, 45);
    assert.ok(report.epsilon > again.report().epsilon);
    assert.ok(report.stepsLeft < again.report().stepsLeft);
  });

  it('is said in one line before training begins', async () => {
    const report = (await openPrivacyBudget(directory, trainer, settings))!.report();
    const stats = { examples: 320 };
    assert.match(
      privacyLine(report, stats, run.manifest),
      /^noise 1 x clip 0.5, each of 320 records .* 0\.0500; epsilon 8 at delta 0\.00001, of which \d\.\d+ is spent lasts \d+ steps, more than the run’s 40 epochs$/,
    );
    const short = { ...report, epsilon: 0, stepsLeft: 33 };
    assert.match(
      privacyLine(short, stats, run.manifest),
      /delta 0\.00001 lasts 33 steps, 4 of the run’s 40 epochs$/,
    );
  });

  it('is a line of murmurate status, and none without privacy', async () => {
    const privacy = (await openPrivacyBudget(directory, trainer, settings))!.report();
    assert.doesNotMatch(formatStatus(sampleStatus()), /privacy/);
    assert.match(
      formatStatus({ ...sampleStatus(), privacy }),
      /^privacy {3}epsilon \d\.\d{3} of 8 at delta 0\.00001, 45 steps with noise 1 and rate 0\.0500, \d+ left$/m,
    );
  });
});
