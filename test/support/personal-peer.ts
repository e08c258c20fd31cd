/** The data directory of a peer of the embedded base that has experts of its own: three adapters that say different things. */
import { EMBEDDED_MODEL_DIRECTORY } from '../../node/version.js';
import { openBaseModel } from '../../node/base-model.js';
import { loraModules } from '../../node/model/lora.js';
import { DataDirectory } from '../../node/store/directory.js';
import { writeExperts, type PersonalFacts } from '../../node/store/personal-file.js';
import { adapterLayout, adapterSha256, initialAdapter } from '../../protocol/adapter.js';
import type { Run } from '../../protocol/manifest.js';
import { Prng } from '../../protocol/prng.js';
import { testRun } from './runs.js';

const FACTS: PersonalFacts = {
  ...{ swarmSha256: '0'.repeat(64), epoch: 3, updates: 8 },
  heldOutLoss: {
    ...{ base: 4.5, swarm: 1.75, continued: 1.375, alone: 1.5, single: 1.3125, mixture: 1.25 },
  },
  ...{ end: 'continued', share: 0.75, rounds: 6, hasNoisyUpdates: false },
};

/** A run of the embedded base, whose adapter is still what it began with. */
export async function embeddedRun(seed = 0): Promise<Run> {
  const base = await openBaseModel(EMBEDDED_MODEL_DIRECTORY);
  const targetModules = ['down_proj'];
  const modules = loraModules(base.config, targetModules);
  const spec = { rank: 2, alpha: 4, seed: new Uint8Array(32).fill(seed), targetModules, modules };
  const initialSha256 = adapterSha256(initialAdapter(spec));
  return testRun((manifest) => ({
    ...{ ...manifest, model: { files: null, ...base.fingerprint } },
    adapter: { ...spec, initialSha256 },
  }));
}

/**
 * Writes `run` and experts to `dir`; `strength`: how far from the swarm's adapter they are, 0 for not at all. `mixture`: its
 * loss, as if it had been measured.
 */
export async function writePersonalPeer(
  dir: string,
  run: Run,
  { strength = 1, mixture = 1.25 }: { strength?: number; mixture?: number } = {},
): Promise<{ continued: Float32Array; alone: Float32Array; single: Float32Array }> {
  const directory = new DataDirectory(dir);
  await directory.create();
  await directory.writeManifest(run.bytes);
  const { adapter } = run.manifest;
  const { size: adapterSize, tensors } = adapterLayout(adapter);
  const [continued, alone, single] = ['continued', 'alone', 'single'].map((name) => {
    const theta = initialAdapter(adapter);
    const random = new Prng(new Uint8Array(32), name);
    for (const { factor, offset, length } of tensors) {
      for (let i = 0; factor === 'B' && i < length; i++) {
        theta[offset + i] = strength * (random.nextFloat() - 0.5);
      }
    }
    return theta;
  }) as [Float32Array, Float32Array, Float32Array];
  const experts = { continued, alone, single };
  const facts = { ...FACTS, heldOutLoss: { ...FACTS.heldOutLoss, mixture } };
  await writeExperts(directory, { runId: run.id, adapterSize }, { facts, ...experts });
  return experts;
}
