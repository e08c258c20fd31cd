/**
 * Hugging Face's tokenizer library with bounds on what it makes of a text, beside the time: how long the text may
 * become, into how many pieces it falls, and how many ways through it are compared.
 */
import type * as tokenizers from '@huggingface/tokenizers';
import {
  loadBounded,
  startCounting,
  STRING_CHARACTERS_MAX,
  TEXT_CHARACTERS_MAX,
  TooMuchError,
} from './bounded-library.js';
import type { TokenizerFile } from './tokenizer-limits.js';

/** Places in a text where a token of a Unigram vocabulary may stand: there are some five for each character. */
const LATTICE_NODES_MAX = 1 << 23;

let library: typeof tokenizers | null = null;

/** Calls are counted; withTimeLimit is the caller's duty. Each method throws TooMuchError. */
export class BoundedTokenizer {
  readonly #hub: tokenizers.Tokenizer;

  /** Throws the library's own errors for what it does not know. */
  constructor(json: TokenizerFile, config: object) {
    library ??= loadBounded('@huggingface/tokenizers', { joins: false }) as typeof tokenizers;
    startCounting();
    const { added_tokens: added } = json;
    // The library normalises the added tokens before there is anything to put bounds on.
    const bare = new library.Tokenizer({ ...json, added_tokens: [] }, config);
    for (const { content } of added ?? []) checkAdded(bare.normalizer?.(content) ?? content);
    this.#hub = new library.Tokenizer({ ...json, added_tokens: added ?? [] }, config);
    boundSteps(this.#hub);
  }

  encode(text: string, options: { add_special_tokens: boolean }): number[] {
    if (text.length > TEXT_CHARACTERS_MAX) {
      throw new TooMuchError(
        `cannot take a text of ${text.length} characters, only ${TEXT_CHARACTERS_MAX}`,
      );
    }
    startCounting();
    return Array.from(this.#hub.encode(text, options).ids);
  }

  decode(
    ids: readonly number[],
    options: { skip_special_tokens: boolean; clean_up_tokenization_spaces?: boolean },
  ): string {
    startCounting();
    const characters = ids.reduce((sum, id) => sum + (this.#hub.id_to_token(id)?.length ?? 0), 0);
    if (characters > STRING_CHARACTERS_MAX) {
      throw new TooMuchError(
        `makes ${characters} characters of ${ids.length} tokens, more than ${STRING_CHARACTERS_MAX}`,
      );
    }
    return this.#hub.decode([...ids], options);
  }

  idOf(token: string): number | undefined {
    return this.#hub.token_to_id(token);
  }

  /** Tokens with their ids, places without a token included. */
  get vocabulary(): Map<string, number> {
    return this.#hub.get_vocab(true);
  }

  /** Ids of the added tokens. */
  get addedIds(): Set<number> {
    return new Set(this.#hub.get_added_tokens_decoder().keys());
  }
}

/** Characters of an added token as the normalizer writes it: each is a node of a tree. */
const ADDED_TOKEN_CHARACTERS_MAX = 4096;

function checkAdded(normalised: string): void {
  if (normalised.length <= ADDED_TOKEN_CHARACTERS_MAX) return;
  throw new TooMuchError(
    `has an added token of ${normalised.length} characters, more than ${ADDED_TOKEN_CHARACTERS_MAX}`,
  );
}

/** The library calls each step through these properties. */
function boundSteps(hub: tokenizers.Tokenizer): void {
  const { normalizer, pre_tokenizer: split, model } = hub;
  if (normalizer !== null) hub.normalizer = (text) => checkText(normalizer(text));
  if (split !== null) hub.pre_tokenizer = (text, options) => checkPieces(split(text, options));
  const populate = model.populate_nodes;
  if (populate === undefined) return;
  model.populate_nodes = (lattice) => {
    let nodes = 0;
    const insert = lattice.insert.bind(lattice);
    lattice.insert = (...node) => {
      if (++nodes > LATTICE_NODES_MAX) {
        throw new TooMuchError(
          `finds more than ${LATTICE_NODES_MAX} tokens in a text of ${lattice.chars.length} characters`,
        );
      }
      insert(...node);
    };
    populate.call(model, lattice);
  };
}

function checkText(text: string): string {
  if (text.length > STRING_CHARACTERS_MAX / 2) {
    throw new TooMuchError(`makes a text of more than ${STRING_CHARACTERS_MAX / 2} characters`);
  }
  return text;
}

function checkPieces(pieces: string[]): string[] {
  let characters = pieces.length;
  for (const piece of pieces) characters += piece.length;
  if (characters > 2 * STRING_CHARACTERS_MAX) {
    throw new TooMuchError(
      `splits a text into more than ${2 * STRING_CHARACTERS_MAX} pieces and characters`,
    );
  }
  return pieces;
}
