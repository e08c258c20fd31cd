/** Manifests: every bound at its value and one beyond, and nothing but canonical bytes. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { fromHex, sha256, toHex } from '../../../protocol/bytes.js';
import { InvalidManifestError } from '../../../protocol/errors.js';
import { adapterLayout, initialAdapter } from '../../../protocol/adapter.js';
import * as limits from '../../../protocol/limits.js';
import { decodeManifest, encodeManifest } from '../../../protocol/manifest-codec.js';
import { CODECS, type Manifest } from '../../../protocol/manifest.js';
import * as wire from '../../../protocol/wire/messages.js';
import { testIdentity, testRun } from '../../support/runs.js';

const REFUSED = { name: 'InvalidManifestError' };

const base = testRun();

/** A copy of `tree` with `value` at `path`, e.g. "fold.alpha.0.numerator". */
function withValue<T>(tree: T, path: string, value: unknown): T {
  const copy = structuredClone(tree);
  const keys = path.split('.');
  const last = keys.pop() ?? '';
  let node = copy as Record<string, unknown>;
  for (const key of keys) node = node[key] as Record<string, unknown>;
  assert.ok(last in node, `${path} exists`);
  node[last] = value;
  return copy;
}

function wireManifest(): wire.Manifest {
  return wire.Manifest.decode(base.bytes);
}

/** The next double above (or below) 1, times a number: just beyond a bound that is not 0. */
const ABOVE = 1 + Number.EPSILON;
const BELOW = 1 - Number.EPSILON;

/** Integer fields: path, smallest, largest. */
const INTEGERS: readonly [string, number, number][] = [
  ['adapter.rank', 1, 256],
  ['adapter.modules.0.inFeatures', 1, 1 << 20],
  ['adapter.modules.1.outFeatures', 1, 1 << 20],
  ['schedule.startMs', 0, Number.MAX_SAFE_INTEGER],
  ['schedule.epochMs', 500, 86_400_000],
  ['schedule.epochsMax', 1, 100_000],
  ['schedule.stepsRef', 1, 1_000_000],
  // No more than epochs, of which this run has 40.
  ['schedule.cohorts', 1, 40],
  ['training.sequenceLength', 8, 131_072],
  ['training.batchSize', 1, 4096],
  ['fold.lagMax', 2, 1000],
  ['fold.alpha.0.numerator', 0, 1],
  ['fold.alpha.0.denominator', 1, 1_000_000],
];

/** Real fields: path, smallest, largest. */
const REALS: readonly [string, number, number][] = [
  ['adapter.alpha', 1e-6, 1e6],
  ['training.learningRate', 1e-9, 10],
  ['training.warmupFraction', 0, 1],
  ['training.finalFraction', 0, 1],
  ['training.weightDecay', 0, 10],
  ['training.beta1', 0, 0.999999],
  ['training.beta2', 0, 0.999999],
  ['training.epsilon', 1e-30, 1],
  ['training.gradientNormMax', 1e-6, 1e6],
  ['fold.clip', 0, 1e6],
];

/** Refused by the founder's encoder, and by a peer that gets it from somebody else's. */
function refuses(path: string, value: number): void {
  const changed = withValue(base.manifest, path, value);
  assert.throws(() => encodeManifest(changed), REFUSED, `${path} = ${value} is encoded`);
  // A varint says only whole numbers from 0 on, and protons writes no uint64 that is not safe.
  const isReal = REALS.some(([real]) => real === path);
  if (!isReal && !(Number.isSafeInteger(value) && value >= 0)) return;
  const foreign = wire.Manifest.encode(withValue(wireManifest(), path, value));
  assert.throws(() => decodeManifest(foreign), REFUSED, `${path} = ${value} is decoded`);
}

function takes(path: string, value: unknown): void {
  const run = encodeManifest(withValue(base.manifest, path, value));
  const decoded = decodeManifest(run.bytes);
  assert.deepEqual(decoded.manifest, run.manifest, path);
  assert.equal(decoded.id, run.id);
}

function robustManifest(): Manifest {
  const members = [{ peerId: testIdentity(0).peerId, weight: 1 }];
  const manifest = withValue(base.manifest, 'membership', { mode: 'allowlist', members });
  return { ...manifest, fold: { ...manifest.fold, mode: 'robust', trimFraction: 0.2 } };
}

describe('bounds of a manifest', () => {
  for (const [path, min, max] of INTEGERS) {
    it(`takes ${path} from ${min} to ${max} and no further`, () => {
      takes(path, min);
      takes(path, max);
      refuses(path, min - 1);
      refuses(path, max + 1);
      refuses(path, min + 0.5);
      refuses(path, NaN);
    });
  }

  for (const [path, min, max] of REALS) {
    it(`takes ${path} from ${min} to ${max} and no further`, () => {
      takes(path, min);
      takes(path, max);
      refuses(path, min === 0 ? -Number.MIN_VALUE : min * BELOW);
      refuses(path, max * ABOVE);
      for (const value of [NaN, Infinity, -Infinity]) refuses(path, value);
    });
  }

  it('takes seals in closed runs only: 1 to 1,000 epochs apart, as many after, or none at all', () => {
    const withSeals = (sealEvery: number, sealAfter: number, membership: unknown): Manifest => {
      const closed = withValue(base.manifest, 'membership', membership);
      const spaced = withValue(closed, 'fold.sealEvery', sealEvery);
      return withValue(spaced, 'fold.sealAfter', sealAfter);
    };
    const members = [{ peerId: testIdentity(0).peerId, weight: 1 }];
    const closed = [
      { mode: 'allowlist', members },
      { mode: 'invite', members, inviteWeight: 1 },
    ];
    for (const membership of closed) {
      for (const [every, after] of [
        [0, 0],
        [1, 1],
        [1000, 1000],
        [1, 1000],
      ] as const) {
        const run = encodeManifest(withSeals(every, after, membership));
        assert.deepEqual(decodeManifest(run.bytes).manifest, run.manifest);
      }
      for (const [every, after] of [
        [-1, 0],
        [1001, 1],
        [4, 0],
        [4, 1001],
        [0, 1],
        [1.5, 1],
        [4, 1.5],
        [NaN, 1],
        [4, NaN],
      ] as const) {
        assert.throws(() => encodeManifest(withSeals(every, after, membership)), REFUSED);
      }
    }
    assert.ok(encodeManifest(withSeals(0, 0, { mode: 'open' })));
    assert.throws(
      () => encodeManifest(withSeals(4, 2, { mode: 'open' })),
      /fold\.sealEvery is 4; it must be 0 in an open run/,
    );
  });

  it('takes the filtered fold of anybody, without a share that may lie', () => {
    const allowed = withValue(robustManifest(), 'fold.trimFraction', 0);
    for (const manifest of [base.manifest, allowed]) {
      const filtered = withValue(manifest, 'fold.mode', 'filtered');
      const run = encodeManifest(filtered);
      assert.deepEqual(decodeManifest(run.bytes).manifest, run.manifest);
      const lying = withValue(filtered, 'fold.trimFraction', 0.2);
      assert.throws(() => encodeManifest(lying), REFUSED);
    }
  });

  it('takes the robust fold only with a share that may lie, and a mean only without', () => {
    const robust = robustManifest();
    const path = 'fold.trimFraction';
    const takesRobust = (value: number): void => {
      const run = encodeManifest(withValue(robust, path, value));
      assert.deepEqual(decodeManifest(run.bytes).manifest, run.manifest);
    };
    for (const value of [1e-6, 0.45]) takesRobust(value);
    for (const value of [0, 1e-6 * BELOW, 0.45 * ABOVE, NaN]) {
      assert.throws(() => encodeManifest(withValue(robust, path, value)), REFUSED, String(value));
    }
    refuses(path, 0.2);
  });

  it('takes the robust fold only with an allowlist of 64 equals', () => {
    const robust = robustManifest();
    const withMembers = (members: unknown): Manifest =>
      withValue(robust, 'membership', { mode: 'allowlist', members });
    const members = (count: number): { peerId: string; weight: number }[] =>
      Array.from({ length: count }, (_, i) => ({ peerId: testIdentity(i).peerId, weight: 1 }));
    encodeManifest(withMembers(members(64)));
    assert.throws(() => encodeManifest(withMembers(members(65))), /1 to 64/);
    const [first, ...rest] = members(8);
    assert.throws(() => encodeManifest(withMembers([{ ...first, weight: 2 }, ...rest])), /1 to 1$/);
    const open = withValue(robust, 'membership', { mode: 'open' });
    assert.throws(() => encodeManifest(open), /false peers outvote it/);
  });

  it('keeps the codec', () => {
    for (const [i, codec] of CODECS.entries()) {
      const { bytes } = encodeManifest(withValue(base.manifest, 'compression', { codec }));
      assert.equal(decodeManifest(bytes).manifest.compression.codec, codec);
      assert.equal(wire.Manifest.decode(bytes).compression!.codec, i + 1);
    }
  });

  it('takes no codec that it does not know', () => {
    const { codec } = wire.Manifest.decode(base.bytes).compression!;
    assert.equal(codec, 1);
    for (const other of [0, CODECS.length + 1, 255]) {
      const message = wire.Manifest.decode(base.bytes);
      const bytes = wire.Manifest.encode({ ...message, compression: { codec: other } });
      assert.throws(() => decodeManifest(bytes), REFUSED, `codec ${other}`);
    }
  });

  it('takes tables that begin at epoch 0 and ascend', () => {
    const at = (...epochs: number[]): unknown[] =>
      epochs.map((fromEpoch) => ({ fromEpoch, numerator: 1, denominator: 2 }));
    const count = (length: number): number[] => Array.from({ length }, (_, i) => i);
    takes('fold.alpha', at(0, 7, 8));
    takes('fold.alpha', at(...count(64)));
    for (const epochs of [[], [1], [0, 0], [0, 9, 8], count(65)]) {
      const changed = withValue(base.manifest, 'fold.alpha', at(...epochs));
      assert.throws(() => encodeManifest(changed), REFUSED, `from ${epochs.join(', ')}`);
    }
  });

  it('bounds names of modules, their number and their repetition', () => {
    const module = (name: string): object => ({ name, inFeatures: 3, outFeatures: 5 });
    const many = (length: number): object[] =>
      Array.from({ length }, (_, i) => module(`m.${i}.`.padEnd(200, 'x')));
    takes('adapter.modules', many(limits.MODULES_MAX));
    takes('adapter.targetModules', Array<string>(64).fill('q_proj'));
    const refused: [string, unknown][] = [
      ['adapter.modules', []],
      ['adapter.modules', many(limits.MODULES_MAX + 1)],
      ['adapter.modules', [module('a'), module('a')]],
      ['adapter.modules', [module('')]],
      ['adapter.modules', [module('a/b')]],
      ['adapter.modules', [module('x'.repeat(201))]],
      ['adapter.targetModules', []],
      ['adapter.targetModules', Array<string>(65).fill('q_proj')],
      ['adapter.targetModules', ['../x']],
    ];
    for (const [path, value] of refused) {
      const changed = withValue(base.manifest, path, value);
      assert.throws(() => encodeManifest(changed), REFUSED, path);
      const foreign = wire.Manifest.encode(withValue(wireManifest(), path, value));
      assert.throws(() => decodeManifest(foreign), REFUSED, path);
    }
  });

  it('bounds the adapter as a whole', () => {
    const modules = (outFeatures: number): object[] =>
      Array.from({ length: 2 }, (_, i) => ({ name: `m${i}`, inFeatures: 1, outFeatures }));
    const rank64 = withValue(base.manifest, 'adapter.rank', 64);
    // 2 modules x 64 x (1 + 2^20 - 1) = 2^27
    const largest = withValue(rank64, 'adapter.modules', modules(2 ** 20 - 1));
    assert.doesNotThrow(() => encodeManifest(largest));
    const beyond = withValue(rank64, 'adapter.modules', modules(2 ** 20));
    assert.throws(() => encodeManifest(beyond), /adapter size is 134217856/);
  });

  it('takes text of people in any script, and nothing that hides or reorders', () => {
    for (const name of ['a', 'Zürich 東京', '🦜'.repeat(64)]) takes('name', name);
    takes('model.name', 'x'.repeat(128));
    const hidden = [
      '',
      'a\n',
      '\u0000',
      '\u202etxt',
      'a\u200bb',
      '\u2066',
      '\ufeffa',
      '\ud800',
      '\u2028',
    ];
    for (const name of [...hidden, '🦜'.repeat(65)]) {
      assert.throws(() => encodeManifest(withValue(base.manifest, 'name', name)), REFUSED, name);
    }
    const long = withValue(base.manifest, 'model.name', 'x'.repeat(129));
    assert.throws(() => encodeManifest(long), REFUSED);
    for (const name of ['', 'Llama', 'a b', 'x'.repeat(65)]) {
      const changed = withValue(base.manifest, 'model.architecture', name);
      assert.throws(() => encodeManifest(changed), REFUSED, name);
    }
  });

  it('takes hashes, seeds and keys of 32 bytes', () => {
    for (const path of ['model.configSha256', 'model.weightsSha256', 'model.tokenizerSha256']) {
      for (const hash of ['', '5A'.repeat(32), '5a'.repeat(31), '5a'.repeat(33)]) {
        assert.throws(() => encodeManifest(withValue(base.manifest, path, hash)), REFUSED, path);
      }
    }
    for (const path of ['founder', 'adapter.seed', 'adapter.initialSha256', 'model.configSha256']) {
      for (const length of [0, 31, 33]) {
        const foreign = withValue(wireManifest(), path, new Uint8Array(length));
        assert.throws(() => decodeManifest(wire.Manifest.encode(foreign)), REFUSED, path);
      }
    }
    const founder = withValue(base.manifest, 'founder', 'nobody');
    assert.throws(() => encodeManifest(founder), /founder is nobody; it must be a peer id/);
  });

  it('names theta0 as a blob where it is not drawn from the seed, and else takes no byte for it', () => {
    const { adapter } = base.manifest;
    const root = 'c3'.repeat(32);
    const imported = encodeManifest({
      ...base.manifest,
      adapter: { ...adapter, initialRoot: root },
    });
    assert.equal(decodeManifest(imported.bytes).manifest.adapter.initialRoot, root);
    assert.equal('initialRoot' in decodeManifest(base.bytes).manifest.adapter, false);
    assert.notEqual(imported.id, base.id);
    for (const length of [1, 31, 33]) {
      const foreign = withValue(wireManifest(), 'adapter.initialRoot', new Uint8Array(length));
      assert.throws(() => decodeManifest(wire.Manifest.encode(foreign)), REFUSED);
    }
    // What a run begins from is no part of its bytes.
    const theta0 = new Float32Array(adapterLayout(adapter).size).fill(0.5);
    const attached = encodeManifest({ ...base.manifest, adapter: { ...adapter, theta0 } });
    assert.equal(attached.id, base.id);
    const drawn = initialAdapter({ ...adapter, theta0 });
    assert.deepEqual(drawn, theta0);
    drawn[0] = 1;
    assert.equal(theta0[0], 0.5, 'a copy');
  });

  it('takes allowlists of 1 to 1,024 distinct members with weights of 1 to 1,000', () => {
    const member = (i: number, weight = 1): object => ({ peerId: testIdentity(i).peerId, weight });
    const many = (length: number): object[] => Array.from({ length }, (_, i) => member(i));
    const membership = (members: object[]): Manifest =>
      withValue(base.manifest, 'membership', { mode: 'allowlist', members });
    for (const members of [[member(0)], [member(0, 1000)], many(limits.AUTHORS_MAX)]) {
      const run = encodeManifest(membership(members));
      assert.deepEqual(decodeManifest(run.bytes).manifest.membership, {
        mode: 'allowlist',
        members,
      });
    }
    const refused = [
      [],
      many(limits.AUTHORS_MAX + 1),
      [member(0), member(0)],
      [member(0, 0)],
      [member(0, 1001)],
      [{ peerId: 'nobody', weight: 1 }],
    ];
    for (const members of refused) {
      assert.throws(
        () => encodeManifest(membership(members)),
        REFUSED,
        `${members.length} members`,
      );
    }
  });
});

describe('encodeManifest()', () => {
  it('names a run by the SHA-256 of its bytes', () => {
    assert.equal(base.id, toHex(sha256(base.bytes)));
    const other = encodeManifest({ ...base.manifest, name: 'other' });
    assert.notEqual(other.id, base.id);
  });

  it('takes a run with invites, the weight of the invited from 1 to 1000', () => {
    const members = [{ peerId: base.manifest.founder, weight: 3 }];
    const manifest = (inviteWeight: number): Manifest =>
      withValue(base.manifest, 'membership', { mode: 'invite', members, inviteWeight });
    for (const weight of [1, 1000]) {
      const run = encodeManifest(manifest(weight));
      assert.deepEqual(decodeManifest(run.bytes).manifest.membership, {
        ...{ mode: 'invite', members, inviteWeight: weight },
      });
    }
    for (const weight of [0, 1001, 1.5])
      assert.throws(() => encodeManifest(manifest(weight)), /inviteWeight is .* from 1 to 1000/);
  });
});

describe('decodeManifest()', () => {
  const refused = (bytes: Uint8Array, why: RegExp, what: string): void => {
    assert.throws(() => decodeManifest(bytes), { ...REFUSED, message: why }, what);
  };
  const appended = (hex: string): Uint8Array => Buffer.concat([base.bytes, fromHex(hex)]);

  it('gives back what was encoded', () => {
    assert.deepEqual(decodeManifest(base.bytes), base);
  });

  it('refuses bytes that encode differently', () => {
    const canonical = /not in canonical form|may occur once|varint/;
    refused(appended('7801'), canonical, 'an unknown field');
    refused(appended('0801'), canonical, 'a field that comes twice');
    refused(appended('3800'), /wire type/, 'a section of the wrong type');
    const [tag = 0, version = 0] = base.bytes;
    assert.deepEqual([tag, version], [8, 1], 'the first field is the version');
    const rest = base.bytes.subarray(2);
    refused(
      Buffer.concat([fromHex('088100'), rest]),
      canonical,
      'a varint that is not the shortest',
    );
    refused(Buffer.concat([rest, fromHex('0801')]), canonical, 'fields in another order');
    // Training (tag 7) again, with resetMoments = false written out.
    const { training } = wireManifest();
    assert.ok(training);
    const spelled = Buffer.concat([wire.Training.encode(training), fromHex('5800')]);
    const section = Buffer.concat([Buffer.of(0x3a, spelled.length), spelled]);
    const original = Buffer.from(wire.Training.encode(training));
    const at = Buffer.from(base.bytes).indexOf(original);
    const before = base.bytes.subarray(0, at - 2);
    const after = base.bytes.subarray(at + original.length);
    refused(Buffer.concat([before, section, after]), canonical, 'a default that is written out');
  });

  it('refuses a name that is not UTF-8', () => {
    const bytes = base.bytes.slice();
    const at = Buffer.from(bytes).indexOf('test');
    bytes[at] = 0xff;
    assert.throws(() => decodeManifest(bytes), REFUSED);
  });

  it('refuses a manifest without one of its sections', () => {
    const names = ['model', 'adapter', 'schedule', 'training', 'compression', 'fold', 'membership'];
    for (const name of names) {
      const entries = Object.entries(wireManifest()).filter(([key]) => key !== name);
      const bytes = wire.Manifest.encode(Object.fromEntries(entries));
      refused(bytes, /lacks a section/, name);
    }
    assert.throws(() => decodeManifest(new Uint8Array()), REFUSED);
  });

  it('refuses another version, and says what to do', () => {
    for (const version of [0, 2]) {
      const bytes = wire.Manifest.encode({ ...wireManifest(), version });
      refused(bytes, new RegExp(`version ${version}, this program 1; install`), `${version}`);
    }
  });

  it('refuses modes that it does not know, and members of an open run', () => {
    const changed = (path: string, value: unknown): Uint8Array =>
      wire.Manifest.encode(withValue(wireManifest(), path, value));
    refused(changed('fold.mode', 4), /folds in mode 4/, 'fold');
    refused(changed('membership.mode', 4), /admits members in mode 4/, 'membership');
    refused(changed('membership.inviteWeight', 1), /without invitations has a weight/, 'weight');
    const members = [{ publicKey: new Uint8Array(32), weight: 1 }];
    refused(changed('membership.members', members), /open run lists no members/, 'members');
  });

  it('refuses more bytes than the limit before it reads them', () => {
    refused(new Uint8Array(limits.MANIFEST_BYTES_MAX + 1), /over the limit of 524288/, 'zeros');
  });

  it('refuses groups inside groups, which a decoder by recursion follows until its stack is full', () => {
    const nested = new Uint8Array(limits.MANIFEST_BYTES_MAX).fill(0x7b);
    assert.throws(() => decodeManifest(nested), REFUSED);
  });

  it('refuses every truncation', () => {
    for (let length = 0; length < base.bytes.length; length++) {
      assert.throws(
        () => decodeManifest(base.bytes.subarray(0, length)),
        REFUSED,
        `${length} bytes`,
      );
    }
  });

  it('ends for any bytes in a run named by them or in an InvalidManifestError', () => {
    const position = fc.nat(base.bytes.length - 1);
    const mutated = fc
      .array(fc.tuple(position, fc.nat(255)), { minLength: 1, maxLength: 4 })
      .map((changes) => {
        const bytes = base.bytes.slice();
        for (const [at, byte] of changes) bytes[at] = byte;
        return bytes;
      });
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), mutated), (bytes) => {
        try {
          assert.equal(decodeManifest(bytes).id, toHex(sha256(bytes)));
        } catch (error) {
          assert.ok(error instanceof InvalidManifestError, String(error));
        }
      }),
      { numRuns: 1000 },
    );
  });
});
