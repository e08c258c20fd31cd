/** The pre-tokenizers of tokenizer.json: how a text is cut into words, which are then tokenised one by one. */
import type { AlignedText } from './aligned-text.js';
import { toByteLevel } from './byte-level.js';
import {
  countOf,
  FormatError,
  isFields,
  membersOf,
  switchOf,
  textOf,
  type Fields,
} from './fields.js';
import { literalPattern, patternOf, regexPattern } from './pattern.js';

export type PreTokenizer = (piece: AlignedText) => AlignedText[];

/** What becomes of the matches of a pattern. */
type Behaviour = 'Removed' | 'Isolated' | 'MergedWithPrevious' | 'MergedWithNext' | 'Contiguous';
const BEHAVIOURS: readonly string[] = [
  ...['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'],
];

/** [from, to), and whether it matches. */
type Stretch = [number, number, boolean];

const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const PUNCTUATION = '[\\p{P}$+<=>^`|~]';

/** Null for none. Throws FormatError for a kind that is not known. */
export function preTokenizerOf(config: unknown, depth = 0): PreTokenizer | null {
  if (config === null || config === undefined) return null;
  if (!isFields(config)) throw new FormatError('"pre_tokenizer" is not a JSON object');
  switch (config['type']) {
    case 'Sequence': {
      const members = membersOf(config, 'pretokenizers', depth);
      const steps = members.map((member) => preTokenizerOf(member, depth + 1));
      return (piece) =>
        steps.reduce((pieces, step) => (step === null ? pieces : pieces.flatMap(step)), [piece]);
    }
    case 'ByteLevel':
      return byteLevel(config);
    case 'Metaspace':
      return metaspace(config);
    case 'Split':
      return splitter(
        patternOf(config),
        behaviourOf(config, 'Isolated'),
        switchOf(config, 'invert', false),
      );
    case 'Digits': {
      const behaviour = switchOf(config, 'individual_digits', false) ? 'Isolated' : 'Contiguous';
      return splitter(/\p{N}/gu, behaviour);
    }
    case 'Punctuation':
      return splitter(new RegExp(PUNCTUATION, 'gu'), behaviourOf(config, 'Isolated'));
    case 'Whitespace':
      return splitter(
        regexPattern('[\\w\\p{Join_Control}]+|[^\\w\\p{Join_Control}\\s]+'),
        'Removed',
        true,
      );
    case 'WhitespaceSplit':
      return splitter(/\p{White_Space}/gu, 'Removed');
    case 'BertPreTokenizer': {
      const words = splitter(/\p{White_Space}/gu, 'Removed');
      const signs = splitter(new RegExp(PUNCTUATION, 'gu'), 'Isolated');
      return (piece) => words(piece).flatMap(signs);
    }
    case 'CharDelimiterSplit':
      return splitter(literalPattern(textOf(config, 'delimiter')), 'Removed');
    case 'FixedLength':
      return fixedLength(Math.max(1, countOf(config, 'length', 5)));
    default:
      throw new FormatError(`the pre-tokenizer ${JSON.stringify(config['type'])} is unknown`);
  }
}

function behaviourOf(config: Fields, fallback: Behaviour): Behaviour {
  const name = textOf(config, 'behavior', fallback);
  if (BEHAVIOURS.includes(name)) return name as Behaviour;
  throw new FormatError(`the behavior ${JSON.stringify(name)} is unknown`);
}

/** `isInverted`: what does not match is taken for a match, and the other way round. */
function splitter(pattern: RegExp, behaviour: Behaviour, isInverted = false): PreTokenizer {
  return (piece) => {
    const stretches: Stretch[] = [];
    let done = 0;
    for (const { 0: match, index } of piece.text.matchAll(pattern)) {
      if (index > done) stretches.push([done, index, isInverted]);
      stretches.push([index, index + match.length, !isInverted]);
      done = index + match.length;
    }
    if (done < piece.length) stretches.push([done, piece.length, isInverted]);
    const parts: AlignedText[] = [];
    for (const [from, to] of behaving(stretches, behaviour)) {
      if (to > from) parts.push(piece.slice(from, to));
    }
    return parts;
  };
}

function behaving(stretches: readonly Stretch[], behaviour: Behaviour): readonly Stretch[] {
  switch (behaviour) {
    case 'Isolated':
      return stretches;
    case 'Removed':
      return stretches.filter(([, , isMatch]) => !isMatch);
    case 'Contiguous':
      return joined(stretches, (isMatch, wasMatch) => isMatch === wasMatch);
    case 'MergedWithPrevious':
      return joined(stretches, (isMatch, wasMatch) => isMatch && !wasMatch);
    case 'MergedWithNext': {
      // The same from the end.
      const mirrored = stretches.toReversed().map<Stretch>(([from, to, is]) => [-to, -from, is]);
      const merged = joined(mirrored, (isMatch, wasMatch) => isMatch && !wasMatch);
      return merged.map<Stretch>(([from, to, is]) => [-to, -from, is]).toReversed();
    }
  }
}

/** Each stretch that `joins` the one before it becomes part of it. Before the first one nothing matched. */
function joined(
  stretches: readonly Stretch[],
  joins: (isMatch: boolean, wasMatch: boolean) => boolean,
): Stretch[] {
  const out: Stretch[] = [];
  let wasMatch = false;
  for (const [from, to, isMatch] of stretches) {
    const last = out.at(-1);
    if (last !== undefined && joins(isMatch, wasMatch)) last[1] = to;
    else out.push([from, to, isMatch]);
    wasMatch = isMatch;
  }
  return out;
}

function byteLevel(config: Fields): PreTokenizer {
  const hasPrefix = switchOf(config, 'add_prefix_space', true);
  const words = switchOf(config, 'use_regex', true)
    ? splitter(regexPattern(GPT2), 'Isolated')
    : (piece: AlignedText): AlignedText[] => [piece];
  return (piece) => {
    const spaced = hasPrefix && !piece.text.startsWith(' ') ? piece.prefixed(' ') : piece;
    return words(spaced).map(toByteLevel);
  };
}

/** Which beginnings get a mark of their own: each piece's, the text's, or none. */
type PrependScheme = 'always' | 'first' | 'never';

export function prependSchemeOf(config: Fields): PrependScheme {
  if (config['add_prefix_space'] === false) return 'never';
  const scheme = textOf(config, 'prepend_scheme', 'always');
  if (scheme === 'always' || scheme === 'first' || scheme === 'never') return scheme;
  throw new FormatError(`the prepend_scheme ${JSON.stringify(scheme)} is unknown`);
}

function metaspace(config: Fields): PreTokenizer {
  const mark = textOf(config, 'replacement', '▁');
  const scheme = prependSchemeOf(config);
  const cut = switchOf(config, 'split', true)
    ? splitter(literalPattern(mark), 'MergedWithNext')
    : (piece: AlignedText): AlignedText[] => [piece];
  return (piece) => {
    const marked = piece.replaced(/ /g, mark);
    const begins = scheme === 'always' || (scheme === 'first' && piece.startOf(0) === 0);
    return cut(begins && !marked.text.startsWith(mark) ? marked.prefixed(mark) : marked);
  };
}

function fixedLength(length: number): PreTokenizer {
  return (piece) => {
    const parts: AlignedText[] = [];
    let [from, at, count] = [0, 0, 0];
    for (const character of piece.text) {
      at += character.length;
      if (++count % length !== 0) continue;
      parts.push(piece.slice(from, at));
      from = at;
    }
    if (from < piece.length) parts.push(piece.slice(from, piece.length));
    return parts;
  };
}
