/** A folder as the Hub and `datasets` lay one out: which of its files are about the data, and which are which split. */
import { basename, dirname } from 'node:path';

/** Names without their ending of what describes a data set or the project around it. */
const ABOUT_TEXT =
  /^(readme|licen[sc]e|copying|notice|changelog|contributing|code_of_conduct|citation|authors|security|dataset_card|datasheet|requirements)([-_. ].*)?$/i;
/** The same of JSON files, with their ending. */
const ABOUT_JSON =
  /^(dataset_infos?|dataset_dict|state|config|adapter_config|generation_config|tokenizer|tokenizer_config|special_tokens_map|croissant|codemeta|package|package-lock|tsconfig)\.json$/i;

/** The words of `datasets`, and how others call what is held out. */
const TRAIN = ['train', 'training'];
const OTHERS: Readonly<Record<string, readonly string[]>> = {
  validation: ['validation', 'valid', 'val', 'dev'],
  test: ['test', 'testing', 'eval', 'evaluation', 'heldout', 'holdout'],
};
/** Words that folders of other things have as well: they mean a split only where there is a training split too. */
const AMBIGUOUS = new Set(['dev', 'testing']);

/** Whether the file describes the data, or the project around them, and is not data itself. */
export function isAboutData(path: string): boolean {
  const name = basename(path);
  const bare = name.replace(/\.(md|markdown|txt|text)(\.gz)?$/i, '');
  return ABOUT_JSON.test(name) || (bare !== name && ABOUT_TEXT.test(bare));
}

/** A file of a folder: where it is, and the parts of its path within the folder, its own name last. */
export interface FolderFile {
  path: string;
  parts: readonly string[];
}

interface NamedSplit {
  /** "train", "validation" or "test". */
  split: string;
  /** Whether the name is that of the split and no more, but for numbers (test-00000-of-00001). */
  isWhole: boolean;
  isAmbiguous: boolean;
}

/** The split that a name (without its ending) is of, if any. */
function splitOfName(name: string): NamedSplit | null {
  const found = (words: readonly string[]): { word: string; isWhole: boolean } | null => {
    for (const word of words) {
      const whole = new RegExp(`^${word}([-_. ]?[0-9]+)*([-_. ]of[-_. ][0-9]+.*)?$`, 'i');
      if (whole.test(name)) return { word, isWhole: true };
    }
    for (const word of words) {
      const part = new RegExp(`(^|[-_. 0-9])${word}($|[-_. 0-9])`, 'i');
      if (part.test(name)) return { word, isWhole: false };
    }
    return null;
  };
  for (const [split, words] of [['train', TRAIN] as const, ...Object.entries(OTHERS)]) {
    const match = found(words);
    if (match !== null) {
      return { split, isWhole: match.isWhole, isAmbiguous: AMBIGUOUS.has(match.word) };
    }
  }
  return null;
}

/** "train", "validation", "test", or null for a name of none. */
export function splitOf(name: string): string | null {
  return splitOfName(name)?.split ?? null;
}

/** The name without its endings: "test-v1.1" of "test-v1.1.json.gz". */
function stemOf(name: string): string {
  return name.replace(/\.[^.]+?(\.gz)?$/i, '');
}

const isText = (name: string): boolean => /\.(md|markdown|txt|text)(\.gz)?$/i.test(name);

/**
 * Of each file the split that it is of when it is not to be trained on, else null. A name that is a split's and no
 * more (test.csv, validation/) says so by itself; one that has the word among others (office-test.csv) where there
 * are training files beside it, for a text (test-report.md) with just that name but for the word.
 */
export function leftOutSplits(files: readonly FolderFile[]): (string | null)[] {
  const names = new Set(files.map(({ parts }) => parts.join('/').toLowerCase()));
  const hasTraining = files.some(({ parts }) =>
    parts.some((part, i) => {
      const isFile = i === parts.length - 1;
      const named = splitOfName(isFile ? stemOf(part) : part);
      return named?.split === 'train' && (named.isWhole || !isFile || !isText(part));
    }),
  );
  return files.map(({ parts }) => {
    for (const [i, part] of parts.entries()) {
      const isFile = i === parts.length - 1;
      const named = splitOfName(isFile ? stemOf(part) : part);
      if (named === null || named.split === 'train') continue;
      const isSure = named.isWhole && (isFile || !named.isAmbiguous);
      const isBeside = hasTraining && !(isFile && isText(part));
      if (isSure || isBeside || (isFile && hasCounterpart(parts, names))) return named.split;
    }
    return null;
  });
}

/** Whether there is a file of the same name but that it says "train". */
function hasCounterpart(parts: readonly string[], names: ReadonlySet<string>): boolean {
  const path = parts.join('/').toLowerCase();
  const [folder, name] = [dirname(path), basename(path)];
  const words = Object.values(OTHERS).flat();
  return words.some((word) =>
    TRAIN.some((train) => {
      const other = name.replace(new RegExp(`(?<=^|[-_. 0-9])${word}(?=$|[-_. 0-9])`), train);
      return other !== name && names.has(folder === '.' ? other : `${folder}/${other}`);
    }),
  );
}
