/** Options of a run: each is a field of the manifest, with its bounds from protocol/limits.ts. */
import {
  choice,
  integer,
  manyOption,
  matching,
  option,
  orWord,
  real,
  switchOption,
  text,
} from '../config.js';
import type { OptionValues } from '../config.js';
import * as limits from '../../protocol/limits.js';
import { TRIM_FRACTION_MAX } from '../../protocol/manifest-rules.js';

/** A day: a run that begins later is better founded later. */
const START_IN_SECONDS_MAX = 86_400;

/**
 * With fewer members the robust fold takes the one that has other text for the one that lies: with four, one
 * domain each, it lost a domain for .26 nats (docs/PROTOCOL.md, "Why it is like this").
 */
export const ROBUST_MEMBERS_MIN = 8;

/**
 * Rank, steps and rates come from measurements (docs/BENCHMARKS.md, "What a swarm learns").
 */
export const runOptions = {
  name: option(
    text('NAME', '1 to 64 printable characters'),
    null,
    'name of the run, for people',
    "the model's name",
  ),
  rank: option(
    integer('N', 1, limits.RANK_MAX),
    16,
    'rank r of the LoRA adapter; 16 with small updates learns more than 8 with normal ones, at a fifth more bytes',
  ),
  alpha: option(
    real('X', 1e-6, 1e6),
    null,
    'LoRA scale: the adapter counts alpha / rank',
    'twice the rank',
  ),
  targetModules: manyOption(
    matching(
      'NAME',
      /^[A-Za-z0-9_.-]{1,200}$/,
      'all-linear or the names of linear layers, like q_proj',
    ),
    ['all-linear'],
    'layers that get an adapter, as in PEFT',
  ),
  seed: option(text('TEXT'), null, 'draws lora_A, the same for the same text', 'random'),
  epochs: option(integer('N', 1, limits.EPOCHS_MAX), 30, 'epochs in the run'),
  epochSeconds: option(
    orWord('auto', real('SECONDS', limits.EPOCH_MS_MIN / 1000, limits.EPOCH_MS_MAX / 1000)),
    'auto',
    "length of an epoch; auto is about twice the time of this machine's steps, 5 to 900 seconds",
  ),
  startIn: option(real('SECONDS', 0, START_IN_SECONDS_MAX), 5, 'epoch 0 begins so long from now'),
  steps: option(integer('N', 1, limits.STEPS_MAX), 10, 'optimiser steps of a peer in one epoch'),
  cohorts: option(
    integer('N', 1, limits.COHORTS_MAX),
    1,
    'a member trains in each epoch and sends an update in every Nth: traffic is 1/N, and learning slower ' +
      '(docs/BENCHMARKS.md, "Cohorts")',
  ),
  sequenceLength: option(
    orWord('auto', integer('TOKENS', 8, 1 << 17)),
    'auto',
    'tokens in one sequence; auto is as many as 95 of 100 records have, in multiples of 64, as far as the model and ' +
      'the memory of this machine allow',
  ),
  batchSize: option(integer('N', 1, 4096), 8, 'sequences in one step'),
  learningRate: option(
    orWord('auto', real('X', 1e-9, 10)),
    'auto',
    'peak learning rate of AdamW; auto is 2 / (hidden size of the model), at most 0.008',
  ),
  warmup: option(real('SHARE', 0, 1), 0.05, 'share of the run with a rising learning rate'),
  finalLearningRate: option(
    real('SHARE', 0, 1),
    0.1,
    'learning rate at the end as a share of the peak',
  ),
  weightDecay: option(real('X', 0, 10), 0, 'weight decay of AdamW'),
  adamBeta1: option(real('X', 0, 0.999999), 0.9, 'decay of the first moment'),
  adamBeta2: option(real('X', 0, 0.999999), 0.999, 'decay of the second moment'),
  adamEpsilon: option(real('X', 1e-30, 1), 1e-8, 'epsilon of AdamW'),
  gradientNorm: option(real('X', 1e-6, 1e6), 1, 'gradients are scaled down to this L2 norm'),
  resetMoments: switchOption('zero the moments of AdamW at each epoch'),
  fold: option(
    choice(['mean', 'filtered', 'robust']),
    'mean',
    'how an epoch’s updates are averaged; filtered leaves out those that point against most others; robust bears ' +
      'members who lie, needs --allow, and costs accuracy when nobody does',
  ),
  trim: option(
    real('SHARE', 0.01, TRIM_FRACTION_MAX),
    0.2,
    'share of the updates of an epoch that may lie with --fold robust',
  ),
  forceRobust: switchOption(
    `found a run with --fold robust for fewer than ${ROBUST_MEMBERS_MIN} members`,
  ),
  updateSize: option(
    choice(['normal', 'small', 'smallest']),
    'small',
    'bytes of an update: small has about 60 of 100, smallest 30; with fewer the swarm learns a little less in the same time',
  ),
  clip: option(
    orWord('auto', real('X', 0, 1e6)),
    'auto',
    'updates count at most this many times the median norm; 0 is off; auto is 1, or 1.5 with --fold robust',
  ),
  lagMax: option(
    integer('EPOCHS', 2, 1000),
    8,
    'updates that started from an older fold count nothing',
  ),
  sealEvery: option(
    orWord('auto', integer('EPOCHS', 0, limits.SEAL_EPOCHS_MAX)),
    'auto',
    'how often the members sign what they hold, so that no update can be back-dated behind it; 0 never; auto is ' +
      '16, or 1 with --fold robust; an open run never does',
  ),
  sealAfter: option(
    orWord('auto', integer('EPOCHS', 1, limits.SEAL_EPOCHS_MAX)),
    'auto',
    'epochs in which late updates still count before the members sign; auto is --lag-max, or 1 with --fold robust',
  ),
  foldAlpha: manyOption(
    matching('EPOCH:N/D', /^\d{1,6}:\d{1,7}\/\d{1,7}$/, 'like 0:1/1, from epoch 0 on times 1/1'),
    ['0:1/1'],
    'factor on the mean update from an epoch on',
  ),
  allow: manyOption(
    matching('PEER', /^[1-9A-HJ-NP-Za-km-z]{40,60}(:\d{1,4})?$/, 'a peer id, or PEER:WEIGHT'),
    [],
    'only these peers and the founder take part (default: everybody)',
  ),
  inviteOnly: switchOption(
    'only the founder, the peers of --allow and those with an invite of the founder take part',
  ),
  inviteWeight: option(
    integer('N', 1, 1000),
    1,
    'weight of each invited peer in the mean, as PEER:WEIGHT of --allow',
  ),
} as const;

/** The codec behind each --update-size. */
export const CODEC_OF_SIZE = { normal: 'rot1', small: 'rec20', smallest: 'rec10' } as const;

/** The values of runOptions. */
export type RunOptions = OptionValues<typeof runOptions>;

/** The same where auto has come to a number. */
export type WithLength<T extends { sequenceLength: number | 'auto' }> = Omit<
  T,
  'sequenceLength'
> & {
  sequenceLength: number;
};

/** The scale of an adapter: what --alpha says, else twice its rank, so that another rank leaves alpha / rank as it is. */
export function loraAlpha({ rank, alpha }: { rank: number; alpha: number | null }): number {
  return alpha ?? 2 * rank;
}
