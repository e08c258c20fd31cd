/** Bounds of a manifest: decoded from the bytes of somebody whose encoder checks nothing. */
import { decodeManifest } from '../../../protocol/manifest-codec.js';
import * as wire from '../../../protocol/wire/messages.js';
import { publicKeyFromPeerId } from '../../../protocol/identity.js';
import { testIdentity, testRun } from '../../support/runs.js';
import { isTaken, isWithin, type LimitCase, type LimitName } from './limit-case.js';

const base = testRun();

/** Whether a manifest that was changed so is taken, by the sentence that names `field`. */
function decodes(field: RegExp, change: (manifest: wire.Manifest) => void): boolean {
  const manifest = wire.Manifest.decode(base.bytes);
  change(manifest);
  return isTaken(field, () => decodeManifest(wire.Manifest.encode(manifest)));
}

const modules = (count: number, inFeatures = 1, outFeatures = 1): wire.LoraModule[] =>
  Array.from({ length: count }, (_, i) => ({ name: `m${i}`, inFeatures, outFeatures }));

const members = (count: number): wire.Member[] =>
  Array.from({ length: count }, (_, i) => ({
    publicKey: publicKeyFromPeerId(testIdentity(i).peerId),
    weight: 1,
  }));

export const MANIFEST_CASES = {
  MANIFEST_BYTES_MAX: {
    takes: (value) => isWithin(/over the limit/, () => decodeManifest(new Uint8Array(value))),
  },
  MODULES_MAX: {
    takes: (value) =>
      decodes(/module|protobuf/, ({ adapter }) => {
        if (adapter) adapter.modules = modules(value);
      }),
  },
  RANK_MAX: {
    takes: (value) =>
      decodes(/rank/, ({ adapter }) => {
        if (adapter) adapter.rank = value;
      }),
  },
  FEATURES_MAX: {
    takes: (value) =>
      decodes(/inFeatures/, ({ adapter }) => {
        if (adapter) adapter.modules = modules(1, value);
      }),
  },
  ADAPTER_SIZE_MAX: {
    takes: (value) =>
      decodes(/adapter size/, ({ adapter }) => {
        if (!adapter) return;
        // 255 modules of rank 1 with 2^19 features, and one with the rest.
        const rest = value - 255 * 2 ** 19;
        adapter.rank = 1;
        adapter.modules = modules(256, 2 ** 18, 2 ** 18);
        const [last] = adapter.modules.splice(-1);
        adapter.modules.push({ name: last?.name ?? '', inFeatures: 1, outFeatures: rest - 1 });
      }),
  },
  EPOCHS_MAX: {
    takes: (value) =>
      decodes(/epochsMax/, ({ schedule }) => {
        if (schedule) schedule.epochsMax = value;
      }),
  },
  COHORTS_MAX: {
    takes: (value) =>
      decodes(/cohorts/, ({ schedule }) => {
        if (schedule) Object.assign(schedule, { cohorts: value, epochsMax: 1000 });
      }),
  },
  EPOCH_MS_MIN: {
    step: -1,
    takes: (value) =>
      decodes(/epochMs/, ({ schedule }) => {
        if (schedule) schedule.epochMs = value;
      }),
  },
  EPOCH_MS_MAX: {
    takes: (value) =>
      decodes(/epochMs/, ({ schedule }) => {
        if (schedule) schedule.epochMs = value;
      }),
  },
  STEPS_MAX: {
    takes: (value) =>
      decodes(/stepsRef/, ({ schedule }) => {
        if (schedule) schedule.stepsRef = value;
      }),
  },
  ROBUST_AUTHORS_MAX: {
    takes: (value) =>
      decodes(/1 to 64/, (manifest) => {
        if (manifest.fold) Object.assign(manifest.fold, { mode: 2, trimFraction: 0.2 });
        manifest.membership = { mode: 2, members: members(value), inviteWeight: 0 };
      }),
  },
} satisfies Partial<Record<LimitName, LimitCase>>;
