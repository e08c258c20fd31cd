/** The models of tokenizer.json that look words up: WordPiece, WordLevel, and what all kinds have in common. */
import { countOf, FormatError, textOf, vocabularyOf, type Fields } from './fields.js';

/** Tokens of one word: id, and where it begins and ends in the word, three numbers a token. */
export type WordTokens = readonly number[];

export interface WordModel {
  /** Ids by token. */
  readonly vocabulary: ReadonlyMap<string, number>;
  /** Of a word with at least one character. Throws FormatError where the word has no token and nothing stands for it. */
  tokens(word: string): WordTokens;
}

export function noToken(): FormatError {
  return new FormatError(
    'a text has characters without a token, and the model names none for them',
  );
}

export function wordPiece(config: Fields): WordModel {
  const vocabulary = vocabularyOf(config['vocab']);
  const unknown = vocabulary.get(textOf(config, 'unk_token', '[UNK]'));
  const prefix = textOf(config, 'continuing_subword_prefix', '##');
  const lengthMax = countOf(config, 'max_input_chars_per_word', 100);
  const tokens = (word: string): WordTokens => {
    const whole = (): WordTokens => {
      if (unknown === undefined) throw noToken();
      return [unknown, 0, word.length];
    };
    if (word.length > lengthMax && Array.from(word).length > lengthMax) return whole();
    const found: number[] = [];
    for (let start = 0; start < word.length;) {
      let [end, id]: [number, number | undefined] = [word.length, undefined];
      for (; end > start; end -= isPair(word, end) ? 2 : 1) {
        id = vocabulary.get((start > 0 ? prefix : '') + word.slice(start, end));
        if (id !== undefined) break;
      }
      if (id === undefined) return whole();
      found.push(id, start, end);
      start = end;
    }
    return found;
  };
  return { vocabulary, tokens };
}

export function wordLevel(config: Fields): WordModel {
  const vocabulary = vocabularyOf(config['vocab']);
  const unknown = vocabulary.get(textOf(config, 'unk_token', '<unk>'));
  const tokens = (word: string): WordTokens => {
    const id = vocabulary.get(word) ?? unknown;
    if (id === undefined) throw noToken();
    return [id, 0, word.length];
  };
  return { vocabulary, tokens };
}

/** Whether the character before `end` has two units. */
function isPair(word: string, end: number): boolean {
  const unit = word.charCodeAt(end - 1);
  return unit >= 0xdc00 && unit <= 0xdfff && end >= 2;
}
