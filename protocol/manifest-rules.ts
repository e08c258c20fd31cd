/** Which manifests a peer may run: every bound in one place, each failure one sentence. */
import { adapterLayout } from './adapter.js';
import { InvalidManifestError, InvalidPeerIdError } from './errors.js';
import { publicKeyFromPeerId } from './identity.js';
import * as limits from './limits.js';
import type { FoldRule, Manifest, Membership } from './manifest.js';

/** Of m rows fewer than half may lie: above this, floor(m trimFraction) leaves too few of them. */
export const TRIM_FRACTION_MAX = 0.45;

/** Entries in a table of alphas: a schedule, not a data channel. */
const PHASES_MAX = 64;

/** @throws InvalidManifestError naming the field, its value and the bound. */
export function checkManifest(manifest: Manifest): void {
  const { name, adapter, schedule, training } = manifest;
  if (!isPrintable(name, 64)) fail('name', name, '1 to 64 printable characters');
  peerId('founder', manifest.founder);
  checkFingerprint(manifest);
  checkAdapter(manifest);
  integer('schedule.startMs', schedule.startMs, 0, Number.MAX_SAFE_INTEGER);
  integer('schedule.epochMs', schedule.epochMs, limits.EPOCH_MS_MIN, limits.EPOCH_MS_MAX);
  integer('schedule.epochsMax', schedule.epochsMax, 1, limits.EPOCHS_MAX);
  integer('schedule.stepsRef', schedule.stepsRef, 1, limits.STEPS_MAX);
  // In a run of fewer epochs a member of the last cohorts would never have its turn.
  const cohortsMax = Math.min(limits.COHORTS_MAX, schedule.epochsMax);
  integer('schedule.cohorts', schedule.cohorts, 1, cohortsMax);
  integer('training.sequenceLength', training.sequenceLength, 8, 1 << 17);
  integer('training.batchSize', training.batchSize, 1, 4096);
  real('training.learningRate', training.learningRate, 1e-9, 10);
  real('training.warmupFraction', training.warmupFraction, 0, 1);
  real('training.finalFraction', training.finalFraction, 0, 1);
  real('training.weightDecay', training.weightDecay, 0, 10);
  real('training.beta1', training.beta1, 0, 0.999999);
  real('training.beta2', training.beta2, 0, 0.999999);
  real('training.epsilon', training.epsilon, 1e-30, 1);
  real('training.gradientNormMax', training.gradientNormMax, 1e-6, 1e6);
  real('adapter.alpha', adapter.alpha, 1e-6, 1e6);
  checkFold(manifest.fold);
  if (manifest.fold.mode === 'robust') checkRobust(manifest);
  checkMembership(manifest.membership);
  if (manifest.membership.mode === 'open' && manifest.fold.sealEvery !== 0) {
    fail(
      'fold.sealEvery',
      manifest.fold.sealEvery,
      '0 in an open run: nobody knows who could vote',
    );
  }
}

function checkFingerprint({ model }: Manifest): void {
  if (!isPrintable(model.name, 128)) {
    fail('model.name', model.name, '1 to 128 printable characters');
  }
  if (!/^[a-z0-9_-]{1,64}$/.test(model.architecture)) {
    fail('model.architecture', model.architecture, '1 to 64 of a-z, 0-9, _ and -');
  }
  for (const field of ['configSha256', 'weightsSha256', 'tokenizerSha256'] as const) {
    hash(`model.${field}`, model[field]);
  }
  if (model.files === null) return;
  hash('model.filesRoot', model.files.root);
  integer('model.filesBytes', model.files.size, 1, limits.MODEL_CATALOGUE_BYTES_MAX);
}

function checkAdapter({ adapter }: Manifest): void {
  integer('adapter.rank', adapter.rank, 1, limits.RANK_MAX);
  integer('adapter.seed length', adapter.seed.length, 32, 32);
  hash('adapter.initialSha256', adapter.initialSha256);
  if (adapter.initialRoot !== undefined) hash('adapter.initialRoot', adapter.initialRoot);
  integer('number of adapter.targetModules', adapter.targetModules.length, 1, 64);
  for (const target of adapter.targetModules) moduleName('adapter.targetModules', target);
  integer('number of adapter.modules', adapter.modules.length, 1, limits.MODULES_MAX);
  const names = new Set<string>();
  for (const module of adapter.modules) {
    moduleName('adapter.modules', module.name);
    if (names.has(module.name)) fail('adapter.modules', module.name, 'listed once');
    names.add(module.name);
    integer(`inFeatures of ${module.name}`, module.inFeatures, 1, limits.FEATURES_MAX);
    integer(`outFeatures of ${module.name}`, module.outFeatures, 1, limits.FEATURES_MAX);
  }
  integer('adapter size', adapterLayout(adapter).size, 1, limits.ADAPTER_SIZE_MAX);
}

function checkFold({ mode, trimFraction, clip, lagMax, alpha, ...seal }: FoldRule): void {
  if (mode !== 'robust' && trimFraction !== 0)
    fail('fold.trimFraction', trimFraction, '0 in a mean');
  real('fold.clip', clip, 0, 1e6);
  integer('fold.lagMax', lagMax, 2, 1000);
  integer('fold.sealEvery', seal.sealEvery, 0, limits.SEAL_EPOCHS_MAX);
  const [least, most] = seal.sealEvery > 0 ? [1, limits.SEAL_EPOCHS_MAX] : [0, 0];
  integer('fold.sealAfter', seal.sealAfter, least, most);
  ascending('fold.alpha', alpha);
  for (const { numerator, denominator } of alpha) {
    integer('alpha denominator', denominator, 1, 1_000_000);
    integer('alpha numerator', numerator, 0, denominator);
  }
}

/** Strangers can outvote any rule, and the rule compares each row with every other. */
function checkRobust({ fold, membership, schedule }: Manifest): void {
  real('fold.trimFraction', fold.trimFraction, 1e-6, TRIM_FRACTION_MAX);
  if (membership.mode !== 'allowlist') {
    fail(
      'membership.mode',
      membership.mode,
      'an allowlist with the robust fold: false peers outvote it',
    );
  }
  // Of a cohort's few rows too many may lie, although few of all members do.
  integer('schedule.cohorts with the robust fold', schedule.cohorts, 1, 1);
  const { members } = membership;
  integer('number of members with the robust fold', members.length, 1, limits.ROBUST_AUTHORS_MAX);
  for (const { peerId: member, weight } of members) {
    integer(`weight of ${member} with the robust fold`, weight, 1, 1);
  }
}

function checkMembership(membership: Membership): void {
  if (membership.mode === 'open') return;
  const { members } = membership;
  integer('number of membership.members', members.length, 1, limits.AUTHORS_MAX);
  if (new Set(members.map((member) => member.peerId)).size !== members.length) {
    fail('membership.members', members.length, 'free of duplicates');
  }
  for (const member of members) {
    peerId('membership.members', member.peerId);
    integer(`weight of ${member.peerId}`, member.weight, 1, 1000);
  }
  if (membership.mode === 'invite')
    integer('membership.inviteWeight', membership.inviteWeight, 1, 1000);
}

function ascending(field: string, phases: readonly { fromEpoch: number }[]): void {
  integer(`number of ${field}`, phases.length, 1, PHASES_MAX);
  for (const [i, { fromEpoch }] of phases.entries()) {
    const previous = phases[i - 1]?.fromEpoch ?? -1;
    integer(`fromEpoch ${i} of ${field}`, fromEpoch, previous + 1, limits.EPOCHS_MAX);
    if (i === 0 && fromEpoch !== 0) fail(`first fromEpoch of ${field}`, fromEpoch, '0');
  }
}

/**
 * Text for people, 1 to `points` code points: no controls, surrogates, line separators, zero-width or
 * bidirectional marks. Named one by one, because the sets "unassigned" and "format" change with each
 * version of Unicode, and with them a runtime's verdict.
 */
function isPrintable(text: string, points: 64 | 128): boolean {
  if (/[\p{Cc}\p{Cs}\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/u.test(text)) return false;
  return points === 64 ? /^.{1,64}$/su.test(text) : /^.{1,128}$/su.test(text);
}

function peerId(field: string, value: string): void {
  try {
    publicKeyFromPeerId(value);
  } catch (error) {
    if (!(error instanceof InvalidPeerIdError)) throw error;
    fail(field, value, 'a peer id (12D3KooW...)');
  }
}

function moduleName(field: string, name: string): void {
  if (!/^[A-Za-z0-9_.-]{1,200}$/.test(name)) {
    fail(field, name, 'names of 1 to 200 letters, digits, ".", "_" and "-"');
  }
}

function hash(field: string, value: string): void {
  if (!/^[0-9a-f]{64}$/.test(value)) fail(field, value, 'a SHA-256 in 64 hexadecimal digits');
}

function integer(field: string, value: number, min: number, max: number): void {
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    fail(field, value, `a whole number from ${min} to ${max}`);
  }
}

function real(field: string, value: number, min: number, max: number): void {
  if (!(value >= min && value <= max)) fail(field, value, `a number from ${min} to ${max}`);
}

function fail(field: string, value: string | number, bound: string): never {
  throw new InvalidManifestError(`the manifest's ${field} is ${value}; it must be ${bound}`);
}
