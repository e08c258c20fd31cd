/** Readers of data files: what a user got somewhere. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { readRecords } from '../../node/data/readers.js';
import { UserError } from '../../node/errors.js';
import { ROOT } from '../unit/model/fixtures.js';
import { fileOf } from './files.js';
import type { FuzzTarget, FuzzTargets } from './oracle.js';

/** One line, row or paragraph per change, read as each kind of data file. */
function dataFile(extension: string, seeds: readonly Uint8Array[]): FuzzTarget {
  return {
    seeds,
    refusals: [UserError],
    run: async (bytes) => {
      for await (const record of readRecords(fileOf(`data.${extension}`, bytes))) {
        assert.ok(record.line >= 1);
        if (record.kind === 'messages') assert.ok(record.messages.length > 0);
      }
    },
  };
}

const objects = [
  { text: 'A line.' },
  { prompt: 'A question? ', completion: 'An answer.' },
  { instruction: 'Add.', input: '1 and 2', output: '3' },
  {
    messages: [
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'Hello' },
    ],
  },
  {
    conversations: [
      { from: 'human', value: 'Hi "there"' },
      { from: 'gpt', value: 'Hello' },
    ],
  },
];
const jsonLines = Buffer.from(objects.map((line) => `${JSON.stringify(line)}\r\n`).join(''));

const parquetFiles = ['text-snappy', 'text-zstd', 'text-lengths', 'text-second-pages', 'messages'];
const parquet = parquetFiles.map((name) =>
  readFileSync(join(ROOT, 'test', 'unit', 'data', 'parquet', `${name}.parquet`)),
);

export const dataTargets: FuzzTargets = {
  jsonl: dataFile('jsonl', [jsonLines]),
  'jsonl-gz': dataFile('jsonl.gz', [gzipSync(jsonLines), gzipSync(jsonLines, { level: 0 })]),
  json: dataFile('json', [Buffer.from(JSON.stringify(objects, null, 1)), jsonLines]),
  csv: dataFile('csv', [
    Buffer.from(
      '\ufeffPrompt;Completion\r\n"Who has ""it""?";"Anna,\nin room 4"\r\n;;\r\nWhere?;Here\r\n',
    ),
    Buffer.from('id,text\n1,One\n\n2,"Two, and\nmore"\n'),
  ]),
  parquet: dataFile('parquet', parquet),
  txt: dataFile('txt', [
    Buffer.from(`\ufeffA paragraph.\nAnother line.\n\n${'Words and words. '.repeat(80)}\n\nEnd.`),
  ]),
};
