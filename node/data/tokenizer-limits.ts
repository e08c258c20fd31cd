/**
 * What a tokenizer.json may ask of its library, checked before the library sees it. Each bound closes a way to take
 * memory or time without end; real tokenizers are far below all of them.
 */
import { z } from 'zod';
import { UserError } from '../errors.js';
import { VOCAB_SIZE_MAX } from '../model/config-fields.js';

/** Steps of a normalizer, pre-tokenizer, post-processor or decoder, those within a Sequence counted. */
const STEPS_MAX = 64;
/** Byte-level steps one after another: each doubles what is not ASCII. Real ones have one. */
const BYTE_LEVELS_MAX = 2;
/** Characters of a pattern: the longest have 1000. */
const PATTERN_CHARACTERS_MAX = 16_384;
/** Characters of any other text in a step ("content", "replacement", "prepend"): real ones have up to 20. */
const STEP_TEXT_CHARACTERS_MAX = 256;
/** Characters of what a Metaspace step writes for every space: real ones write one. */
const REPLACEMENT_CHARACTERS_MAX = 8;
/** Characters of one piece of a FixedLength step. */
const FIXED_LENGTH_MAX = 1 << 20;
/** Items of a post-processor's template, and special tokens named in tokenizer_config.json. */
const TEMPLATE_ITEMS_MAX = 64;
export const SPECIAL_TOKENS_MAX = 16_384;
/** Added tokens, and their characters: each takes a node of a tree. Image tokens make for 100,000. */
const ADDED_TOKENS_MAX = 1 << 17;
const ADDED_CHARACTERS_MAX = 1 << 20;
/** Nodes of the tree of a Unigram vocabulary, each of some 300 bytes: 250,000 tokens make fewer than a million. */
const UNIGRAM_NODES_MAX = 1 << 21;

const tokenId = z
  .int({ error: 'but must be a token id' })
  .min(0, { error: 'but must be a token id' })
  .max(VOCAB_SIZE_MAX - 1, { error: `but a token id must be below ${VOCAB_SIZE_MAX}` });
const object = { error: 'but must be a JSON object' };

/** The parts of a tokenizer.json that are read here. What else is in it goes to the library as it is. */
export const tokenizerSchema = z.looseObject(
  {
    model: z.looseObject({}, object),
    added_tokens: z
      .array(z.looseObject({ id: tokenId, content: z.string() }))
      .max(ADDED_TOKENS_MAX, { error: `but must have at most ${ADDED_TOKENS_MAX} tokens` })
      .nullish(),
  },
  object,
);
export type TokenizerFile = z.infer<typeof tokenizerSchema>;

/** Throws UserError that names the file, the part of it and the bound. */
export function checkTokenizerFile(json: TokenizerFile, path: string): void {
  const refuse: Refuse = (what) => {
    throw new UserError(`${path}: ${what}: get the model's own tokenizer.json`);
  };
  for (const part of ['normalizer', 'pre_tokenizer', 'post_processor', 'decoder']) {
    checkPart(json[part], part, refuse);
  }
  checkVocabulary(json.model, refuse);
  const added = (json.added_tokens ?? []).reduce((sum, { content }) => sum + content.length, 0);
  if (added > ADDED_CHARACTERS_MAX) {
    refuse(`the added tokens have ${added} characters, more than ${ADDED_CHARACTERS_MAX}`);
  }
}

type Refuse = (what: string) => never;

function checkPart(root: unknown, part: string, refuse: Refuse): void {
  const left: unknown[] = [root];
  let [steps, byteLevels] = [0, 0];
  for (let step = left.pop(); step !== undefined; step = left.pop()) {
    if (!isRecord(step)) continue;
    if (++steps > STEPS_MAX) refuse(`"${part}" has more than ${STEPS_MAX} steps`);
    if (step['type'] === 'ByteLevel') byteLevels++;
    checkStep(step, part, refuse);
    for (const key of ['normalizers', 'pretokenizers', 'processors', 'decoders']) {
      const children = step[key];
      if (Array.isArray(children)) left.push(...(children as unknown[]).slice(0, STEPS_MAX + 1));
    }
  }
  if (byteLevels > BYTE_LEVELS_MAX) {
    refuse(`"${part}" has ${byteLevels} ByteLevel steps, more than ${BYTE_LEVELS_MAX}`);
  }
}

/** Fields that the library adds to text: a list there would be written out in full at each place. */
const TEXT_FIELDS = [
  ...['content', 'replacement', 'str_rep', 'prepend', 'prefix', 'suffix'],
  ...['pad_token', 'word_delimiter_token'],
];
const MODEL_TEXT_FIELDS = [
  'unk_token',
  'end_of_word_suffix',
  'continuing_subword_prefix',
  'continuing_subword_suffix',
];

function checkTexts(
  step: Record<string, unknown>,
  fields: readonly string[],
  part: string,
  refuse: Refuse,
): void {
  for (const field of fields) {
    const value = step[field] ?? '';
    if (typeof value !== 'string') refuse(`"${field}" of "${part}" must be text`);
  }
}

function checkStep(step: Record<string, unknown>, part: string, refuse: Refuse): void {
  checkTexts(step, TEXT_FIELDS, part, refuse);
  for (const [key, value] of Object.entries(step)) {
    if (key === 'precompiled_charsmap' || typeof value !== 'string') continue;
    const charactersMax =
      step['type'] === 'Metaspace' ? REPLACEMENT_CHARACTERS_MAX : STEP_TEXT_CHARACTERS_MAX;
    // "type" and "prepend_scheme" are words of the format.
    if (key !== 'type' && key !== 'prepend_scheme' && value.length > charactersMax) {
      refuse(`"${key}" of "${part}" has ${value.length} characters, more than ${charactersMax}`);
    }
  }
  const pattern = isRecord(step['pattern']) ? Object.values(step['pattern']) : [];
  for (const value of pattern) {
    if (typeof value !== 'string') refuse(`"${part}" has a pattern that is not text`);
    if (value.length > PATTERN_CHARACTERS_MAX) {
      refuse(
        `a pattern of "${part}" has ${value.length} characters, more than ${PATTERN_CHARACTERS_MAX}`,
      );
    }
  }
  if (step['type'] === 'FixedLength') checkFixedLength(step['length'], part, refuse);
  if (Array.isArray(step['single'])) checkTemplate(step['single'], part, refuse);
}

/** A length of 0 gives pieces without end. */
function checkFixedLength(length: unknown, part: string, refuse: Refuse): void {
  if (Number.isInteger(length) && Number(length) >= 1 && Number(length) <= FIXED_LENGTH_MAX) return;
  refuse(`"length" of "${part}" must be a whole number from 1 to ${FIXED_LENGTH_MAX}`);
}

/** A template that holds the text twice, in a Sequence of such templates, doubles it with each of them. */
function checkTemplate(items: unknown[], part: string, refuse: Refuse): void {
  if (items.length > TEMPLATE_ITEMS_MAX) {
    refuse(`a template of "${part}" has ${items.length} items, more than ${TEMPLATE_ITEMS_MAX}`);
  }
  const texts = items.filter((item) => isRecord(item) && 'Sequence' in item).length;
  if (texts > 1) refuse(`a template of "${part}" holds the text ${texts} times, not once`);
}

function checkVocabulary(model: TokenizerFile['model'], refuse: Refuse): void {
  checkTexts(model, MODEL_TEXT_FIELDS, 'model', refuse);
  for (const [key, value] of Object.entries(model)) {
    if (typeof value === 'string' && value.length > STEP_TEXT_CHARACTERS_MAX) {
      refuse(
        `"model.${key}" has ${value.length} characters, more than ${STEP_TEXT_CHARACTERS_MAX}`,
      );
    }
  }
  const { vocab } = model;
  if (Array.isArray(vocab)) {
    const tokens = (vocab as unknown[]).map((entry) => {
      const [token, score] = Array.isArray(entry) ? (entry as unknown[]) : [];
      // A score of text would grow with each one that is added to it.
      if (typeof token === 'string' && typeof score === 'number') return token;
      return refuse('"model.vocab" must list pairs of a token and its score');
    });
    const nodes = treeNodes(tokens);
    if (nodes > UNIGRAM_NODES_MAX) {
      refuse(`the vocabulary makes a tree of ${nodes} characters, more than ${UNIGRAM_NODES_MAX}`);
    }
  } else if (isRecord(vocab)) {
    // An id far beyond the others would be a list with as many empty places.
    for (const id of Object.values(vocab)) {
      if (!tokenId.safeParse(id).success) {
        refuse(
          `"model.vocab" has an id that is not a whole number from 0 to ${VOCAB_SIZE_MAX - 1}`,
        );
      }
    }
  }
}

/** Characters that no other token begins with as well; an upper bound where that is small enough. */
function treeNodes(tokens: readonly string[]): number {
  const characters = tokens.reduce((sum, token) => sum + token.length, 0);
  if (characters <= UNIGRAM_NODES_MAX) return characters;
  let [nodes, last] = [0, ''];
  for (const token of tokens.toSorted()) {
    let shared = 0;
    while (shared < token.length && token[shared] === last[shared]) shared++;
    nodes += token.length - shared;
    last = token;
  }
  return nodes;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
