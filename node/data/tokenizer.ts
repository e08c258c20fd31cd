/** The model's tokenizer, opened from tokenizer.json and checked against the model. */
import { join } from 'node:path';
import { z } from 'zod';
import { UserError } from '../errors.js';
import { parseJson, readFileIfThere, readJsonFile } from '../json-file.js';
import { printableLine } from '../printable.js';
import { TEXT_CHARACTERS_MAX, TooMuchError } from './text-budget.js';
import { timeFor, withTimeLimit, type ModelProgram } from './time-limit.js';
import {
  checkTokenizerFile,
  SPECIAL_TOKENS_MAX,
  tokenizerSchema,
  type TokenizerFile,
} from './tokenizer-limits.js';
import { TokenizerEngine, type Encoded } from './tokenizers/engine.js';
import { FormatError } from './tokenizers/fields.js';

/** Text to token ids and back. */
export interface Tokenizer {
  /**
   * Ids of `text` alone: no special token is added, but those written out in the text are recognised, also
   * where their id is vocabSize or above.
   */
  encode(text: string): number[];
  /** As encode, with the stretch of the text that each token came from. */
  encodeWithOffsets(text: string): Encoded;
  /** Ids of `text` where it goes on from another: it has no space that a text begins with. */
  encodeContinuation(text: string): number[];
  /** Text of `ids`; `skipSpecialTokens` leaves out tokens such as end-of-text. */
  decode(ids: readonly number[], skipSpecialTokens: boolean): string;
  /**
   * As decode, for tokens that follow others. Some tokenizers drop the space before the first word of a text; here
   * it stays, because the word goes on from what is there.
   */
  decodeContinuation(ids: readonly number[], skipSpecialTokens: boolean): string;
  /** Tokens such as end-of-text, which are no words, by their text. */
  readonly specialTokens: ReadonlyMap<string, number>;
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
/** Where older models name their special tokens. */
const SPECIAL_TOKENS_FILE = 'special_tokens_map.json';
/** To build a tokenizer: one of 35 MB takes 3 s on an idle core. */
const OPENING_MS = 60_000;
/** Characters of a token that an error shows. */
const TOKEN_SHOWN_CHARACTERS_MAX = 60;
/** Characters that an error shows of what is wrong with a tokenizer, which may quote it. */
const REASON_CHARACTERS_MAX = 200;
/** Tokens before every text, such as the begin-of-text token. */
const PREFIX_TOKENS_MAX = 64;
/** Bytes of a tokenizer_config.json: some list thousands of added tokens. */
const TOKENIZER_CONFIG_BYTES_MAX = 8 * 1024 * 1024;

const object = { error: 'but must be a JSON object' };
const oneToken = z.union([z.string(), z.looseObject({ content: z.string() })]);
const specialToken = oneToken.nullish();
const moreTokens = z
  .union([z.array(oneToken).max(SPECIAL_TOKENS_MAX), z.record(z.string(), oneToken)], {
    error: `but must list at most ${SPECIAL_TOKENS_MAX} tokens`,
  })
  .nullish();
/** The part of tokenizer_config.json that this project reads. A token is its text or an object with it. */
const tokenizerConfigSchema = z.looseObject(
  {
    eos_token: specialToken,
    bos_token: specialToken,
    pad_token: specialToken,
    unk_token: specialToken,
    sep_token: specialToken,
    cls_token: specialToken,
    mask_token: specialToken,
    additional_special_tokens: moreTokens,
    extra_special_tokens: moreTokens,
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

/**
 * Reads tokenizer_config.json, which may be missing, and over it, as Transformers does where that file lists no added
 * tokens, special_tokens_map.json of older models. Throws UserError when one of them is damaged.
 */
export async function readTokenizerConfig(modelDir: string): Promise<TokenizerConfig> {
  const read = async (name: string): Promise<TokenizerConfig> => {
    const path = join(modelDir, name);
    const bytes = await readFileIfThere(path, TOKENIZER_CONFIG_BYTES_MAX, "the tokenizer's config");
    return bytes === null ? {} : parseJson(bytes, path, tokenizerConfigSchema);
  };
  const config = await read(TOKENIZER_CONFIG_FILE);
  if ('added_tokens_decoder' in config) return config;
  return { ...config, ...(await read(SPECIAL_TOKENS_FILE)) };
}

/** How long the programs of a tokenizer.json may run. */
export interface TokenizerTimes {
  openingMs?: number;
  /** For one text; a long one has more. */
  callMs?: number;
}

/**
 * Opens the tokenizer of a model directory. Throws UserError: missing or damaged file, a kind that is not
 * known here, ordinary tokens or those of every text beyond the model's vocabulary, no end-of-text token, or
 * one that goes beyond a bound.
 */
export async function openTokenizer(
  modelDir: string,
  model: TokenizerModel,
  { openingMs = OPENING_MS, callMs }: TokenizerTimes = {},
): Promise<Tokenizer> {
  const path = join(modelDir, TOKENIZER_FILE);
  const json = await readJsonFile(path, TOKENIZER_BYTES_MAX, 'the tokenizer', tokenizerSchema);
  checkTokenizerFile(json, path);
  const config = await readTokenizerConfig(modelDir);
  const program = { path, remedy: "get the model's own tokenizer.json" };
  return withTimeLimit(program, openingMs, () => {
    try {
      const engine = new TokenizerEngine(withSpecialTokens(json, config));
      engine.encode('a');
      return wrap(engine, config, model, program, callMs);
    } catch (cause) {
      if (cause instanceof UserError) throw cause;
      if (cause instanceof TooMuchError) throw tooMuch(program, cause);
      throw new UserError(
        `${path} is not a tokenizer that can be used here (${messageOf(cause)}): ${program.remedy}, from a model with a BPE, WordPiece or Unigram tokenizer`,
        undefined,
        { cause },
      );
    }
  });
}

function tooMuch({ path, remedy }: ModelProgram, cause: TooMuchError): UserError {
  return new UserError(`${path}: the tokenizer ${cause.message}: ${remedy}`, undefined, { cause });
}

/** It may quote what the file says. */
function messageOf(cause: unknown): string {
  if (!(cause instanceof Error)) return 'unknown fault';
  return printableLine(cause.message.slice(0, REASON_CHARACTERS_MAX));
}

/** Special tokens that tokenizer_config.json names are found in a text although tokenizer.json lists them as words. */
function withSpecialTokens(json: TokenizerFile, config: TokenizerConfig): Record<string, unknown> {
  const added = json.added_tokens ?? [];
  const known = new Set(added.map(({ content }) => content));
  const { vocab } = json.model;
  const named = Object.values(specialTokensOf(config)).filter((token) => !known.has(token));
  const missing = Array.from(new Set(named), (content) => ({ content, id: idIn(vocab, content) }));
  const found = missing.filter(({ id }) => id !== undefined);
  const more = found.map((token) => ({ ...token, special: true, normalized: false }));
  return { ...json, added_tokens: [...added, ...more] };
}

function idIn(vocab: unknown, token: string): number | undefined {
  if (Array.isArray(vocab)) {
    const id = vocab.findIndex((entry) => Array.isArray(entry) && entry[0] === token);
    return id === -1 ? undefined : id;
  }
  if (typeof vocab !== 'object' || vocab === null) return undefined;
  const id = (vocab as Record<string, unknown>)[token];
  return typeof id === 'number' ? id : undefined;
}

function wrap(
  engine: TokenizerEngine,
  config: TokenizerConfig,
  model: TokenizerModel,
  program: ModelProgram,
  callMs: number | undefined,
): Tokenizer {
  const { path } = program;
  const highest = checkOrdinaryTokens(engine, model, path);
  const isUsable = (id: number): boolean => id < model.vocabSize;
  const eosTokenId = idOf(engine, config.eos_token) ?? model.eosTokenIds[0];
  if (eosTokenId === undefined) {
    throw new UserError(
      `${path}: no end-of-text token is known; name it as "eos_token" in tokenizer_config.json or as "eos_token_id" in config.json`,
    );
  }
  const { prefixIds } = engine;
  if (prefixIds.length > PREFIX_TOKENS_MAX) {
    throw new TooMuchError(
      `puts ${prefixIds.length} tokens before every text, more than ${PREFIX_TOKENS_MAX}`,
    );
  }
  const needed = [eosTokenId, ...prefixIds].find((id) => !isUsable(id));
  if (needed !== undefined) {
    throw beyond(engine, needed, model, `${path}: every text needs`);
  }
  // Padding is never looked at, so that any id of the model's does.
  const padding = [idOf(engine, config.pad_token), model.padTokenId].find(
    (id) => id !== undefined && id !== null && isUsable(id),
  );
  const guarded = guard(program, callMs);
  const ofText = <T>(text: string, work: () => T): T =>
    guarded(text.length, () => {
      checkText(text);
      return work();
    });
  const encodeWithOffsets = (text: string): Encoded => ofText(text, () => engine.encode(text));
  // Spaces before signs stay unless the model's own config asks for it.
  const cleansUp = config.clean_up_tokenization_spaces ?? false;
  const decode = (ids: readonly number[], skip: boolean): string =>
    guarded(ids.length, () => engine.decode(ids, skip, cleansUp));
  const special = engine.addedTokens.filter((token) => token.special);
  // A word for the tokens to follow. Without one, the first of them would be the first of a text.
  const before = engine.encode('a').ids;
  const textBefore = decode(before, false);
  return {
    encode: (text) => encodeWithOffsets(text).ids,
    encodeWithOffsets,
    encodeContinuation: (text) => ofText(text, () => engine.encodeContinuation(text)),
    decode,
    decodeContinuation: (ids, skip) => {
      const text = decode([...before, ...ids], skip);
      return text.startsWith(textBefore) ? text.slice(textBefore.length) : decode(ids, skip);
    },
    specialTokens: new Map(special.map(({ content, id }) => [content, id])),
    vocabSize: Math.min(highest + 1, model.vocabSize),
    prefixIds,
    eosTokenId,
    padTokenId: padding ?? eosTokenId,
  };
}

function checkText(text: string): void {
  if (text.length <= TEXT_CHARACTERS_MAX) return;
  throw new TooMuchError(
    `cannot take a text of ${text.length} characters, only ${TEXT_CHARACTERS_MAX}`,
  );
}

/** Runs calls for texts of `size` characters or tokens. The words of a fault are left out: they may quote the text. */
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
        if (cause instanceof FormatError) {
          throw new UserError(
            "has text that the model's tokenizer has no token for: remove it or use another model",
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
function checkOrdinaryTokens(engine: TokenizerEngine, model: TokenizerModel, path: string): number {
  const added = new Set(engine.addedTokens.map(({ id }) => id));
  let [highest, ordinary] = [-1, -1];
  for (const id of engine.tokens.keys()) {
    highest = Math.max(highest, id);
    if (!added.has(id)) ordinary = Math.max(ordinary, id);
  }
  if (ordinary >= model.vocabSize) throw beyond(engine, ordinary, model, `${path} has`);
  return highest;
}

function beyond(
  engine: TokenizerEngine,
  id: number,
  model: TokenizerModel,
  what: string,
): UserError {
  const text = engine.decode([id], false, false);
  const token = printableLine(JSON.stringify(text.slice(0, TOKEN_SHOWN_CHARACTERS_MAX)));
  return new UserError(
    `${what} the token ${token} with id ${id}, but the model's vocabulary ends at ${model.vocabSize - 1}: this tokenizer belongs to another model, get the model's own tokenizer.json`,
  );
}

/** The special tokens of tokenizer_config.json by name, as chat templates know them: "bos_token", "image_token". */
export function specialTokensOf(config: TokenizerConfig): Record<string, string> {
  const named: Record<string, string> = {};
  const { extra_special_tokens: extra } = config;
  const more = Array.isArray(extra) || extra === null ? {} : extra;
  for (const [name, token] of Object.entries({ ...config, ...more })) {
    if (!name.endsWith('_token')) continue;
    const text = oneToken.safeParse(token);
    if (text.success) named[name] = tokenText(text.data) ?? '';
  }
  for (const list of [extra, config.additional_special_tokens]) {
    if (!Array.isArray(list)) continue;
    for (const [i, token] of list.entries()) named[`listed ${i}`] = tokenText(token) ?? '';
  }
  return named;
}

/** The text of a special token as tokenizer_config.json gives it; undefined when it names none. */
export function tokenText(token: TokenizerConfig['eos_token']): string | undefined {
  return typeof token === 'string' ? token : (token?.content ?? undefined);
}

function idOf(engine: TokenizerEngine, token: TokenizerConfig['eos_token']): number | undefined {
  const text = tokenText(token);
  return text === undefined ? undefined : engine.idOf(text);
}
