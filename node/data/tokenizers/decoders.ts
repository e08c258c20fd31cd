/** The decoders of tokenizer.json: tokens back to text. */
import { countMade } from '../text-budget.js';
import { byteOfToken, fromByteLevel, textOfBytes } from './byte-level.js';
import {
  countOf,
  FormatError,
  isFields,
  membersOf,
  switchOf,
  textOf,
  type Fields,
} from './fields.js';
import { patternOf } from './pattern.js';
import { prependSchemeOf } from './pre-tokenizers.js';

/** What is left is joined to the text. */
export type Decoder = (tokens: readonly string[]) => readonly string[];

/** Without a decoder tokens are joined with spaces. Throws FormatError for a kind that is not known. */
export function decoderOf(config: unknown, depth = 0): Decoder {
  if (config === null || config === undefined) return (tokens) => [tokens.join(' ')];
  if (!isFields(config)) throw new FormatError('"decoder" is not a JSON object');
  switch (config['type']) {
    case 'Sequence': {
      const members = membersOf(config, 'decoders', depth);
      const steps = members.map((member) => decoderOf(member, depth + 1));
      return (tokens) => steps.reduce((changed, step) => step(changed), tokens);
    }
    case 'ByteLevel':
      return (tokens) => [fromByteLevel(tokens)];
    case 'ByteFallback':
      return byteFallback;
    case 'Fuse':
      return (tokens) => [tokens.join('')];
    case 'Replace': {
      const [pattern, content] = [patternOf(config), textOf(config, 'content')];
      return (tokens) => tokens.map((token) => replaced(token, pattern, content));
    }
    case 'Strip':
      return strip(config);
    case 'Metaspace':
      return metaspace(config);
    case 'WordPiece':
      return wordPiece(config);
    case 'BPEDecoder': {
      const suffix = textOf(config, 'suffix', '</w>');
      return (tokens) =>
        tokens.map((token, i) => replaced(token, suffix, i === tokens.length - 1 ? '' : ' '));
    }
    default:
      throw new FormatError(`the decoder ${JSON.stringify(config['type'])} is unknown`);
  }
}

/** `content` at each place, as it is: "$&" in it means nothing. */
function replaced(token: string, pattern: string | RegExp, content: string): string {
  return token.replaceAll(pattern, () => {
    countMade(content.length);
    return content;
  });
}

const byteFallback: Decoder = (tokens) => {
  const out: string[] = [];
  let bytes: number[] = [];
  const flush = (): void => {
    if (bytes.length > 0) out.push(textOfBytes(bytes) ?? '\ufffd'.repeat(bytes.length));
    bytes = [];
  };
  for (const token of tokens) {
    const byte = byteOfToken(token);
    if (byte !== null) {
      bytes.push(byte);
      continue;
    }
    flush();
    out.push(token);
  }
  flush();
  return out;
};

function strip(config: Fields): Decoder {
  const content = textOf(config, 'content');
  const [start, stop] = [countOf(config, 'start', 0), countOf(config, 'stop', 0)];
  return (tokens) =>
    tokens.map((token) => {
      const characters = Array.from(token);
      let [from, to] = [0, characters.length];
      while (from < start && characters[from] === content) from++;
      while (to > from && characters.length - to < stop && characters[to - 1] === content) to--;
      return characters.slice(from, to).join('');
    });
}

function metaspace(config: Fields): Decoder {
  const mark = textOf(config, 'replacement', '▁');
  const dropsFirst = prependSchemeOf(config) !== 'never';
  return (tokens) =>
    tokens.map((token, i) => replaced(token, mark, i === 0 && dropsFirst ? '' : ' '));
}

function wordPiece(config: Fields): Decoder {
  const prefix = textOf(config, 'prefix', '##');
  const cleans = switchOf(config, 'cleanup', true);
  return (tokens) =>
    tokens.map((token, i) => {
      let text = token;
      if (i > 0) text = token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`;
      return cleans ? withoutSpaces(text, true) : text;
    });
}

/** Takes the spaces before signs and English endings away, as `clean_up_tokenization_spaces` asks for. */
export function withoutSpaces(text: string, isWordPiece = false): string {
  const joined = text
    .replaceAll(' .', '.')
    .replaceAll(' ?', '?')
    .replaceAll(' !', '!')
    .replaceAll(' ,', ',')
    .replaceAll(" ' ", "'")
    .replaceAll(" n't", "n't")
    .replaceAll(" 'm", "'m");
  return (isWordPiece ? joined.replaceAll(' do not', " don't") : joined)
    .replaceAll(" 's", "'s")
    .replaceAll(" 've", "'ve")
    .replaceAll(" 're", "'re");
}
