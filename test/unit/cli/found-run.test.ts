import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { checkResume, manifestFromOptions } from '../../../node/cli/found-run.js';
import { runOptions, type RunOptions } from '../../../node/cli/run-options.js';
import type { OptionSpecs } from '../../../node/config.js';
import type { Origin } from '../../../node/config/sources.js';
import { UserError } from '../../../node/errors.js';
import { decodeManifest, encodeManifest } from '../../../protocol/manifest-codec.js';
import type { Manifest } from '../../../protocol/manifest.js';
import { testIdentity } from '../../support/runs.js';
import { sampleManifest } from '../manifest-sample.js';

const OTHER = '12D3KooWHdiAxVd8uMQR1hGWXccidmfCwLqcMpGwR6QcTP6QRMuD';

function options(changed: Partial<RunOptions> = {}): RunOptions {
  const specs: OptionSpecs = runOptions;
  const defaults = Object.fromEntries(
    Object.entries(specs).map(([name, spec]) => [
      name,
      spec.kind === 'switch' ? false : spec.default,
    ]),
  ) as RunOptions;
  return { ...defaults, ...changed };
}

/** As the command has it, where auto has come to a number. */
function lengthOf({ sequenceLength }: Partial<RunOptions>): number {
  return typeof sequenceLength === 'number' ? sequenceLength : 128;
}

function found(changed: Partial<RunOptions> = {}): Manifest {
  const { founder, model, adapter } = sampleManifest();
  return manifestFromOptions(
    { ...options(changed), sequenceLength: lengthOf(changed) },
    {
      founder,
      fingerprint: model,
      files: model.files,
      hiddenSize: 512,
      targetModules: adapter.targetModules,
      modules: adapter.modules,
      startMs: 1_750_000_000_123,
      epochMs: 7_000,
    },
  );
}

/** What checkResume() says when `changed` was set by `origin`; null when it agrees. */
function resumeError(
  changed: Partial<RunOptions>,
  stored: Manifest,
  targetModules = stored.adapter.targetModules,
  origin: Origin = { kind: 'flag' },
): string | null {
  try {
    const given = new Map(Object.keys(changed).map((name) => [name, origin]));
    checkResume(options(changed), given, targetModules, stored, 'peer-dir');
    return null;
  } catch (error) {
    assert.ok(error instanceof UserError);
    assert.equal(error.exitCode, 2);
    return error.message;
  }
}

describe('manifestFromOptions()', () => {
  it('gives a manifest that encodes and decodes, with the defaults', () => {
    const manifest = found();
    assert.deepEqual(decodeManifest(encodeManifest(manifest).bytes).manifest, manifest);
    assert.equal(manifest.name, 'tiny-base');
    assert.equal(manifest.training.learningRate, 2 / 512);
    assert.deepEqual(manifest.compression, { codec: 'rec20' });
    assert.deepEqual(manifest.membership, { mode: 'open' });
  });

  it('puts every option into its own field', () => {
    const manifest = found({
      name: 'n',
      rank: 3,
      alpha: 5,
      epochs: 40,
      cohorts: 3,
      steps: 11,
      sequenceLength: 77,
      batchSize: 9,
      learningRate: 0.5,
      warmup: 0.25,
      finalLearningRate: 0.125,
      weightDecay: 0.3,
      adamBeta1: 0.8,
      adamBeta2: 0.95,
      adamEpsilon: 1e-6,
      gradientNorm: 2,
      resetMoments: true,
      updateSize: 'smallest',
      clip: 4,
      lagMax: 6,
      sealEvery: 12,
      sealAfter: 5,
      allow: [OTHER],
      foldAlpha: ['0:1/1', '20:3/4'],
    });
    assert.deepEqual(manifest.compression, { codec: 'rec10' });
    assert.deepEqual(manifest.training, {
      sequenceLength: 77,
      batchSize: 9,
      learningRate: 0.5,
      warmupFraction: 0.25,
      finalFraction: 0.125,
      weightDecay: 0.3,
      beta1: 0.8,
      beta2: 0.95,
      epsilon: 1e-6,
      gradientNormMax: 2,
      resetMoments: true,
    });
    assert.deepEqual(manifest.schedule, {
      startMs: 1_750_000_000_123,
      epochMs: 7_000,
      epochsMax: 40,
      stepsRef: 11,
      cohorts: 3,
    });
    assert.deepEqual([manifest.adapter.rank, manifest.adapter.alpha, manifest.name], [3, 5, 'n']);
    assert.deepEqual(manifest.fold, {
      mode: 'mean',
      trimFraction: 0,
      clip: 4,
      lagMax: 6,
      sealEvery: 12,
      sealAfter: 5,
      alpha: [
        { fromEpoch: 0, numerator: 1, denominator: 1 },
        { fromEpoch: 20, numerator: 3, denominator: 4 },
      ],
    });
  });

  it('folds robustly for eight members, for fewer only when forced, for strangers never', () => {
    const others = Array.from({ length: 7 }, (_, i) => testIdentity(i + 1).peerId);
    const fold = (changed: Partial<RunOptions>): unknown =>
      found({ fold: 'robust', trim: 0.3, ...changed }).fold;
    const often = { sealEvery: 1, sealAfter: 1 };
    const robust = { mode: 'robust', trimFraction: 0.3, clip: 1.5, lagMax: 8, ...often };
    const alpha = [{ fromEpoch: 0, numerator: 1, denominator: 1 }];
    assert.deepEqual(fold({ allow: others }), { ...robust, alpha });
    assert.deepEqual(fold({ allow: others.slice(1), forceRobust: true }), { ...robust, alpha });
    assert.deepEqual(fold({ allow: others, clip: 2 }), { ...robust, alpha, clip: 2 });
    assert.throws(() => fold({ allow: others.slice(1) }), /with 7 members .* needs 8/);
    assert.throws(() => fold({}), /needs --allow PEER/);
  });

  it('seals in closed runs, often under the robust fold, and never in open ones', () => {
    const seals = (changed: Partial<RunOptions>): unknown => {
      const { sealEvery, sealAfter } = found(changed).fold;
      return [sealEvery, sealAfter];
    };
    assert.deepEqual(seals({}), [0, 0]);
    assert.deepEqual(seals({ allow: [OTHER], lagMax: 6 }), [16, 6]);
    assert.deepEqual(seals({ inviteOnly: true, lagMax: 6 }), [16, 6]);
    assert.deepEqual(seals({ allow: [OTHER], sealEvery: 0 }), [0, 0]);
    assert.deepEqual(seals({ allow: [OTHER], sealEvery: 5, sealAfter: 3 }), [5, 3]);
  });

  it('refuses seals where nobody can sign, in one sentence that says what to do', () => {
    assert.deepEqual(found({ sealEvery: 0 }).fold.sealEvery, 0);
    assert.throws(
      () => found({ sealEvery: 4 }),
      /^UserError: --seal-every 4 needs --allow PEER .* or --invite-only: .*; leave it out, or name them$/,
    );
    assert.throws(
      () => found({ sealAfter: 3 }),
      /--seal-after 3 means nothing .* open .* leave it out/,
    );
    assert.throws(
      () => found({ allow: [OTHER], sealEvery: 0, sealAfter: 3 }),
      /--seal-after 3 means nothing .* --seal-every 0 is given; leave it out/,
    );
  });

  it('draws the same adapter for the same seed text, and another without one', () => {
    const initial = (changed: Partial<RunOptions>): string => found(changed).adapter.initialSha256;
    assert.equal(initial({ seed: 'x' }), initial({ seed: 'x' }));
    assert.notEqual(initial({ seed: 'x' }), initial({ seed: 'y' }));
    assert.notEqual(initial({}), initial({}));
  });

  it('lets the founder into a closed run, and gives weights', () => {
    const { founder } = sampleManifest();
    assert.deepEqual(found({ allow: [`${OTHER}:3`] }).membership, {
      mode: 'allowlist',
      members: [
        { peerId: founder, weight: 1 },
        { peerId: OTHER, weight: 3 },
      ],
    });
  });

  it('takes invites with and without a list, the founder always in', () => {
    const { founder } = sampleManifest();
    const listed = [{ peerId: founder, weight: 1 }];
    assert.deepEqual(found({ inviteOnly: true }).membership, {
      ...{ mode: 'invite', members: listed, inviteWeight: 1 },
    });
    assert.deepEqual(found({ inviteOnly: true, inviteWeight: 4, allow: [OTHER] }).membership, {
      ...{ mode: 'invite', members: [...listed, { peerId: OTHER, weight: 1 }], inviteWeight: 4 },
    });
    assert.throws(() => found({ inviteOnly: true, fold: 'robust' }), /no --invite-only/);
  });

  it('caps the automatic learning rate for tiny models', () => {
    const { founder, model, adapter } = sampleManifest();
    const context = {
      founder,
      fingerprint: model,
      files: null,
      ...adapter,
      startMs: 0,
      epochMs: 1000,
    };
    const rate = (hiddenSize: number): number =>
      manifestFromOptions({ ...options(), sequenceLength: 128 }, { ...context, hiddenSize })
        .training.learningRate;
    assert.equal(rate(16), 0.008);
    assert.equal(rate(4096), 2 / 4096);
  });
});

describe('checkResume()', () => {
  it('accepts the command that founded the run, whatever its flags', () => {
    const changed: Partial<RunOptions> = {
      name: 'n',
      rank: 3,
      seed: 'text',
      epochs: 40,
      epochSeconds: 7,
      foldAlpha: ['0:1/2'],
      allow: [OTHER],
      resetMoments: true,
      startIn: 30,
      targetModules: ['q_proj'],
    };
    assert.equal(resumeError(changed, found(changed)), null);
  });

  it('says where an option stands that is not on the command line', () => {
    const file: Origin = { kind: 'file', path: 'm.yaml', line: 3 };
    const names = found().adapter.targetModules;
    assert.match(
      resumeError({ rank: 8 }, found({ rank: 4 }), names, file) ?? '',
      /contradict: --rank 8 of m\.yaml:3 \(the run has 4\); leave them out/,
    );
    const variable: Origin = { kind: 'variable', name: 'MURMURATE_RANK' };
    assert.match(
      resumeError({ rank: 8 }, found({ rank: 4 }), names, variable) ?? '',
      /--rank 8 of MURMURATE_RANK \(the run has 4\)/,
    );
  });

  it('accepts flags that leave the choice open: auto, and no flag at all', () => {
    assert.equal(resumeError({}, found({ rank: 3 })), null);
    assert.equal(resumeError({ epochSeconds: 'auto', learningRate: 'auto' }, found()), null);
  });

  it('names each contradicting flag, its value and the stored one', () => {
    const stored = found({ rank: 4 });
    assert.equal(
      resumeError({ rank: 8, epochs: 31, steps: 10 }, stored),
      'peer-dir holds the run "tiny-base", which these options contradict: --rank 8 (the run has 4), ' +
        '--epochs 31 (the run has 30); leave them out to resume it, or found a new run in another --dir',
    );
  });

  it('notices a contradiction in every option of the manifest', () => {
    const stored = found();
    const other: Partial<RunOptions> = {
      name: 'other',
      rank: 9,
      alpha: 17,
      seed: 'other',
      epochs: 31,
      epochSeconds: 8,
      cohorts: 3,
      steps: 11,
      sequenceLength: 127,
      batchSize: 7,
      learningRate: 0.25,
      warmup: 0.5,
      finalLearningRate: 0.5,
      weightDecay: 0.5,
      adamBeta1: 0.5,
      adamBeta2: 0.5,
      adamEpsilon: 0.5,
      gradientNorm: 0.5,
      resetMoments: true,
      fold: 'robust',
      trim: 0.3,
      updateSize: 'smallest',
      clip: 0.5,
      lagMax: 9,
      sealEvery: 12,
      sealAfter: 5,
      foldAlpha: ['0:1/2'],
      allow: [OTHER],
      inviteOnly: true,
      inviteWeight: 2,
      targetModules: ['v_proj'],
    };
    const untested = Object.keys(runOptions).filter((name) => !(name in other));
    assert.deepEqual(untested, ['startIn', 'forceRobust']);
    for (const [name, value] of Object.entries(other)) {
      const flag = `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)} `;
      const message = resumeError(
        { [name]: value },
        stored,
        name === 'targetModules' ? ['v_proj'] : undefined,
      );
      assert.ok(message?.includes(flag), `${name}: ${message ?? 'no error'}`);
    }
  });

  it('compares a seed without showing it', () => {
    const message = resumeError({ seed: 'secret words' }, found({ seed: 'other' })) ?? '';
    assert.match(message, /--seed /);
    assert.doesNotMatch(message, /secret words/);
    const hidden = createHash('sha256').update('secret words').digest('hex');
    assert.ok(!message.includes(hidden));
  });
});
