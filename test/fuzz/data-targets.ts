/** Readers of data files: what a user got somewhere. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { openChatTemplate } from '../../node/data/chat-template.js';
import { USUAL_COLUMNS } from '../../node/data/columns.js';
import { readRecords } from '../../node/data/readers.js';
import { tokeniseRecord, type TokenisingOptions } from '../../node/data/tokenise.js';
import { openTokenizer } from '../../node/data/tokenizer.js';
import { UserError } from '../../node/errors.js';
import { ROOT, TINY_BASE } from '../unit/model/fixtures.js';
import { fileOf, scratch } from './files.js';
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

/** What a conversation may hold beside words. */
const richObjects = [
  {
    messages: [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: [{ type: 'text', text: 'Key?' }], train: false },
      {
        ...{ role: 'assistant', content: null, reasoning_content: 'Hm.', weight: 1 },
        tool_calls: [
          { type: 'function', function: { name: 'find', arguments: '{"a": [1, null]}' } },
        ],
      },
      { role: 'tool', tool_call_id: 'c1', content: { found: true } },
      { role: 'assistant', content: '<think>\nSo.\n</think>\n\nHere.', thinking: 'So.' },
    ],
    tools: [{ type: 'function', function: { name: 'find', parameters: {} } }],
    chat_template_kwargs: { enable_thinking: false },
  },
  { instruction: 'i', output: 'o', system: 's', history: [['q', 'a']] },
  {
    conversations: [
      { from: 'function_call', value: '{"name": "find", "arguments": {}}' },
      { from: 'observation', value: 'x' },
      { from: 'gpt', value: 'y', loss_mask: 0 },
      { from: 'gpt', value: 'z' },
    ],
  },
];

let opened: Promise<TokenisingOptions> | null = null;
async function chatModel(): Promise<TokenisingOptions> {
  const dir = join(scratch, 'chat');
  mkdirSync(dir, { recursive: true });
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    writeFileSync(join(dir, name), readFileSync(join(TINY_BASE, name)));
  }
  const source = readFileSync(join(ROOT, 'test/reference/chat-templates/qwen3.jinja'), 'utf8');
  const unmarked = source.replace(
    /\{%(-?) (end)?generation (-?)%\}/g,
    (_, left: string, end?: string) =>
      end === undefined ? `{%${left} if true %}` : `{%${left} endif %}`,
  );
  writeFileSync(join(dir, 'chat_template.jinja'), unmarked);
  const model = { vocabSize: 4096, eosTokenIds: [0], padTokenId: 0 };
  const columns = { ...USUAL_COLUMNS, acceptDropped: true, acceptRoles: true };
  const chatTemplate = await openChatTemplate(dir);
  return { tokenizer: await openTokenizer(dir, model), chatTemplate, columns };
}

/** Conversations of any shape as tokens: every text has some that are trained, of the model's vocabulary. */
const conversations: FuzzTarget = {
  seeds: [
    Buffer.from([...objects, ...richObjects].map((line) => `${JSON.stringify(line)}\n`).join('')),
  ],
  refusals: [UserError],
  run: async (bytes) => {
    const options = await (opened ??= chatModel());
    const { columns = USUAL_COLUMNS } = options;
    for await (const record of readRecords(fileOf('chat.jsonl', bytes), { columns })) {
      const { tokens, trained, starts } = tokeniseRecord(record, 'chat.jsonl', options);
      assert.equal(trained.length, tokens.length);
      assert.ok(tokens.every((id) => id >= 0 && id < options.tokenizer.vocabSize));
      for (const [i, start] of starts.entries()) {
        assert.ok(trained.slice(start, starts[i + 1]).includes(1));
      }
    }
  },
};

const parquetFiles = ['text-snappy', 'text-zstd', 'text-lengths', 'text-second-pages', 'messages'];
const parquet = parquetFiles.map((name) =>
  readFileSync(join(ROOT, 'test', 'unit', 'data', 'parquet', `${name}.parquet`)),
);

export const dataTargets: FuzzTargets = {
  conversations,
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
