/** Options -> manifest when a run is founded, and the comparison of the two when it is resumed. */
import { createHash, randomBytes } from 'node:crypto';
import { EXIT_USAGE, UserError } from '../errors.js';
import { flagOf } from '../config.js';
import { placeOf, type Origin } from '../config/sources.js';
import { parseHubName } from '../model/hub-name.js';
import { adapterSha256, initialAdapter, type LoraModule } from '../../protocol/adapter.js';
import type { BlobName } from '../../protocol/blob.js';
import type {
  AgreedAdapter,
  AlphaPhase,
  Compression,
  FoldRule,
  Manifest,
  Membership,
  ModelFingerprint,
  Training,
} from '../../protocol/manifest.js';
import {
  CODEC_OF_SIZE,
  loraAlpha,
  ROBUST_MEMBERS_MIN,
  runOptions,
  type RunOptions,
  type WithLength,
} from './run-options.js';

/**
 * The peak learning rate that `auto` picks, times the hidden size of the model, and the highest. Four peers with a kind of
 * text each learn .029 nats more on the embedded base than with half of it, and no kind of text pays for the others;
 * with twice as much one does (docs/BENCHMARKS.md, "What a swarm learns").
 */
const AUTO_RATE_BY_SIZE = 2;
const AUTO_RATE_MAX = 0.008;

/** What the options do not say. */
export interface FoundingContext {
  /** Peer id of the founder. */
  founder: string;
  fingerprint: ModelFingerprint;
  /** The catalogue of its files; null where members cannot fetch them from each other. */
  files: BlobName | null;
  hiddenSize: number;
  /** As PEFT writes them, e.g. ["q_proj", "v_proj"]. */
  targetModules: readonly string[];
  modules: readonly LoraModule[];
  /** What the run begins from; absent: drawn from the seed. */
  initial?: Pick<AgreedAdapter, 'rank' | 'alpha' | 'theta0' | 'initialRoot'> | null;
  /** ms since 1970-01-01 UTC. */
  startMs: number;
  epochMs: number;
}

/**
 * The manifest that `options` describe; bounds across fields are checked by encodeManifest.
 * @throws UserError (exit code 2) for a robust fold that would do more harm than good.
 */
export function manifestFromOptions(
  options: WithLength<RunOptions>,
  context: FoundingContext,
): Manifest {
  checkRobust(options, context.founder);
  checkSeals(options);
  const adapter = {
    rank: options.rank,
    alpha: loraAlpha(options),
    seed: options.seed === null ? new Uint8Array(randomBytes(32)) : seedOf(options.seed),
    targetModules: [...context.targetModules],
    modules: [...context.modules],
    ...context.initial,
  };
  return {
    name: options.name ?? runName(context.fingerprint.name),
    founder: context.founder,
    model: { ...context.fingerprint, files: context.files },
    adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
    schedule: {
      startMs: context.startMs,
      epochMs: context.epochMs,
      epochsMax: options.epochs,
      stepsRef: options.steps,
      cohorts: options.cohorts,
    },
    training: trainingOf(options, context.hiddenSize),
    compression: { codec: CODEC_OF_SIZE[options.updateSize] },
    fold: {
      mode: options.fold,
      trimFraction: trimFractionOf(options),
      clip: clipOf(options),
      lagMax: options.lagMax,
      ...sealRuleOf(options),
      alpha: alphaPhases(options.foldAlpha),
    },
    membership: membershipOf(options, context.founder),
  };
}

/** How a run with these options trains a model of `hiddenSize`. */
export function trainingOf(options: WithLength<RunOptions>, hiddenSize: number): Training {
  const { learningRate } = options;
  return {
    sequenceLength: options.sequenceLength,
    batchSize: options.batchSize,
    learningRate: learningRate === 'auto' ? autoRate(hiddenSize) : learningRate,
    warmupFraction: options.warmup,
    finalFraction: options.finalLearningRate,
    weightDecay: options.weightDecay,
    beta1: options.adamBeta1,
    beta2: options.adamBeta2,
    epsilon: options.adamEpsilon,
    gradientNormMax: options.gradientNorm,
    resetMoments: options.resetMoments,
  };
}

function autoRate(hiddenSize: number): number {
  return Math.min(AUTO_RATE_MAX, AUTO_RATE_BY_SIZE / hiddenSize);
}

/** Of a model on a hub, OWNER/NAME@COMMIT, the NAME. */
function runName(modelName: string): string {
  const name = parseHubName(modelName)?.name ?? modelName;
  return name.slice(name.indexOf('/') + 1);
}

function checkRobust(options: Omit<RunOptions, 'sequenceLength'>, founder: string): void {
  const { fold, forceRobust } = options;
  if (fold !== 'robust') return;
  const membership = membershipOf(options, founder);
  const members = membership.mode === 'allowlist' ? membership.members.length : 0;
  if (members === 0) {
    throw new UserError(
      '--fold robust needs --allow PEER for each member and no --invite-only: in a run that may grow, false peers outvote it',
      EXIT_USAGE,
    );
  }
  if (members >= ROBUST_MEMBERS_MIN || forceRobust) return;
  throw new UserError(
    `--fold robust with ${members} members takes a member with other text for a liar; it needs ` +
      `${ROBUST_MEMBERS_MIN} (--allow), or --force-robust`,
    EXIT_USAGE,
  );
}

function checkSeals(options: Omit<RunOptions, 'sequenceLength'>): void {
  const { sealEvery, sealAfter } = options;
  if (isOpen(options) && sealEvery !== 'auto' && sealEvery > 0) {
    throw new UserError(
      `--seal-every ${sealEvery} needs --allow PEER for each member, or --invite-only: nobody knows the members of an ` +
        'open run, so they cannot agree; leave it out, or name them',
      EXIT_USAGE,
    );
  }
  if (sealAfter === 'auto' || sealRuleOf(options).sealEvery > 0) return;
  const why =
    sealEvery === 0 ? '--seal-every 0 is given' : 'this run is open (no --allow, no --invite-only)';
  throw new UserError(
    `--seal-after ${sealAfter} means nothing where the members sign nothing, and ${why}; leave it out`,
    EXIT_USAGE,
  );
}

function isOpen({ allow, inviteOnly }: Omit<RunOptions, 'sequenceLength'>): boolean {
  return allow.length === 0 && !inviteOnly;
}

function trimFractionOf({ fold, trim }: Omit<RunOptions, 'sequenceLength'>): number {
  return fold === 'robust' ? trim : 0;
}

/**
 * When the members sign what they hold (docs/PROTOCOL.md, "Seals"). Under the robust fold often: an attacker that
 * holds updates back can back-date them no further than that.
 */
function sealRuleOf(
  options: Omit<RunOptions, 'sequenceLength'>,
): Pick<FoldRule, 'sealEvery' | 'sealAfter'> {
  const isRobust = options.fold === 'robust';
  const usual = isOpen(options) ? 0 : isRobust ? 1 : 16;
  const sealEvery = options.sealEvery === 'auto' ? usual : options.sealEvery;
  const after = isRobust ? 1 : options.lagMax;
  const sealAfter = options.sealAfter === 'auto' ? after : options.sealAfter;
  return { sealEvery, sealAfter: sealEvery === 0 ? 0 : sealAfter };
}

function clipOf({ fold, clip }: Omit<RunOptions, 'sequenceLength'>): number {
  if (clip !== 'auto') return clip;
  return fold === 'robust' ? 1.5 : 1;
}

/** 32 bytes from any text. */
function seedOf(seed: string): Uint8Array {
  return new Uint8Array(createHash('sha256').update('murmurate/seed/1\n').update(seed).digest());
}

function alphaPhases(phases: readonly string[]): AlphaPhase[] {
  return phases.map((phase) => {
    const [fromEpoch = 0, numerator = 0, denominator = 0] = phase.split(/[:/]/).map(Number);
    return { fromEpoch, numerator, denominator };
  });
}

function membershipOf(options: Omit<RunOptions, 'sequenceLength'>, founder: string): Membership {
  const { allow, inviteOnly, inviteWeight } = options;
  if (isOpen(options)) return { mode: 'open' };
  const weights = new Map<string, number>([[founder, 1]]);
  for (const entry of allow) {
    const [peerId = '', weight = '1'] = entry.split(':');
    weights.set(peerId, Number(weight));
  }
  const members = [...weights].map(([peerId, weight]) => ({ peerId, weight }));
  return inviteOnly ? { mode: 'invite', members, inviteWeight } : { mode: 'allowlist', members };
}

function sizeOf(codec: Compression['codec']): string {
  return Object.entries(CODEC_OF_SIZE).find(([, one]) => one === codec)?.[0] ?? codec;
}

type Comparable = string | number | boolean | null;

interface Comparison {
  /** The option as the manifest would hold it; null where the option leaves the choice open. */
  wanted: (options: RunOptions, stored: Manifest) => Comparable;
  stored: (manifest: Manifest) => Comparable;
}

/** How each flag compares with the manifest of the run that is resumed. */
const COMPARISONS: Record<
  Exclude<keyof RunOptions, 'startIn' | 'targetModules' | 'forceRobust'>,
  Comparison
> = {
  name: { wanted: (o) => o.name, stored: (m) => m.name },
  rank: { wanted: (o) => o.rank, stored: (m) => m.adapter.rank },
  alpha: { wanted: (o) => o.alpha, stored: (m) => m.adapter.alpha },
  seed: {
    wanted: (o) => (o.seed === null ? null : hex(seedOf(o.seed))),
    stored: (m) => hex(m.adapter.seed),
  },
  epochs: { wanted: (o) => o.epochs, stored: (m) => m.schedule.epochsMax },
  epochSeconds: {
    wanted: (o) => (o.epochSeconds === 'auto' ? null : Math.round(o.epochSeconds * 1000) / 1000),
    stored: (m) => m.schedule.epochMs / 1000,
  },
  steps: { wanted: (o) => o.steps, stored: (m) => m.schedule.stepsRef },
  cohorts: {
    wanted: (o) => o.cohorts,
    stored: (m) => m.schedule.cohorts,
  },
  sequenceLength: {
    wanted: (o) => (o.sequenceLength === 'auto' ? null : o.sequenceLength),
    stored: (m) => m.training.sequenceLength,
  },
  batchSize: { wanted: (o) => o.batchSize, stored: (m) => m.training.batchSize },
  learningRate: {
    wanted: (o) => (o.learningRate === 'auto' ? null : o.learningRate),
    stored: (m) => m.training.learningRate,
  },
  warmup: { wanted: (o) => o.warmup, stored: (m) => m.training.warmupFraction },
  finalLearningRate: {
    wanted: (o) => o.finalLearningRate,
    stored: (m) => m.training.finalFraction,
  },
  weightDecay: { wanted: (o) => o.weightDecay, stored: (m) => m.training.weightDecay },
  adamBeta1: { wanted: (o) => o.adamBeta1, stored: (m) => m.training.beta1 },
  adamBeta2: { wanted: (o) => o.adamBeta2, stored: (m) => m.training.beta2 },
  adamEpsilon: { wanted: (o) => o.adamEpsilon, stored: (m) => m.training.epsilon },
  gradientNorm: { wanted: (o) => o.gradientNorm, stored: (m) => m.training.gradientNormMax },
  resetMoments: { wanted: (o) => o.resetMoments, stored: (m) => m.training.resetMoments },
  fold: { wanted: (o) => o.fold, stored: (m) => m.fold.mode },
  trim: { wanted: (o) => o.trim, stored: (m) => m.fold.trimFraction },
  updateSize: {
    wanted: (o) => o.updateSize,
    stored: ({ compression }) => sizeOf(compression.codec),
  },
  clip: {
    wanted: (o) => (o.clip === 'auto' ? null : o.clip),
    stored: (m) => m.fold.clip,
  },
  lagMax: { wanted: (o) => o.lagMax, stored: (m) => m.fold.lagMax },
  sealEvery: {
    wanted: (o) => (o.sealEvery === 'auto' ? null : o.sealEvery),
    stored: (m) => m.fold.sealEvery,
  },
  sealAfter: {
    wanted: (o) => (o.sealAfter === 'auto' ? null : o.sealAfter),
    stored: (m) => m.fold.sealAfter,
  },
  foldAlpha: {
    wanted: (o) => alphaText(alphaPhases(o.foldAlpha)),
    stored: (m) => alphaText(m.fold.alpha),
  },
  allow: {
    wanted: (o, m) => membershipText(membershipOf(o, m.founder)),
    stored: (m) => membershipText(m.membership),
  },
  inviteOnly: {
    wanted: (o) => (o.inviteOnly ? 'given' : 'not given'),
    stored: (m) => (m.membership.mode === 'invite' ? 'given' : 'not given'),
  },
  inviteWeight: {
    wanted: (o) => o.inviteWeight,
    stored: (m) => (m.membership.mode === 'invite' ? m.membership.inviteWeight : 'none'),
  },
};

/**
 * Throws UserError (exit code 2) when an option that was set says something else than the stored
 * manifest; names each of them and where it stands. `given`: who set which option; `targetModules` is what
 * --target-modules means for this model.
 */
export function checkResume(
  options: RunOptions,
  given: ReadonlyMap<string, Origin>,
  targetModules: readonly string[],
  manifest: Manifest,
  directory: string,
): void {
  const faults: string[] = [];
  const check = (name: string, wanted: Comparable, stored: Comparable): void => {
    if (!given.has(name) || wanted === null || wanted === stored) return;
    const place = placeOf(given.get(name));
    const where = place === undefined ? '' : ` of ${place}`;
    faults.push(`${flagOf(name)} ${String(wanted)}${where} (the run has ${String(stored)})`);
  };
  for (const name of Object.keys(runOptions)) {
    if (name === 'targetModules') {
      const stored = manifest.adapter.targetModules.toSorted().join(' ');
      check(name, targetModules.toSorted().join(' '), stored);
    } else if (isComparable(name)) {
      const { wanted, stored } = COMPARISONS[name];
      check(name, wanted(options, manifest), stored(manifest));
    }
  }
  if (faults.length === 0) return;
  throw new UserError(
    `${directory} holds the run "${manifest.name}", which these options contradict: ${faults.join(', ')}; ` +
      'leave them out to resume it, or found a new run in another --dir',
    EXIT_USAGE,
  );
}

function isComparable(name: string): name is keyof typeof COMPARISONS {
  return Object.hasOwn(COMPARISONS, name);
}

function alphaText(phases: readonly AlphaPhase[]): string {
  return phases
    .map(({ fromEpoch, numerator, denominator }) => `${fromEpoch}:${numerator}/${denominator}`)
    .join(' ');
}

function membershipText(membership: Membership): string {
  if (membership.mode === 'open') return 'everybody';
  return membership.members
    .map(({ peerId, weight }) => (weight === 1 ? peerId : `${peerId}:${weight}`))
    .toSorted()
    .join(' ');
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
