/**
 * A tokenizer.json as Hugging Face's tokenizers library (Rust) runs it: the same ids, and for each token the stretch
 * of the text that it came from. Compared with that library in test/reference/tokenizers.test.ts.
 */
import { checkLength, startCounting, STRING_CHARACTERS_MAX, TooMuchError } from '../text-budget.js';
import { AddedTokens, addedTokensOf, type AddedToken } from './added-tokens.js';
import { AlignedText } from './aligned-text.js';
import { bytePairEncoding } from './bpe.js';
import { decoderOf, withoutSpaces, type Decoder } from './decoders.js';
import { fieldsOf, FormatError, isFields, listOf, type Fields } from './fields.js';
import { normalizerOf } from './normalizers.js';
import { preTokenizerOf, type PreTokenizer } from './pre-tokenizers.js';
import { unigram } from './unigram.js';
import { wordLevel, wordPiece, type WordModel, type WordTokens } from './word-model.js';

/** Tokens of a text. Token i came from [starts[i], ends[i]), in UTF-16 units. */
export interface Encoded {
  ids: number[];
  starts: number[];
  ends: number[];
}

/** Words whose tokens are kept, and the longest of them: most of a text are the same few thousand words. */
const CACHED_WORDS_MAX = 50_000;
const CACHED_LENGTH_MAX = 64;

export class TokenizerEngine {
  readonly addedTokens: readonly AddedToken[];
  /** Ids that the post-processor puts before a text. */
  readonly prefixIds: readonly number[];
  readonly #model: WordModel;
  readonly #added: AddedTokens;
  readonly #words: PreTokenizer;
  readonly #decoder: Decoder;
  readonly #idsByToken: Map<string, number>;
  readonly #tokensById: Map<number, string>;
  readonly #special: ReadonlySet<number>;
  readonly #cache = new Map<string, WordTokens>();

  /**
   * Throws FormatError for what this program does not know or what is no tokenizer.json, and TooMuchError, as each
   * method does. withTimeLimit is the caller's duty.
   */
  constructor(config: Fields) {
    startCounting();
    const normalizer = normalizerOf(config['normalizer']);
    this.#words = preTokenizerOf(config['pre_tokenizer']) ?? ((piece) => [piece]);
    this.#decoder = decoderOf(config['decoder']);
    this.#model = modelOf(fieldsOf(config['model'], '"model"'));
    this.addedTokens = addedTokensOf(config['added_tokens']);
    this.#added = new AddedTokens(this.addedTokens, normalizer);
    this.#idsByToken = new Map(this.#model.vocabulary);
    for (const { content, id } of this.addedTokens) this.#idsByToken.set(content, id);
    this.#tokensById = new Map(Array.from(this.#model.vocabulary, ([token, id]) => [id, token]));
    for (const token of this.addedTokens) {
      this.#tokensById.set(token.id, this.#added.shown(token));
    }
    this.#special = new Set(this.addedTokens.filter(({ special }) => special).map(({ id }) => id));
    this.prefixIds = prefixIdsOf(config['post_processor'], this.#idsByToken);
  }

  /** Ids and texts of all tokens. */
  get tokens(): ReadonlyMap<number, string> {
    return this.#tokensById;
  }

  idOf(token: string): number | undefined {
    return this.#idsByToken.get(token);
  }

  /**
   * Of `text` alone, without what the post-processor adds. A lone surrogate, which no file and no tokenizer can
   * hold, counts as U+FFFD.
   */
  encode(text: string): Encoded {
    return this.#encode(AlignedText.of(wellFormed(text)));
  }

  /** Ids of `text` where it goes on from another: with no space or mark that a text begins with. */
  encodeContinuation(text: string): number[] {
    return this.#encode(AlignedText.continuing(wellFormed(text))).ids;
  }

  #encode(text: AlignedText): Encoded {
    startCounting();
    const encoded: Encoded = { ids: [], starts: [], ends: [] };
    for (const { piece, id } of this.#added.sections(text)) {
      if (id !== null) put(encoded, id, piece, 0, piece.length);
      else if (piece.length > 0)
        for (const word of this.#words(piece)) this.#encodeWord(word, encoded);
    }
    return encoded;
  }

  #encodeWord(word: AlignedText, encoded: Encoded): void {
    const tokens = this.#tokensOf(word.text);
    for (let i = 0; i < tokens.length; i += 3) {
      put(encoded, tokens[i] ?? 0, word, tokens[i + 1] ?? 0, tokens[i + 2] ?? 0);
    }
  }

  #tokensOf(word: string): WordTokens {
    const cached = this.#cache.get(word);
    if (cached !== undefined) return cached;
    const tokens = this.#model.tokens(word);
    if (word.length <= CACHED_LENGTH_MAX) {
      if (this.#cache.size >= CACHED_WORDS_MAX) this.#cache.clear();
      this.#cache.set(word, tokens);
    }
    return tokens;
  }

  decode(ids: readonly number[], skipSpecialTokens: boolean, cleansUp: boolean): string {
    const tokens: string[] = [];
    for (const id of ids) {
      if (skipSpecialTokens && this.#special.has(id)) continue;
      const token = this.#tokensById.get(id);
      if (token !== undefined) tokens.push(token);
    }
    const characters = tokens.reduce((sum, token) => sum + token.length, 0);
    if (characters > STRING_CHARACTERS_MAX) {
      throw new TooMuchError(
        `makes ${characters} characters of ${ids.length} tokens, more than ${STRING_CHARACTERS_MAX}`,
      );
    }
    startCounting();
    const text = this.#decoder(tokens).join('');
    checkLength(text.length);
    return cleansUp ? withoutSpaces(text) : text;
  }
}

function wellFormed(text: string): string {
  return text.replace(/\p{Cs}/gu, '\ufffd');
}

function put(encoded: Encoded, id: number, piece: AlignedText, from: number, to: number): void {
  encoded.ids.push(id);
  encoded.starts.push(piece.startOf(from));
  encoded.ends.push(piece.endOf(to - 1));
}

function modelOf(config: Fields): WordModel {
  switch (config['type'] ?? kindByFields(config)) {
    case 'BPE':
      return bytePairEncoding(config);
    case 'Unigram':
      return unigram(config);
    case 'WordPiece':
      return wordPiece(config);
    case 'WordLevel':
      return wordLevel(config);
    default:
      throw new FormatError(`the model ${JSON.stringify(config['type'])} is unknown`);
  }
}

/** Old files do not say which kind of model they hold. */
function kindByFields(config: Fields): string {
  if (Array.isArray(config['merges'])) return 'BPE';
  if (Array.isArray(config['vocab'])) return 'Unigram';
  return 'continuing_subword_prefix' in config ? 'WordPiece' : 'WordLevel';
}

/** What a post-processor puts before a text that is no pair. */
function prefixIdsOf(config: unknown, ids: ReadonlyMap<string, number>): number[] {
  if (!isFields(config)) return [];
  switch (config['type']) {
    case 'Sequence':
      return listOf(config['processors'], '"processors"').flatMap((one) => prefixIdsOf(one, ids));
    case 'TemplateProcessing':
      return templatePrefix(config, ids);
    case 'BertProcessing':
    case 'RobertaProcessing': {
      const [token, id] = listOf(config['cls'], '"cls"');
      if (typeof token !== 'string' || typeof id !== 'number') {
        throw new FormatError('"cls" is not a token and its id');
      }
      return [ids.get(token) ?? id];
    }
    default:
      return [];
  }
}

function templatePrefix(config: Fields, ids: ReadonlyMap<string, number>): number[] {
  const prefix: number[] = [];
  for (const part of listOf(config['single'], '"single"')) {
    const fields = fieldsOf(part, 'a part of "single"');
    if ('Sequence' in fields) return prefix;
    const token = fieldsOf(fields['SpecialToken'], 'a part of "single"')['id'];
    if (typeof token !== 'string') throw new FormatError('a part of "single" names no token');
    prefix.push(...specialIds(config, token, ids));
  }
  return [];
}

function specialIds(config: Fields, token: string, ids: ReadonlyMap<string, number>): number[] {
  const entry = fieldsOf(config['special_tokens'] ?? {}, '"special_tokens"')[token];
  const listed = isFields(entry) ? listOf(entry['ids'], '"ids"') : [ids.get(token)];
  return listed.map((id) => {
    if (typeof id === 'number' && Number.isInteger(id) && id >= 0) return id;
    throw new FormatError(`the special token ${JSON.stringify(token)} has no id`);
  });
}
