/** The bounds that every field of a config.json is held to, whatever the family of the model. */
import { z } from 'zod';
import { UserError } from '../errors.js';
import { readQuantisation } from './quantised/method.js';

/** Rows of an embedding. */
export const VOCAB_SIZE_MAX = 1 << 22;
/** Tokens of a sequence. */
export const POSITIONS_MAX = 1 << 26;
/** Features of one head. */
export const HEAD_DIM_MAX = 1024;

/** A whole number from min to max. */
export function whole(min: number, max: number): z.ZodNumber {
  const error = `but must be a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
}

/** A number from min to max. */
export function between(min: number, max: number): z.ZodNumber {
  const error = `but must be a number from ${min} to ${max}`;
  return z.number({ error }).min(min, { error }).max(max, { error });
}

/** What zod says of something that is no object. */
export const object = { error: 'but must be a JSON object' };
/** true or false. */
export const flag = z.boolean({ error: 'but must be true or false' });
/** A string. */
export const text = z.string({ error: 'but must be a string' });

const tokenId = whole(0, VOCAB_SIZE_MAX - 1);

/** Fields that the configs of all families have under the same names. */
export const commonFields = {
  model_type: text,
  vocab_size: whole(2, VOCAB_SIZE_MAX),
  tie_word_embeddings: flag.nullish(),
  quantization_config: z.unknown().optional(),
  bos_token_id: tokenId.nullish(),
  eos_token_id: z
    .union([tokenId, z.array(tokenId).max(64)], {
      error: 'but must be a token id or a list of at most 64 token ids',
    })
    .nullish(),
  pad_token_id: whole(-1, VOCAB_SIZE_MAX - 1).nullish(),
};

/** Special tokens as a config gives them; absent means the family's default, null means none. */
interface RawTokens {
  bos_token_id?: number | null | undefined;
  eos_token_id?: number | number[] | null | undefined;
  pad_token_id?: number | null | undefined;
}

/** Special tokens of a model. */
export interface SpecialTokens {
  bosTokenId: number | null;
  /** Ids that end a text; may be empty. */
  eosTokenIds: number[];
  padTokenId: number | null;
}

/** The special tokens of `raw`, with the family's own where a field is absent. */
export function readSpecialTokens(
  raw: RawTokens,
  defaults: { bos: number | null; eos: number | null },
): SpecialTokens {
  const eos = raw.eos_token_id === undefined ? defaults.eos : raw.eos_token_id;
  return {
    bosTokenId: raw.bos_token_id === undefined ? defaults.bos : raw.bos_token_id,
    eosTokenIds: eos === null ? [] : Array.isArray(eos) ? eos : [eos],
    // Some older configs say "no padding token" with -1.
    padTokenId: (raw.pad_token_id ?? -1) < 0 ? null : (raw.pad_token_id ?? null),
  };
}

/** Throws UserError for a special token beyond the vocabulary. */
export function checkSpecialTokens(
  { bosTokenId, padTokenId, eosTokenIds }: SpecialTokens,
  vocabSize: number,
  sourceName: string,
): void {
  for (const id of [bosTokenId, padTokenId, ...eosTokenIds]) {
    if (id !== null && id >= vocabSize) {
      throw new UserError(
        `${sourceName}: token id ${id} (bos, eos or pad) is beyond vocab_size ${vocabSize}: get the model's own config.json`,
      );
    }
  }
}

/** Throws the UserError for a setting of `what` that would change the arithmetic; `supported` says what is. */
export function refuse(sourceName: string, what: string, supported: string): never {
  throw new UserError(`${sourceName}: ${what} is not supported; supported: ${supported}`);
}

/** Throws UserError for weights in a form that cannot be read. */
export function checkQuantisation(
  raw: { quantization_config?: unknown },
  sourceName: string,
): void {
  readQuantisation(raw.quantization_config, sourceName);
}
