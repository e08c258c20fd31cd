/** A peer's private data, from files to batches: read, split, tokenised and packed, all of it in memory. */
import type { ChatTemplate } from './chat-template.js';
import {
  PackedRows,
  packRows,
  TOKENS_MAX,
  TokenStore,
  type Batch,
  type Packing,
} from './packing.js';
import { SingleRows } from './single-rows.js';
import { DATA_FILE_KINDS, readRecords } from './readers.js';
import { isHeldOut } from './split.js';
import { tokeniseRecord } from './tokenise.js';
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
 * Reads `files` (.jsonl, .txt, .md) in order. Throws UserError that names the file and line: see
 * readRecords and tokeniseRecord; also for more than TOKENS_MAX tokens, or when nothing is left to train.
 */
export async function openDataset(
  files: readonly string[],
  options: DatasetOptions,
): Promise<Dataset> {
  if (files.length === 0) {
    throw new UserError(
      `no data files were given: name at least one, ${DATA_FILE_KINDS}`,
      EXIT_USAGE,
    );
  }
  const [training, heldOut] = [new TokenStore(), new TokenStore()];
  for (const file of files) {
    for await (const record of readRecords(file)) {
      const { tokens, trained } = tokeniseRecord(record, file, options);
      const store = isHeldOut(record, options.heldOutShare) ? heldOut : training;
      if (training.size + heldOut.size > TOKENS_MAX || !store.append(tokens, trained)) {
        throw new UserError(
          `${file}, line ${record.line}: the data have more than ${TOKENS_MAX} tokens, the most that is kept in memory: give fewer files`,
        );
      }
    }
  }
  const init = {
    sequenceLength: options.sequenceLength,
    padTokenId: options.tokenizer.padTokenId,
    seed: options.seed,
  };
  const packing = packRows(training, options.sequenceLength, options.seed);
  // Every example has at least two tokens, so that only an empty side has no rows.
  if (packing.rows.length === 0) throw nothingToTrain(files, heldOut.examples);
  const heldOutPacking = packRows(heldOut, options.sequenceLength, options.seed);
  return {
    training: new PackedRows(training, packing, init),
    single: new SingleRows(training, init),
    heldOut:
      heldOutPacking.rows.length === 0 ? null : new PackedRows(heldOut, heldOutPacking, init),
    stats: statsOf(training, heldOut, packing),
  };
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
