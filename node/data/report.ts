/** What murmurate data check finds out: how data files would be trained on, and what is wrong with them. */
import { UserError } from '../errors.js';
import { contentHash, wideContentHash } from './content-hash.js';
import {
  openDataset,
  type DatasetOptions,
  type DatasetStats,
  type ReadExample,
} from './dataset.js';
import type { DataRecord, Place } from './records.js';
import { findDataFiles, type LeftOut } from './sources.js';
import { contentOf } from './split.js';

/** Samples in a report, and problems that are kept of as many as there are. */
const SAMPLES = 3;
export const PROBLEMS_MAX = 20;
/** Bars of the histogram. */
const BARS = 8;

/** A stretch of tokens that are all trained, or all not. */
export interface Stretch {
  tokens: number[];
  trained: boolean;
}

/** An example as the model will see it. */
export interface Sample extends Place {
  file: string;
  stretches: Stretch[];
}

export interface DataReport {
  files: string[];
  /** Entries of folders that are not read. */
  skipped: LeftOut[];
  records: number;
  byKind: Partial<Record<DataRecord['kind'], number>>;
  /** Of a record, in tokens. */
  lengths: { min: number; median: number; p95: number; max: number; total: number };
  /** Records with at most `upTo` tokens and more than the bar before. */
  histogram: { upTo: number; records: number }[];
  /** Tokens that the loss counts, and those that are only read. */
  trainedTokens: number;
  contextTokens: number;
  /** Records that say the same as one before, but for white space; and those that do but for capitals and signs too. */
  duplicates: number;
  nearDuplicates: number;
  /** Prompts that their completion follows without a space or a line break. */
  touching: number;
  /** Records with more tokens than the sequence length, which are cut, and their share. */
  longer: { records: number; recordShare: number; droppedTokens: number; tokenShare: number };
  /** What would be trained on, and what held out to measure on; null when all of it is refused. */
  split: DatasetStats | null;
  samples: Sample[];
  /** How many, and the sentences of the first PROBLEMS_MAX. */
  problemCount: number;
  problems: string[];
}

export interface ReportOptions extends Omit<DatasetOptions, 'onExample' | 'onFault'> {
  /** Told of records and tokens read so far, after each record. */
  onProgress: (records: number, tokens: number) => void;
  signal: AbortSignal;
}

/**
 * Reads `paths` as training would. What is wrong with the data is in the report; throws UserError only for paths that
 * are no data files, and `signal.reason`.
 */
export async function reportOn(
  paths: readonly string[],
  options: ReportOptions,
): Promise<DataReport> {
  const { files, skipped } = await findDataFiles(paths);
  const census = new Census(options);
  const note = (fault: UserError): void => census.fault(fault);
  let split: DatasetStats | null = null;
  try {
    const reading = {
      ...options,
      onExample: (one: ReadExample) => census.take(one),
      onFault: note,
    };
    split = (await openDataset(paths, reading)).stats;
  } catch (fault) {
    // Nothing left to train on, or more tokens than are kept.
    if (!(fault instanceof UserError)) throw fault;
    if (census.problemCount === 0 || census.records > 0) note(fault);
  }
  return { files, skipped, ...census.result(), split };
}

class Census {
  records = 0;
  problemCount = 0;
  readonly #problems: string[] = [];
  readonly #byKind: DataReport['byKind'] = {};
  readonly #lengths = new Numbers();
  readonly #contents = new Numbers();
  readonly #words = new Numbers();
  #tokens = 0;
  #trained = 0;
  #touching = 0;
  #longer = 0;
  #dropped = 0;
  /** The first record, and those whose content has the smallest hashes: any, but the same ones each time. */
  #samples: { hash: number; sample: Sample }[] = [];

  constructor(readonly options: ReportOptions) {}

  fault({ message }: UserError): void {
    this.problemCount++;
    if (this.#problems.length < PROBLEMS_MAX) this.#problems.push(message);
  }

  take(example: ReadExample): void {
    const { record, tokens, trained } = example;
    this.options.signal.throwIfAborted();
    this.records++;
    this.#byKind[record.kind] = (this.#byKind[record.kind] ?? 0) + 1;
    this.#lengths.push(tokens.length);
    this.#tokens += tokens.length;
    this.#trained += trained.reduce<number>((sum, flag) => sum + flag, 0);
    this.#countLonger(example);
    if (touches(record)) this.#touching++;
    const content = contentOf(record);
    this.#contents.push(wideContentHash('duplicate', content));
    this.#words.push(wideContentHash('duplicate', content.map(wordsOf)));
    this.#offerSample(example, content);
    this.options.onProgress(this.records, this.#tokens);
  }

  #countLonger({ trained, starts }: ReadExample): void {
    const { sequenceLength } = this.options;
    let isLonger = false;
    for (const [i, start] of starts.entries()) {
      const text = trained.slice(start, starts[i + 1]);
      if (text.length - 1 <= sequenceLength) continue;
      isLonger = true;
      // As chunksOf cuts: from the end, and what has nothing to train is dropped.
      for (let end = text.length - 1; end > 0; end -= sequenceLength) {
        const from = Math.max(0, end - sequenceLength);
        if (!text.slice(from + 1, end + 1).includes(1)) this.#dropped += end - from;
      }
    }
    if (isLonger) this.#longer++;
  }

  #offerSample(example: ReadExample, content: readonly string[]): void {
    const hash = this.records === 1 ? -1 : contentHash('sample', content);
    const largest = this.#samples.at(-1)?.hash ?? Infinity;
    if (this.#samples.length === SAMPLES && hash >= largest) return;
    this.#samples.push({ hash, sample: sampleOf(example) });
    this.#samples.sort((a, b) => a.hash - b.hash);
    this.#samples = this.#samples.slice(0, SAMPLES);
  }

  result(): Omit<DataReport, 'files' | 'skipped' | 'split'> {
    const lengths = this.#lengths.sorted();
    const at = (share: number): number => lengths[Math.ceil(share * lengths.length) - 1] ?? 0;
    const share = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole);
    return {
      records: this.records,
      byKind: this.#byKind,
      lengths: {
        ...{ min: lengths[0] ?? 0, median: at(0.5), p95: at(0.95), max: lengths.at(-1) ?? 0 },
        total: this.#tokens,
      },
      histogram: histogramOf(lengths),
      trainedTokens: this.#trained,
      contextTokens: this.#tokens - this.#trained,
      duplicates: repeats(this.#contents.sorted()),
      nearDuplicates: repeats(this.#words.sorted()),
      touching: this.#touching,
      longer: {
        records: this.#longer,
        recordShare: share(this.#longer, this.records),
        droppedTokens: this.#dropped,
        tokenShare: share(this.#dropped, this.#tokens),
      },
      samples: this.#samples.map(({ sample }) => sample),
      problemCount: this.problemCount,
      problems: this.#problems,
    };
  }
}

function touches(record: DataRecord): boolean {
  if (record.kind !== 'completion') return false;
  return /\S$/u.test(record.prompt) && /^\S/u.test(record.completion);
}

/** What two texts that differ in capitals, signs and white space alone have in common. */
function wordsOf(text: string): string {
  return text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, ' ');
}

function sampleOf({ file, record, tokens, trained }: ReadExample): Sample {
  const stretches: Stretch[] = [];
  for (const [i, token] of tokens.entries()) {
    const isTrained = trained[i] === 1;
    const last = stretches.at(-1);
    if (last?.trained === isTrained) last.tokens.push(token);
    else stretches.push({ tokens: [token], trained: isTrained });
  }
  const place = record.unit === undefined ? {} : { unit: record.unit };
  return { file, line: record.line, ...place, stretches };
}

/** Values that equal the one before. */
function repeats(sorted: Float64Array): number {
  return sorted.reduce((count, value, i) => count + (i > 0 && value === sorted[i - 1] ? 1 : 0), 0);
}

/** Bars of doubling width, the last ones that have records. */
function histogramOf(sorted: Float64Array): DataReport['histogram'] {
  const longest = sorted.at(-1);
  if (longest === undefined) return [];
  const top = Math.ceil(Math.log2(longest));
  const bars = Array.from({ length: BARS }, (_, i) => 2 ** (top - BARS + 1 + i));
  const counts = bars.map(() => 0);
  for (const length of sorted) {
    const bar = bars.findIndex((upTo) => length <= upTo);
    counts[bar] = (counts[bar] ?? 0) + 1;
  }
  const first = Math.max(
    0,
    counts.findIndex((count) => count > 0),
  );
  return bars.slice(first).map((upTo, i) => ({ upTo, records: counts[first + i] ?? 0 }));
}

/** A growing list, 8 bytes a number. */
class Numbers {
  #values = new Float64Array(1 << 10);
  #count = 0;

  push(value: number): void {
    if (this.#count === this.#values.length) {
      const grown = new Float64Array(2 * this.#count);
      grown.set(this.#values);
      this.#values = grown;
    }
    this.#values[this.#count++] = value;
  }

  sorted(): Float64Array {
    return this.#values.slice(0, this.#count).sort();
  }
}
