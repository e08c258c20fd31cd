/** Manifests, keys and updates for tests: small, valid, and with values where a wrong formula shows. */
import type { Identity } from '../../node/interfaces.js';
import { simIdentity } from '../../node/sim/identity.js';
import { adapterLayout, adapterSha256, initialAdapter } from '../../protocol/adapter.js';
import { fromHex } from '../../protocol/bytes.js';
import { encodeManifest } from '../../protocol/manifest-codec.js';
import type { Manifest, Run } from '../../protocol/manifest.js';
import { Prng } from '../../protocol/prng.js';
import { quantise } from '../../protocol/quantise.js';
import { RowFormats } from '../../protocol/row-format.js';
import { createUpdate, type Update } from '../../protocol/update.js';

/** The identity number `index` of a family named by `label`: the same key each time. */
export function testIdentity(index: number, label = 'test'): Identity {
  return simIdentity(index, label);
}

/** Time 0 of test runs: 2026-01-01T00:00:00Z. */
export const TEST_START_MS = 1_767_225_600_000;

const HASH = '5a'.repeat(32);

/** A run of two modules, 266 coordinates in 2 blocks (the last one short), 40 epochs of 10 s. */
export function testRun(change: (manifest: Manifest) => Manifest = (manifest) => manifest): Run {
  const spec = {
    rank: 2,
    alpha: 6,
    seed: Uint8Array.from({ length: 32 }, (_, i) => i),
    targetModules: ['up_proj', 'down_proj'],
    modules: [
      { name: 'layers.0.up_proj', inFeatures: 30, outFeatures: 41 },
      { name: 'layers.0.down_proj', inFeatures: 41, outFeatures: 21 },
    ],
  };
  const base: Manifest = {
    name: 'test',
    founder: testIdentity(0).peerId,
    model: {
      name: 'none',
      architecture: 'llama',
      configSha256: HASH,
      weightsSha256: HASH,
      tokenizerSha256: HASH,
      files: null,
    },
    adapter: { ...spec, initialSha256: adapterSha256(initialAdapter(spec)) },
    schedule: { startMs: TEST_START_MS, epochMs: 10_000, epochsMax: 40, stepsRef: 8, cohorts: 1 },
    training: {
      sequenceLength: 64,
      batchSize: 4,
      learningRate: 0.004,
      warmupFraction: 0.05,
      finalFraction: 0.1,
      weightDecay: 0,
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      gradientNormMax: 1,
      resetMoments: false,
    },
    compression: { codec: 'rot1' },
    fold: {
      mode: 'mean',
      trimFraction: 0,
      clip: 1,
      lagMax: 8,
      sealEvery: 0,
      sealAfter: 0,
      alpha: [{ fromEpoch: 0, numerator: 1, denominator: 1 }],
    },
    membership: { mode: 'open' },
  };
  return encodeManifest(change(base));
}

/** A signed update with pseudo-random contents of about `size` (standard deviation does not matter). */
export function testUpdate(
  run: Run,
  signer: Identity,
  epoch: number,
  { baseEpoch = epoch, size = 1, salt = '' } = {},
): Update {
  const format = new RowFormats(run).at(epoch);
  const random = new Prng(fromHex(run.id), `${signer.peerId}/${epoch}/${salt}`);
  const values = Float64Array.from(
    { length: format.coordinates },
    () => size * (2 * random.nextFloat() - 1),
  );
  return createUpdate(run, signer, {
    epoch,
    baseEpoch,
    steps: 8,
    logDigest: new Uint8Array(32),
    ...quantise(values, format),
  });
}

/** Coordinates of the run's adapter. */
export function adapterSize(run: Run): number {
  return adapterLayout(run.manifest.adapter).size;
}
