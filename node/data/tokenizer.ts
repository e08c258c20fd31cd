/** The model's tokenizer (tokenizer.json, by @huggingface/tokenizers), checked against the model. */
import { join } from 'node:path';
import { Tokenizer as HubTokenizer } from '@huggingface/tokenizers';
import { z } from 'zod';
import { UserError } from '../errors.js';
import { parseJson, readFileIfThere, readJsonFile } from '../json-file.js';

/** Text to token ids and back. */
export interface Tokenizer {
  /**
   * Ids of `text` alone: no special token is added, but those written out in the text are recognised, also
   * where their id is vocabSize or above.
   */
  encode(text: string): number[];
  /** Text of `ids`; `skipSpecialTokens` leaves out tokens such as end-of-text. */
  decode(ids: readonly number[], skipSpecialTokens: boolean): string;
  /** Ids below this one can be used: highest id + 1, at most the model's vocab_size. */
  readonly vocabSize: number;
  /** What this tokenizer puts before a text: mostly nothing, or the begin-of-text id. */
  readonly prefixIds: readonly number[];
  /** Ends a text. */
  readonly eosTokenId: number;
  /** Fills unused positions; never trained. */
  readonly padTokenId: number;
}

/** What a tokenizer must fit, from the model's config. */
export interface TokenizerModel {
  vocabSize: number;
  eosTokenIds: readonly number[];
  padTokenId: number | null;
}

const TOKENIZER_FILE = 'tokenizer.json';
const TOKENIZER_CONFIG_FILE = 'tokenizer_config.json';

/** Bytes of a tokenizer.json: Llama 3's has 17 MB, Gemma's 35 MB. */
const TOKENIZER_BYTES_MAX = 128 * 1024 * 1024;
/** Bytes of a tokenizer_config.json: some list thousands of added tokens. */
const TOKENIZER_CONFIG_BYTES_MAX = 8 * 1024 * 1024;

const object = { error: 'but must be a JSON object' };
const tokenizerSchema = z.looseObject(
  {
    model: z.looseObject({}, object),
    added_tokens: z.array(z.looseObject({ id: z.int(), content: z.string() })).nullish(),
  },
  object,
);
const specialToken = z.union([z.string(), z.looseObject({ content: z.string() })]).nullish();
/** The part of tokenizer_config.json that this project reads. A token is its text or an object with it. */
const tokenizerConfigSchema = z.looseObject(
  {
    eos_token: specialToken,
    bos_token: specialToken,
    pad_token: specialToken,
    clean_up_tokenization_spaces: z.boolean().nullish(),
    chat_template: z
      .union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))], {
        error: 'but must be a template or a list of named templates',
      })
      .nullish(),
  },
  object,
);
export type TokenizerConfig = z.infer<typeof tokenizerConfigSchema>;

/** Reads tokenizer_config.json, which may be missing. Throws UserError when it is damaged. */
export async function readTokenizerConfig(modelDir: string): Promise<TokenizerConfig> {
  const path = join(modelDir, TOKENIZER_CONFIG_FILE);
  const bytes = await readFileIfThere(path, TOKENIZER_CONFIG_BYTES_MAX, "the tokenizer's config");
  return bytes === null ? {} : parseJson(bytes, path, tokenizerConfigSchema);
}

/**
 * Opens the tokenizer of a model directory. Throws UserError: missing or damaged file, a kind that the
 * library does not know, ordinary tokens or those of every text beyond the model's vocabulary, or no
 * end-of-text token.
 */
export async function openTokenizer(modelDir: string, model: TokenizerModel): Promise<Tokenizer> {
  const path = join(modelDir, TOKENIZER_FILE);
  const json = await readJsonFile(path, TOKENIZER_BYTES_MAX, 'the tokenizer', tokenizerSchema);
  const config = await readTokenizerConfig(modelDir);
  try {
    const hub = new HubTokenizer(json, config);
    hub.encode('a');
    return wrap(hub, config, model, path);
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw new UserError(
      `${path} is not a tokenizer that can be used here (${cause instanceof Error ? cause.message : 'unknown fault'}): get the model's own tokenizer.json, from a model with a BPE, WordPiece or Unigram tokenizer`,
      undefined,
      { cause },
    );
  }
}

function wrap(
  hub: HubTokenizer,
  config: TokenizerConfig,
  model: TokenizerModel,
  path: string,
): Tokenizer {
  const highest = checkOrdinaryTokens(hub, model, path);
  const isUsable = (id: number): boolean => id < model.vocabSize;
  const eosTokenId = idOf(hub, config.eos_token) ?? model.eosTokenIds[0];
  if (eosTokenId === undefined) {
    throw new UserError(
      `${path}: no end-of-text token is known; name it as "eos_token" in tokenizer_config.json or as "eos_token_id" in config.json`,
    );
  }
  const prefixIds = prefixOf(hub);
  const needed = [eosTokenId, ...prefixIds].find((id) => !isUsable(id));
  if (needed !== undefined) {
    throw beyond(hub, needed, model, `${path}: every text needs`);
  }
  // Padding is never looked at, so that any id of the model's does.
  const padding = [idOf(hub, config.pad_token), model.padTokenId].find(
    (id) => id !== undefined && id !== null && isUsable(id),
  );
  // The library trusts what it was given, and fails where a field of the wrong kind is first used. Its own words
  // are left out: they may quote the text.
  const guarded = <T>(work: () => T): T => {
    try {
      return work();
    } catch {
      throw new UserError(
        `${path} is damaged: a tokenizer made of it fails at some text: get the model's own tokenizer.json`,
      );
    }
  };
  return {
    encode: (text) => guarded(() => hub.encode(text, { add_special_tokens: false }).ids),
    decode: (ids, skipSpecialTokens) => {
      if (ids.length === 0) return '';
      // The library's own default would take out spaces, as before a full stop.
      const clean = config.clean_up_tokenization_spaces ?? false;
      const options = {
        skip_special_tokens: skipSpecialTokens,
        clean_up_tokenization_spaces: clean,
      };
      return guarded(() => hub.decode([...ids], options));
    },
    vocabSize: Math.min(highest + 1, model.vocabSize),
    prefixIds,
    eosTokenId,
    padTokenId: padding ?? eosTokenId,
  };
}

/**
 * The highest id of all. Throws UserError for an ordinary token beyond the model's vocabulary, which any text
 * may need. Added tokens there (a padding token that nobody made room for, say) do no harm until a text
 * holds them: tokeniseRecord refuses that text.
 */
function checkOrdinaryTokens(hub: HubTokenizer, model: TokenizerModel, path: string): number {
  const added = hub.get_added_tokens_decoder();
  let [highest, ordinary] = [-1, -1];
  for (const id of added.keys()) highest = Math.max(highest, id);
  for (const [token, id] of hub.get_vocab(true)) {
    // The library counts ids that no token has as well.
    if (hub.token_to_id(token) !== id) continue;
    highest = Math.max(highest, id);
    if (!added.has(id)) ordinary = Math.max(ordinary, id);
  }
  if (ordinary >= model.vocabSize) throw beyond(hub, ordinary, model, `${path} has`);
  return highest;
}

function beyond(hub: HubTokenizer, id: number, model: TokenizerModel, what: string): UserError {
  const token = JSON.stringify(hub.decode([id], { skip_special_tokens: false }));
  return new UserError(
    `${what} the token ${token} with id ${id}, but the model's vocabulary ends at ${model.vocabSize - 1}: this tokenizer belongs to another model, get the model's own tokenizer.json`,
  );
}

/** The text of a special token as tokenizer_config.json gives it; undefined when it names none. */
export function tokenText(token: TokenizerConfig['eos_token']): string | undefined {
  return typeof token === 'string' ? token : (token?.content ?? undefined);
}

function idOf(hub: HubTokenizer, token: TokenizerConfig['eos_token']): number | undefined {
  const text = tokenText(token);
  return text === undefined ? undefined : hub.token_to_id(text);
}

/** What the post-processor puts before a text, found by looking. */
function prefixOf(hub: HubTokenizer): number[] {
  const plain = hub.encode('a', { add_special_tokens: false }).ids;
  const whole = hub.encode('a', { add_special_tokens: true }).ids;
  for (let start = 0; start + plain.length <= whole.length; start++) {
    if (plain.every((id, i) => whole[start + i] === id)) return whole.slice(0, start);
  }
  return [];
}
