/** Writes text token by token with an adapter: greedy, or drawn from the softmax at a temperature. */
import { Prng } from '../../protocol/prng.js';
import type { Tokenizer } from '../data/tokenizer.js';
import type { NextTokenModel } from '../model/next-token-model.js';

export interface GenerateOptions {
  /** What the text begins with, at least one token: see `promptTokens`. */
  prompt: readonly number[];
  /** At most so many new tokens, 1 or more. */
  tokensMax: number;
  /** 0 takes the likeliest token; above 0 draws from softmax(logits / temperature). */
  temperature: number;
  /** Of the draws, so that the same seed writes the same text. */
  seed: Uint8Array;
}

/** What a byte-level tokenizer shows for the first bytes of a character whose rest is not there yet. */
const REPLACEMENT = '\uFFFD';

/**
 * A prompt used as it is, like that of a prompt/completion example: end it with its own space, if any. A
 * text has to start from something: an empty prompt starts after the end of another text.
 */
export function promptTokens(tokenizer: Tokenizer, prompt: string): number[] {
  const ids = [...tokenizer.prefixIds, ...tokenizer.encode(prompt)];
  return ids.length > 0 ? ids : [tokenizer.eosTokenId];
}

/**
 * Returns what follows the prompt, without the end-of-text token that ends it. `onText` gets the same
 * text in pieces as it grows. When the model's capacity is full, it goes on from the end of the text: as
 * much as leaves room for the tokens to come, or at least half of the capacity. Rejects with
 * `signal.reason` between two tokens.
 */
export async function generate(
  model: NextTokenModel,
  tokenizer: Tokenizer,
  options: GenerateOptions,
  onText: (piece: string) => void,
  signal: AbortSignal,
): Promise<string> {
  const { temperature, tokensMax } = options;
  const ends = new Set([tokenizer.eosTokenId, ...model.config.eosTokenIds]);
  const random = new Prng(options.seed, 'generate');
  const written: number[] = [];
  let unread = options.prompt;
  let shown = '';
  model.forget();
  while (written.length < tokensMax) {
    signal.throwIfAborted();
    if (model.length + unread.length > model.capacity) {
      const room = Math.min(tokensMax - written.length, Math.floor(model.capacity / 2));
      unread = [...options.prompt, ...written].slice(room - model.capacity);
      model.forget();
    }
    const logits = await model.read(unread, signal);
    const next = temperature === 0 ? likeliest(logits) : draw(logits, temperature, random);
    if (ends.has(next)) break;
    written.push(next);
    unread = [next];
    const text = tokenizer.decode(written, true);
    if (text.endsWith(REPLACEMENT)) continue;
    onText(text.slice(shown.length));
    shown = text;
  }
  const text = tokenizer.decode(written, true);
  if (text.length > shown.length) onText(text.slice(shown.length));
  return text;
}

/** Index of the largest of `logits` ([vocabSize] float32), the first of equal ones. */
export function likeliest(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

/** An index drawn from softmax(logits / temperature); `logits`: [vocabSize] float32, temperature > 0. */
export function draw(logits: Float32Array, temperature: number, random: Prng): number {
  const peak = logits[likeliest(logits)]!;
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - peak) / temperature));
  let left = random.nextFloat() * weights.reduce((sum, weight) => sum + weight, 0);
  for (let i = 0; i < weights.length; i++) {
    left -= weights[i]!;
    if (left < 0) return i;
  }
  return likeliest(logits);
}
