/** The model's tokenizer (tokenizer.json, by @huggingface/tokenizers), checked against the model. */
import { join } from 'node:path';
import { z } from 'zod';
import { UserError } from '../errors.js';
import { parseJson, readFileIfThere, readJsonFile } from '../json-file.js';
import { printableLine } from '../printable.js';
import { TooMuchError } from './bounded-library.js';
import { BoundedTokenizer } from './bounded-tokenizer.js';
import { timeFor, withTimeLimit, type ModelProgram } from './time-limit.js';
import { checkTokenizerFile, SPECIAL_TOKENS_MAX, tokenizerSchema } from './tokenizer-limits.js';

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
export const TOKENIZER_CONFIG_FILE = 'tokenizer_config.json';

/** Bytes of a tokenizer.json: Llama 3's has 17 MB, Gemma's 35 MB. */
const TOKENIZER_BYTES_MAX = 64 * 1024 * 1024;
/** To build a tokenizer: one of 35 MB takes 3 s on an idle core. */
const OPENING_MS = 60_000;
/** Characters of a token that an error shows. */
const TOKEN_SHOWN_CHARACTERS_MAX = 60;
/** Tokens before every text, such as the begin-of-text token. */
const PREFIX_TOKENS_MAX = 64;
/** Bytes of a tokenizer_config.json: some list thousands of added tokens. */
const TOKENIZER_CONFIG_BYTES_MAX = 8 * 1024 * 1024;

const object = { error: 'but must be a JSON object' };
const specialToken = z.union([z.string(), z.looseObject({ content: z.string() })]).nullish();
/** The part of tokenizer_config.json that this project reads. A token is its text or an object with it. */
const tokenizerConfigSchema = z.looseObject(
  {
    eos_token: specialToken,
    bos_token: specialToken,
    pad_token: specialToken,
    additional_special_tokens: z
      .union([z.array(z.unknown()).max(SPECIAL_TOKENS_MAX), z.record(z.string(), z.unknown())], {
        error: `but must list at most ${SPECIAL_TOKENS_MAX} tokens`,
      })
      .nullish(),
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

/** How long the programs of a tokenizer.json may run. */
export interface TokenizerTimes {
  openingMs?: number;
  /** For one text; a long one has more. */
  callMs?: number;
}

/**
 * Opens the tokenizer of a model directory. Throws UserError: missing or damaged file, a kind that the
 * library does not know, ordinary tokens or those of every text beyond the model's vocabulary, no
 * end-of-text token, or one that goes beyond a bound.
 */
export async function openTokenizer(
  modelDir: string,
  model: TokenizerModel,
  times: TokenizerTimes = {},
): Promise<Tokenizer> {
  const path = join(modelDir, TOKENIZER_FILE);
  const json = await readJsonFile(path, TOKENIZER_BYTES_MAX, 'the tokenizer', tokenizerSchema);
  checkTokenizerFile(json, path);
  const config = await readTokenizerConfig(modelDir);
  const program = { path, remedy: "get the model's own tokenizer.json" };
  const { openingMs = OPENING_MS, callMs } = times;
  return withTimeLimit(program, openingMs, () => {
    try {
      const hub = new BoundedTokenizer(json, config);
      hub.encode('a', { add_special_tokens: true });
      return wrap(hub, config, model, program, callMs);
    } catch (cause) {
      if (cause instanceof UserError) throw cause;
      if (cause instanceof TooMuchError) throw tooMuch(program, cause);
      throw new UserError(
        `${path} is not a tokenizer that can be used here (${messageOf(cause)}): get the model's own tokenizer.json, from a model with a BPE, WordPiece or Unigram tokenizer`,
        undefined,
        { cause },
      );
    }
  });
}

function tooMuch({ path, remedy }: ModelProgram, cause: TooMuchError): UserError {
  return new UserError(`${path}: the tokenizer ${cause.message}: ${remedy}`, undefined, { cause });
}

/** The library's errors are no instances of Error here: it runs in a context of its own. */
function messageOf(cause: unknown): string {
  const message =
    typeof cause === 'object' && cause !== null && 'message' in cause ? cause.message : null;
  return typeof message === 'string' ? printableLine(message.slice(0, 200)) : 'unknown fault';
}

/** The library hands the tokens of one piece over as the arguments of one call. */
function isOutOfStack(cause: unknown): boolean {
  return (
    typeof cause === 'object' && cause !== null && 'name' in cause && cause.name === 'RangeError'
  );
}

function wrap(
  hub: BoundedTokenizer,
  config: TokenizerConfig,
  model: TokenizerModel,
  program: ModelProgram,
  callMs: number | undefined,
): Tokenizer {
  const { path } = program;
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
  // The library's own default would take out spaces, as before a full stop.
  const cleanUp = config.clean_up_tokenization_spaces ?? false;
  const guarded = guard(program, callMs);
  return {
    encode: (text) => guarded(text.length, () => hub.encode(text, { add_special_tokens: false })),
    decode: (ids, skipSpecialTokens) => {
      if (ids.length === 0) return '';
      const options = {
        skip_special_tokens: skipSpecialTokens,
        clean_up_tokenization_spaces: cleanUp,
      };
      return guarded(ids.length, () => hub.decode(ids, options));
    },
    vocabSize: Math.min(highest + 1, model.vocabSize),
    prefixIds,
    eosTokenId,
    padTokenId: padding ?? eosTokenId,
  };
}

/**
 * The library trusts what it was given, and fails where a field of the wrong kind is first used. Its own words
 * are left out: they may quote the text.
 */
function guard(
  program: ModelProgram,
  callMs: number | undefined,
): <T>(size: number, work: () => T) => T {
  return (size, work) =>
    withTimeLimit(program, timeFor(size, callMs), () => {
      try {
        return work();
      } catch (cause) {
        if (cause instanceof TooMuchError) throw tooMuch(program, cause);
        if (isOutOfStack(cause)) {
          throw new UserError(
            `${program.path}: the tokenizer cannot take a text of ${size} characters or tokens, which it does not split into pieces: give shorter records`,
          );
        }
        throw new UserError(
          `${program.path} is damaged: a tokenizer made of it fails at some text: ${program.remedy}`,
        );
      }
    });
}

/**
 * The highest id of all. Throws UserError for an ordinary token beyond the model's vocabulary, which any text
 * may need. Added tokens there (a padding token that nobody made room for, say) do no harm until a text
 * holds them: tokeniseRecord refuses that text.
 */
function checkOrdinaryTokens(hub: BoundedTokenizer, model: TokenizerModel, path: string): number {
  const added = hub.addedIds;
  let [highest, ordinary] = [-1, -1];
  for (const id of added) highest = Math.max(highest, id);
  for (const [token, id] of hub.vocabulary) {
    // The library counts ids that no token has as well.
    if (hub.idOf(token) !== id) continue;
    highest = Math.max(highest, id);
    if (!added.has(id)) ordinary = Math.max(ordinary, id);
  }
  if (ordinary >= model.vocabSize) throw beyond(hub, ordinary, model, `${path} has`);
  return highest;
}

function beyond(hub: BoundedTokenizer, id: number, model: TokenizerModel, what: string): UserError {
  const text = hub.decode([id], { skip_special_tokens: false });
  const token = printableLine(JSON.stringify(text.slice(0, TOKEN_SHOWN_CHARACTERS_MAX)));
  return new UserError(
    `${what} the token ${token} with id ${id}, but the model's vocabulary ends at ${model.vocabSize - 1}: this tokenizer belongs to another model, get the model's own tokenizer.json`,
  );
}

/** The text of a special token as tokenizer_config.json gives it; undefined when it names none. */
export function tokenText(token: TokenizerConfig['eos_token']): string | undefined {
  return typeof token === 'string' ? token : (token?.content ?? undefined);
}

function idOf(hub: BoundedTokenizer, token: TokenizerConfig['eos_token']): number | undefined {
  const text = tokenText(token);
  return text === undefined ? undefined : hub.idOf(text);
}

/** What the post-processor puts before a text, found by looking. */
function prefixOf(hub: BoundedTokenizer): number[] {
  const plain = hub.encode('a', { add_special_tokens: false });
  const whole = hub.encode('a', { add_special_tokens: true });
  for (let start = 0; start + plain.length <= whole.length; start++) {
    if (!plain.every((id, i) => whole[start + i] === id)) continue;
    if (start > PREFIX_TOKENS_MAX) {
      throw new TooMuchError(
        `puts ${start} tokens before every text, more than ${PREFIX_TOKENS_MAX}`,
      );
    }
    return whole.slice(0, start);
  }
  return [];
}
