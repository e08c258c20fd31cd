/** The normalizers of tokenizer.json: what happens to a text before it is cut into words. */
import { TooMuchError } from '../text-budget.js';
import { TextBuilder, type AlignedText } from './aligned-text.js';
import { toByteLevel } from './byte-level.js';
import { FormatError, isFields, membersOf, switchOf, textOf, type Fields } from './fields.js';
import { patternOf } from './pattern.js';
import { precompiledNormalizer } from './precompiled.js';
import { spaceAfter, spaceBefore } from './white-space.js';

export type Normalizer = (text: AlignedText) => AlignedText;

type Form = 'NFC' | 'NFD' | 'NFKC' | 'NFKD';

/**
 * Characters that may become one in some form: a letter and its marks, the letters of a Korean syllable, Japanese
 * half-width letters and their signs.
 */
const CLUSTERS =
  /[\u1100-\u115f\ua960-\ua97c\uac00-\ud7a3][\u1160-\u11ff\ud7b0-\ud7fb]*\p{M}*|[\u3131-\u318e\uffa0-\uffdc]+|\P{M}[\p{M}\uff9e\uff9f]*|\p{M}+/gu;

/**
 * Marks on one character. Putting more of them in order takes time that grows with their square, in a call that nobody
 * can stop. Unicode's own bound is 30.
 */
const MARKS_MAX = 256;
const MANY_MARKS = new RegExp(`[\\p{M}\\uff9e\\uff9f]{${MARKS_MAX + 1}}`, 'u');

/** Null for none. Throws FormatError for a kind that is not known. */
export function normalizerOf(config: unknown, depth = 0): Normalizer | null {
  if (config === null || config === undefined) return null;
  if (!isFields(config)) throw new FormatError('"normalizer" is not a JSON object');
  switch (config['type']) {
    case 'Sequence': {
      const members = membersOf(config, 'normalizers', depth);
      const steps = members.map((member) => normalizerOf(member, depth + 1));
      return (text) => steps.reduce((changed, step) => step?.(changed) ?? changed, text);
    }
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD':
      return unicodeForm(config['type']);
    case 'Lowercase':
      return lowercase;
    case 'Prepend': {
      const prefix = textOf(config, 'prepend');
      return (text) => text.prefixed(prefix);
    }
    case 'Replace': {
      const [pattern, content] = [patternOf(config), textOf(config, 'content')];
      return (text) => text.replaced(pattern, content);
    }
    case 'Strip':
      return strip(switchOf(config, 'strip_left', true), switchOf(config, 'strip_right', true));
    case 'StripAccents':
      return (text) => without(text, /\p{M}/u);
    case 'BertNormalizer':
      return bertNormalizer(config);
    case 'Nmt':
      return nmt;
    case 'Precompiled':
      return precompiledNormalizer(config);
    case 'ByteLevel':
      return toByteLevel;
    default:
      throw new FormatError(`the normalizer ${JSON.stringify(config['type'])} is unknown`);
  }
}

function unicodeForm(form: Form): Normalizer {
  return (text) => {
    if (MANY_MARKS.test(text.text)) {
      throw new TooMuchError(
        `cannot take a text with more than ${MARKS_MAX} marks on one character`,
      );
    }
    const whole = text.text.normalize(form);
    if (whole === text.text) return text;
    const builder = new TextBuilder(whole.length);
    for (const { 0: cluster, index } of text.text.matchAll(CLUSTERS)) {
      const changed = cluster.normalize(form);
      if (changed === cluster) builder.copy(text, index, index + cluster.length);
      else appendInPlaces(builder, text, index, cluster, changed);
    }
    if (builder.text === whole) return builder.build();
    // A change across clusters: the text is right, and all of it has the place of all of it.
    const coarse = new TextBuilder(whole.length);
    coarse.append(whole, text.startOf(0), text.endOf(text.length - 1));
    return coarse.build();
  };
}

/**
 * Character by character. What is beyond the characters of `cluster` has the place of its last one; where several
 * became fewer, the first of `changed` is what they became.
 */
function appendInPlaces(
  builder: TextBuilder,
  text: AlignedText,
  index: number,
  cluster: string,
  changed: string,
): void {
  const places: [number, number][] = [];
  let at = index;
  for (const character of cluster) {
    places.push([text.startOf(at), text.endOf(at + character.length - 1)]);
    at += character.length;
  }
  const characters = Array.from(changed);
  const joined = Math.max(0, places.length - characters.length);
  for (const [i, character] of characters.entries()) {
    const place = i === 0 ? 0 : Math.min(i + joined, places.length - 1);
    builder.append(character, ...(places[place] ?? [0, 0]));
  }
}

/** One by one, as Rust does: a sigma at the end of a word is one like any other. */
const lowercase: Normalizer = (text) =>
  /[^\p{Lowercase}\p{N}\p{P}\p{Z}]/u.test(text.text)
    ? text.mapped((character) => character.toLowerCase())
    : text;

function without(text: AlignedText, pattern: RegExp): AlignedText {
  if (!pattern.test(text.text)) return text;
  return text.mapped((character) => (pattern.test(character) ? '' : character));
}

function strip(left: boolean, right: boolean): Normalizer {
  return (text) => {
    const end = right ? spaceBefore(text.text, text.length) : text.length;
    const start = left ? spaceAfter(text.text, 0) : 0;
    return text.slice(Math.min(start, end), end);
  };
}

/** Code points, [first, last], that SentencePiece's nmt_nfkc takes out, and those that it takes for spaces. */
const NMT_REMOVED: readonly [number, number][] = [
  ...([
    [0x1, 0x8],
    [0xb, 0xb],
    [0xe, 0x1f],
    [0x7f, 0x7f],
    [0x8f, 0x8f],
    [0x9f, 0x9f],
  ] as const),
].map(([first, last]) => [first, last]);
const NMT_SPACES: readonly [number, number][] = [
  ...([
    [0x9, 0xa],
    [0xc, 0xd],
    [0x1680, 0x1680],
    [0x200b, 0x200f],
    [0x2028, 0x2029],
  ] as const),
  ...([
    [0x2581, 0x2581],
    [0xfeff, 0xfeff],
    [0xfffd, 0xfffd],
  ] as const),
].map(([first, last]) => [first, last]);

const nmt: Normalizer = (text) => {
  const isIn = (ranges: readonly [number, number][], character: string): boolean => {
    const code = character.codePointAt(0) ?? 0;
    return ranges.some(([first, last]) => code >= first && code <= last);
  };
  return text.mapped((character) => {
    if (isIn(NMT_REMOVED, character)) return '';
    return isIn(NMT_SPACES, character) ? ' ' : character;
  });
};

const CHINESE =
  /[\u{4e00}-\u{9fff}\u{3400}-\u{4dbf}\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{f900}-\u{faff}\u{2f800}-\u{2fa1f}]/u;

/** Of the characters for private use Rust's table has the first and last of each block alone. */
const CONTROL = /[\0\p{Cc}\p{Cf}\ufffd\ue000\uf8ff\u{f0000}\u{ffffd}\u{100000}\u{10fffd}]/u;

function bertNormalizer(config: Fields): Normalizer {
  const lower = switchOf(config, 'lowercase', true);
  const steps: Normalizer[] = [];
  if (switchOf(config, 'clean_text', true)) {
    steps.push((text) =>
      text.mapped((character) => {
        if (/[\t\n\r]/.test(character)) return ' ';
        if (CONTROL.test(character)) return '';
        return /\p{White_Space}/u.test(character) ? ' ' : character;
      }),
    );
  }
  if (switchOf(config, 'handle_chinese_chars', true)) {
    steps.push((text) =>
      CHINESE.test(text.text)
        ? text.mapped((character) => (CHINESE.test(character) ? ` ${character} ` : character))
        : text,
    );
  }
  if (switchOf(config, 'strip_accents', lower)) {
    const decompose = unicodeForm('NFD');
    steps.push((text) => without(decompose(text), /\p{Mn}/u));
  }
  if (lower) steps.push(lowercase);
  return (text) => steps.reduce((changed, step) => step(changed), text);
}
