/** What a run is: everything that peers must agree on. SHA-256 of its canonical bytes is the run id. */
import type { AdapterSpec } from './adapter.js';
import type { BlobName } from './blob.js';

export interface ModelFingerprint {
  /** For people, e.g. "tiny-base"; not compared. */
  name: string;
  /** config.json's model_type, e.g. "llama". */
  architecture: string;
  /** 64 hex digits each; how they are computed: docs/PROTOCOL.md, "Model fingerprint". */
  configSha256: string;
  weightsSha256: string;
  tokenizerSha256: string;
}

/** The base model of a run, and where its files are to be had. */
export interface AgreedModel extends ModelFingerprint {
  /** The catalogue of its files (protocol/model-files.ts), for members who lack them; null where the founder named none. */
  files: BlobName | null;
}

export interface Schedule {
  /** t0: start of epoch 0 in ms since 1970-01-01 UTC. */
  startMs: number;
  /** P: length of an epoch in ms. */
  epochMs: number;
  epochsMax: number;
  /** H_ref: optimiser steps of a peer in one epoch; a slower peer's delta is scaled up to it. */
  stepsRef: number;
  /** K: a member publishes in every K-th epoch (protocol/cohorts.ts), 1 to COHORTS_MAX. */
  cohorts: number;
}

export interface Training {
  /** Tokens in one sequence. */
  sequenceLength: number;
  /** Sequences in one step. */
  batchSize: number;
  /** Peak learning rate of AdamW. */
  learningRate: number;
  /** Share of the run with rising learning rate, 0 to 1. */
  warmupFraction: number;
  /** Learning rate at the end of the cosine as a share of the peak, 0 to 1. */
  finalFraction: number;
  weightDecay: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Gradients are scaled down to this L2 norm. */
  gradientNormMax: number;
  /** Zero the AdamW moments at each epoch. */
  resetMoments: boolean;
}

/** rot1: the signs of rotated values. rec20, rec10: those of the largest ones, in 20 or 10 bytes a block of 256. */
export const CODECS = ['rot1', 'rec20', 'rec10'] as const;

/** How updates are coded (protocol/quantise.ts). */
export interface Compression {
  codec: (typeof CODECS)[number];
}

/** From `fromEpoch` on an epoch's mean delta is applied with numerator / denominator. */
export interface AlphaPhase {
  fromEpoch: number;
  numerator: number;
  denominator: number;
}

export interface FoldRule {
  /** filtered: a mean without the rows that point against most others; robust: docs/PROTOCOL.md, "Robust mean". */
  mode: 'mean' | 'filtered' | 'robust';
  /** Robust: share of an epoch's rows that may lie, above 0 and at most TRIM_FRACTION_MAX. Else 0. */
  trimFraction: number;
  /** Rows longer than clip x the median row norm are scaled down to it; 0 switches clipping off. */
  clip: number;
  /** Updates whose fold is older than this many epochs count nothing. */
  lagMax: number;
  alpha: readonly AlphaPhase[];
  /** Epochs between two seals (protocol/seal.ts); 0 where nothing is sealed, as in every open run. */
  sealEvery: number;
  /** Epochs after the last sealed one before members sign, so that late updates still count; 0 without seals. */
  sealAfter: number;
}

export interface ListedMember {
  peerId: string;
  /** Of its rows in the mean. */
  weight: number;
}

/** Who takes part: everybody, the listed, or the listed and whom the founder invites (protocol/members.ts). */
export type Membership =
  | { mode: 'open' }
  | { mode: 'allowlist'; members: readonly ListedMember[] }
  | { mode: 'invite'; members: readonly ListedMember[]; inviteWeight: number };

/** The adapter with the hash of its start, so that a machine that draws other numbers is found out. */
export interface AgreedAdapter extends AdapterSpec {
  /** adapterSha256(initialAdapter(spec)): 64 hex digits. */
  initialSha256: string;
  /**
   * Root of theta0 as a blob of float32, little-endian, where the run begins from an adapter that there was before: 64 hex
   * digits. Absent where theta0 is drawn from the seed.
   */
  initialRoot?: string;
}

export interface Manifest {
  /** For people; 1 to 64 characters. */
  name: string;
  /** Peer id of the founder. */
  founder: string;
  model: AgreedModel;
  adapter: AgreedAdapter;
  schedule: Schedule;
  training: Training;
  compression: Compression;
  fold: FoldRule;
  membership: Membership;
}

/** A manifest with its canonical bytes and name. */
export interface Run {
  /** SHA-256 of `bytes`, 64 hex digits. */
  id: string;
  manifest: Manifest;
  bytes: Uint8Array;
}
