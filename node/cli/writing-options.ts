/** Options of the verbs that write text: how a token is chosen, how a conversation becomes text. */
import { createHash } from 'node:crypto';
import { EXIT_USAGE, UserError } from '../errors.js';
import { integer, option, real, switchOption, text, type OptionType } from '../config.js';
import type { ChosenModel } from './chosen-model.js';

/** Tokens of one answer. */
export const ANSWER_TOKENS_MAX = 4096;

/** A probability above zero. */
const share: OptionType<number> = { ...real('SHARE', 1e-6, 1), expected: 'above 0 and at most 1' };

/** `temperature`: the default. */
export function samplingOptions(temperature: number) {
  return {
    temperature: option(
      real('X', 0, 10),
      temperature,
      '0 takes the likeliest token, above 0 draws',
    ),
    topP: option(
      share,
      1,
      'draw among the likeliest tokens that have this share of the probability',
    ),
    seed: option(text('TEXT'), 'murmurate', 'of the draws: the same text again for the same seed'),
  } as const;
}

export const contextOption = {
  context: option(
    integer('TOKENS', 2, 1 << 17),
    null,
    'most tokens of a conversation and its answer; more take more memory and time',
    "2048, or the model's positions where these are fewer",
  ),
} as const;

export const formatOption = {
  format: option(
    text('TEXT'),
    null,
    "what a message becomes, {} standing for its words, like $'Q: {}\\nA:': for adapters trained on prompt/completion",
    "the model's chat template",
  ),
} as const;

export const compareOption = {
  compare: switchOption('write with the base model too, and show both'),
} as const;

/** Throws UserError (wrong usage) for --compare without an adapter. */
export function checkCompare(compare: boolean, source: ChosenModel['source']): void {
  if (!compare || source !== 'none') return;
  throw new UserError(
    'there is no adapter to compare the base model with; name one with --dir or --adapter',
    EXIT_USAGE,
  );
}

/** 32 bytes. */
export function seedOf(words: string): Uint8Array {
  return new Uint8Array(createHash('sha256').update(words).digest());
}
