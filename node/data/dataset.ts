/** A peer's private data, from files to batches: read, split, tokenised and packed, all of it in memory. */
import type { ChatTemplate } from './chat-template.js';
import type { ColumnNames } from './columns.js';
import { PackedRows, packRows, type Batch, type Packing } from './packing.js';
import { placeText, type DataRecord } from './records.js';
import { SingleRows } from './single-rows.js';
import { readRecords } from './readers.js';
import { DATA_FILE_KINDS, findDataFiles } from './sources.js';
import { contentOf, isHeldOut } from './split.js';
import { timeFor, withTimeLimit } from './time-limit.js';
import { tokeniseRecord, type TokenisedExample } from './tokenise.js';
import { TOKENS_MAX, TokenStore } from './token-store.js';
import type { Tokenizer } from './tokenizer.js';
import { EXIT_USAGE, UserError } from '../errors.js';

/** How data files become batches. */
export interface DatasetOptions {
  tokenizer: Tokenizer;
  /** Null when the model has none: `messages` lines are then refused. */
  chatTemplate: ChatTemplate | null;
  /** T: positions in one row, 2 to the model's maxPositions (the caller's duty). */
  sequenceLength: number;
  /** Share of the examples that is never trained on, 0 (none) to 0.5. */
  heldOutShare: number;
  /** Of the packing and of the order of rows; a resumed peer must give the same. */
  seed: Uint8Array;
  /** Default: the usual names. */
  columns?: ColumnNames;
  /** Told of each example, in order. */
  onExample?: (example: ReadExample) => void;
  /** Told of what cannot be used, which is then left out (a row, or the rest of a file); without it that is thrown. */
  onFault?: (fault: UserError) => void;
}

/** An example as it was read. */
export interface ReadExample extends TokenisedExample {
  file: string;
  record: DataRecord;
  isHeldOut: boolean;
}

/** Rows to measure on: see PackedRows.batches. */
export interface HeldOutRows {
  /** Rows in one pass over the data, at least 1. */
  readonly rows: number;
  /** One pass in a fixed order, at most about `inputTokensMax` positions, at least one batch. */
  batches(batchSize: number, inputTokensMax: number): Iterable<Batch>;
}

/** Rows to train on, or to measure on as well: see PackedRows.batch. */
export interface TrainingRows extends HeldOutRows {
  /** Batch number `step` (from 0), the same whenever it is asked for. */
  batch(step: number, batchSize: number): Batch;
}

/** What the files held. "Tokens" count the examples' tokens, end-of-text included, padding not. */
export interface DatasetStats {
  /** Training examples, their tokens, and how many of these are trained in one pass. */
  examples: number;
  tokens: number;
  trainedTokens: number;
  heldOutExamples: number;
  heldOutTokens: number;
  /** Training examples longer than a row, which were cut. */
  cutExamples: number;
  /** Tokens of their prompts that were dropped: too far before the answer to fit its row. */
  droppedTokens: number;
}

export interface Dataset {
  readonly training: TrainingRows;
  /** The same examples, each in a row of its own. */
  readonly single: SingleRows;
  /** Null when no example hashed into the held-out share (few examples) or the share is 0. */
  readonly heldOut: HeldOutRows | null;
  readonly stats: DatasetStats;
}

/**
 * Reads files and folders (see findDataFiles) in order. Throws UserError that names the file and line: see
 * readRecords and tokeniseRecord; also for more than TOKENS_MAX tokens, or when nothing is left to train.
 */
export async function openDataset(
  paths: readonly string[],
  options: DatasetOptions,
): Promise<Dataset> {
  if (paths.length === 0) {
    throw new UserError(
      `no data files were given: name at least one, ${DATA_FILE_KINDS}`,
      EXIT_USAGE,
    );
  }
  const { files } = await findDataFiles(paths);
  const [training, heldOut] = [new TokenStore(), new TokenStore()];
  for await (const example of readExamples(files, options)) {
    const { tokens, trained, starts, file, record } = example;
    const store = example.isHeldOut ? heldOut : training;
    if (training.size + heldOut.size > TOKENS_MAX || !store.append(tokens, trained, starts)) {
      throw new UserError(
        `${placeText(file, record)}: the data have more than ${TOKENS_MAX} tokens, the most that is kept in memory: give fewer files`,
      );
    }
    options.onExample?.(example);
  }
  const init = {
    sequenceLength: options.sequenceLength,
    padTokenId: options.tokenizer.padTokenId,
    seed: options.seed,
  };
  const packing = packRows(training, options.sequenceLength, options.seed);
  // Every example has at least two tokens, so that only an empty side has no rows.
  if (packing.rows.length === 0) throw nothingToTrain(paths, heldOut.examples);
  const heldOutPacking = packRows(heldOut, options.sequenceLength, options.seed);
  return {
    training: new PackedRows(training, packing, init),
    single: new SingleRows(training, init),
    heldOut:
      heldOutPacking.rows.length === 0 ? null : new PackedRows(heldOut, heldOutPacking, init),
    stats: statsOf(training, heldOut, packing),
  };
}

/**
 * Records that are tokenised under one limit on time, and their characters: setting the limit takes as long as
 * tokenising a hundred words.
 */
const BATCH_RECORDS = 64;
const BATCH_CHARACTERS = 1 << 16;

async function* readExamples(
  files: readonly string[],
  options: DatasetOptions,
): AsyncGenerator<ReadExample, void, undefined> {
  const { onFault } = options;
  const refuse = (fault: unknown): void => {
    if (onFault === undefined || !(fault instanceof UserError)) throw fault;
    onFault(fault);
  };
  for (const file of files) {
    const records = readRecords(file, options);
    for (let isDone = false; !isDone;) {
      const batch: DataRecord[] = [];
      let characters = 0;
      let unreadable: { fault: unknown } | null = null;
      try {
        while (batch.length < BATCH_RECORDS && characters < BATCH_CHARACTERS) {
          const next = await records.next();
          if (next.done === true) {
            isDone = true;
            break;
          }
          batch.push(next.value);
          characters += charactersRead(next.value);
        }
      } catch (fault) {
        // A reader that has thrown is done: the next call ends its file.
        unreadable = { fault };
      }
      for (const result of tokeniseBatch(batch, characters, file, options)) {
        if ('fault' in result) refuse(result.fault);
        else yield result;
      }
      if (unreadable !== null) refuse(unreadable.fault);
    }
  }
}

/** Characters that are gone over for a record: a conversation is rendered again for each of its messages. */
function charactersRead(record: DataRecord): number {
  const characters = contentOf(record).reduce((sum, text) => sum + text.length, 0);
  return record.kind === 'messages' ? characters * record.messages.length : characters;
}

/** In order. What a record throws takes its place. */
function tokeniseBatch(
  batch: readonly DataRecord[],
  characters: number,
  file: string,
  options: DatasetOptions,
): (ReadExample | { fault: unknown })[] {
  const tokenise = (record: DataRecord): ReadExample | { fault: unknown } => {
    try {
      const isAside = isHeldOut(record, options.heldOutShare);
      return { ...tokeniseRecord(record, file, options), file, record, isHeldOut: isAside };
    } catch (fault) {
      return { fault };
    }
  };
  try {
    return withTimeLimit(null, timeFor(characters), () => batch.map(tokenise));
  } catch (fault) {
    // Stopped, with nothing left of the batch.
    return [{ fault }];
  }
}

function nothingToTrain(files: readonly string[], examples: number): UserError {
  const all = examples === 1 ? 'the only example' : `all of the ${examples} examples`;
  return new UserError(
    `${files.join(', ')}: ${all} fell into the held-out share, none is left to train on: add data`,
  );
}

function statsOf(training: TokenStore, heldOut: TokenStore, packing: Packing): DatasetStats {
  return {
    examples: training.examples,
    tokens: training.size,
    trainedTokens: packing.trainedTokens,
    heldOutExamples: heldOut.examples,
    heldOutTokens: heldOut.size,
    cutExamples: packing.cutExamples,
    droppedTokens: packing.droppedTokens,
  };
}
