/** A valid manifest of a tiny adapter, for tests that need some manifest. */
import { adapterSha256, initialAdapter } from '../../protocol/adapter.js';
import type { Manifest } from '../../protocol/manifest.js';

const adapter = {
  rank: 2,
  alpha: 6,
  seed: new Uint8Array(32).fill(5),
  targetModules: ['q_proj'],
  modules: [{ name: 'model.layers.0.self_attn.q_proj', inFeatures: 8, outFeatures: 16 }],
};

export function sampleManifest(): Manifest {
  return {
    name: 'offices',
    founder: '12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5',
    model: {
      name: 'tiny-base',
      architecture: 'llama',
      configSha256: '1'.repeat(64),
      weightsSha256: '2'.repeat(64),
      tokenizerSha256: '3'.repeat(64),
      files: null,
    },
    adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
    schedule: {
      startMs: 1_750_000_000_000,
      epochMs: 7_500,
      epochsMax: 20,
      stepsRef: 10,
      cohorts: 1,
    },
    training: {
      sequenceLength: 64,
      batchSize: 4,
      learningRate: 1e-3,
      warmupFraction: 0.1,
      finalFraction: 0.2,
      weightDecay: 0.01,
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
}
