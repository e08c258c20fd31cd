/** How long the records of data files are in tokens, from a sample of them: what the length of sequences is chosen by. */
import { Prng } from '../../protocol/prng.js';
import { UserError } from '../errors.js';
import { readRecords } from './readers.js';
import type { DataRecord } from './records.js';
import { findDataFiles } from './sources.js';
import { timeFor, withTimeLimit } from './time-limit.js';
import { tokeniseRecord, type TokenisingOptions } from './tokenise.js';

/** Records of the sample: with these the share of longer ones is known within half a per cent. */
const SAMPLE_RECORDS = 2000;
/** A plain text counts as no longer than this: one that is cut loses nothing but context. */
export const TEXT_TOKENS_MAX = 512;

export interface RecordLengths {
  /** Records that were read, and those whose tokens were counted. */
  records: number;
  sampled: number;
  /** 95 of 100 records have at most so many tokens; 0 where there are none. */
  p95: number;
}

/**
 * Reads all of `paths` and counts the tokens of up to 2,000 records, drawn evenly and the same each time. Records that
 * cannot be used are left out: training says what is wrong with them. Throws UserError for paths that are not data files,
 * and `signal.reason`.
 */
export async function sampleLengths(
  paths: readonly string[],
  options: TokenisingOptions,
  signal: AbortSignal,
): Promise<RecordLengths> {
  const random = new Prng(new Uint8Array(32), 'record lengths');
  const sample: number[] = [];
  let records = 0;
  const { files } = await findDataFiles(paths);
  for (const file of files) {
    try {
      for await (const record of readRecords(file, { ...options, onFault: () => undefined })) {
        signal.throwIfAborted();
        records++;
        // Reservoir sampling (Vitter 1985).
        const place = records <= SAMPLE_RECORDS ? sample.length : random.nextBelow(records);
        if (place >= SAMPLE_RECORDS) continue;
        const tokens = lengthOf(record, file, options);
        if (tokens !== null) sample[Math.min(place, sample.length)] = tokens;
      }
    } catch (fault) {
      if (!(fault instanceof UserError)) throw fault;
    }
  }
  sample.sort((a, b) => a - b);
  const p95 = sample[Math.ceil(0.95 * sample.length) - 1] ?? 0;
  return { records, sampled: sample.length, p95 };
}

/** Null for a record that cannot be used. */
function lengthOf(record: DataRecord, file: string, options: TokenisingOptions): number | null {
  try {
    const limitMs = timeFor(JSON.stringify(record).length);
    const { tokens } = withTimeLimit(null, limitMs, () => tokeniseRecord(record, file, options));
    return record.kind === 'text' ? Math.min(tokens.length, TEXT_TOKENS_MAX) : tokens.length;
  } catch (fault) {
    if (fault instanceof UserError) return null;
    throw fault;
  }
}
