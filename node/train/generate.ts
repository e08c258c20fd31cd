/** Writes text token by token with an adapter. */
import { Prng } from '../../protocol/prng.js';
import { textIds } from '../data/tokenise.js';
import type { Tokenizer } from '../data/tokenizer.js';
import type { NextTokenModel } from '../model/next-token-model.js';
import { choose, type Sampling } from './sampling.js';
import { TextStream } from './text-stream.js';

export interface GenerateOptions extends Sampling {
  /** What the text begins with, at least one token: see `promptTokens`. */
  prompt: readonly number[];
  /** At most so many new tokens, 1 or more. */
  tokensMax: number;
  /** Of the draws, so that the same seed writes the same text. */
  seed: Uint8Array;
  /** Tokens that end the text, beside the end-of-text tokens of tokenizer and model. */
  ends?: Iterable<number>;
  /** Texts that end the text and are no part of it. */
  stops?: readonly string[];
}

/** What was written. */
export interface Generated {
  /** Without what ended it. */
  text: string;
  /** Tokens written, an end-of-text token not counted. */
  tokens: number;
  /** 'stop': it ended by itself or by a stop text. 'length': it would go on. */
  finish: 'stop' | 'length';
}

/**
 * A prompt used as it is, like that of a prompt/completion example: end it with its own space, if any. A
 * text has to start from something: an empty prompt starts after the end of another text.
 */
export function promptTokens(tokenizer: Tokenizer, prompt: string): number[] {
  const ids = textIds(tokenizer, prompt);
  return ids.length > 0 ? ids : [tokenizer.eosTokenId];
}

/**
 * Returns what follows the prompt, without the end-of-text token that ends it. `onText` gets the same
 * text in pieces as it grows. When the model's capacity is full, it goes on from the end of the text: as
 * much as leaves room for the tokens to come, or at least half of the capacity. Rejects with
 * `signal.reason` between two tokens; what was written until then went to `onText`.
 */
export async function generate(
  model: NextTokenModel,
  tokenizer: Tokenizer,
  options: GenerateOptions,
  onText: (piece: string) => void,
  signal: AbortSignal,
): Promise<Generated> {
  const { tokensMax, ends = [], stops = [] } = options;
  const ending = new Set([tokenizer.eosTokenId, ...model.config.eosTokenIds, ...ends]);
  const random = new Prng(options.seed, 'generate');
  const stream = new TextStream(tokenizer, stops, onText);
  const written = stream.tokens;
  let finish: Generated['finish'] = 'length';
  let unread = options.prompt;
  model.forget();
  while (written.length < tokensMax) {
    signal.throwIfAborted();
    if (model.length + unread.length > model.capacity) {
      const room = Math.min(tokensMax - written.length, Math.floor(model.capacity / 2));
      unread = [...options.prompt, ...written].slice(room - model.capacity);
      model.forget();
    }
    const next = choose(await model.read(unread, signal), options, random);
    if (!ending.has(next)) stream.push(next);
    if (ending.has(next) || stream.stopped) {
      finish = 'stop';
      break;
    }
    unread = [next];
  }
  stream.end();
  return { text: stream.text, tokens: written.length, finish };
}
