import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import * as fc from 'fast-check';
import { checkColumns, USUAL_COLUMNS, type ColumnNames } from '../../../node/data/columns.js';
import { LINE_BYTES_MAX } from '../../../node/data/lines.js';
import { readRecords } from '../../../node/data/readers.js';
import type { DataRecord } from '../../../node/data/records.js';
import { findDataFiles } from '../../../node/data/sources.js';
import { EXIT_USAGE, UserError } from '../../../node/errors.js';
import { Scratch, userError } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

async function fileWith(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(await scratch.directory(), name);
  await writeFile(path, content);
  return path;
}

async function recordsOf(
  name: string,
  content: string | Uint8Array,
  columns: ColumnNames = USUAL_COLUMNS,
): Promise<DataRecord[]> {
  const all: DataRecord[] = [];
  for await (const one of readRecords(await fileWith(name, content), { columns })) all.push(one);
  return all;
}

async function refuses(name: string, content: string | Uint8Array, pattern: RegExp): Promise<void> {
  await assert.rejects(recordsOf(name, content), userError(pattern));
}

const lines = (records: readonly DataRecord[]): number[] => records.map(({ line }) => line);

describe('CSV', () => {
  it('reads what Excel writes: a mark, semicolons, CRLF, quotes, line breaks, capitals, empty rows', async () => {
    const table =
      '\ufeffNr;Prompt;Completion\r\n1;"Who has the ""red"" key?";"Anna; she sits\r\nin room 4."\r\n;;\r\n\r\n2;Where?;Here\r\n';
    const records = await recordsOf('a.csv', table);
    assert.deepEqual(records, [
      {
        kind: 'completion',
        prompt: 'Who has the "red" key?',
        completion: 'Anna; she sits\nin room 4.',
        line: 2,
      },
      { kind: 'completion', prompt: 'Where?', completion: 'Here', line: 6 },
    ]);
  });

  it('gives back every field, whatever is in it', async () => {
    const field = fc
      .string({ unit: 'grapheme', maxLength: 12 })
      .filter((s) => s.trim() !== '' && !/[\0\r\ufeff]/.test(s));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(field, field), { minLength: 1, maxLength: 6 }),
        fc.constantFrom('csv', 'tsv', 'csv.gz'),
        async (rows, kind) => {
          const delimiter = kind === 'tsv' ? '\t' : ',';
          const quoted = (cell: string): string => `"${cell.replaceAll('"', '""')}"`;
          const text = [['prompt', 'completion'], ...rows]
            .map((row) => row.map(quoted).join(delimiter))
            .join('\n');
          const records = await recordsOf(`x.${kind}`, kind.endsWith('gz') ? gzipSync(text) : text);
          assert.deepEqual(
            records.map((record) =>
              record.kind === 'completion' ? [record.prompt, record.completion] : [],
            ),
            rows,
          );
        },
      ),
      { numRuns: 30 },
    );
  });

  it('names the line of every fault, and quotes nothing of it', async () => {
    const secret = 'Mrs-Miller-has-gout';
    const faults: [string, RegExp][] = [
      [
        `text\nfine\n"two\nlines"\n"${secret}\nno end\n`,
        /a.csv, line 5: opens a quote \("\) that is never closed/,
      ],
      [`text\nfine\n5" ${secret}\n`, /a.csv, line 3: has a quote \("\) within a field/],
      [`text\n"a"${secret}\n`, /a.csv, line 2: has a quote \("\) within a field/],
      [
        `text,id\n"two\nlines",1\n${secret},2,3\n`,
        /a.csv, line 4: has 3 fields, but the header has 2/,
      ],
      [`text,id\n${secret}\n`, /a.csv, line 2: has 1 field, but the header has 2/],
      [
        `id;note\n1;${secret}\n`,
        /a.csv, line 2: has "id", "note", but needs "text", or .*--text-column/,
      ],
      [
        `What ${secret} said to me last Friday evening.,b\n1,2\n`,
        /line 2: has 2 columns whose names look like text/,
      ],
      [`text,text\n${secret},b\n`, /line 1: columns 1 and 2 have one name/],
      [
        `prompt,completion\n${secret},\n`,
        /line 2: "completion" is empty, so there is nothing to train on/,
      ],
    ];
    for (const [table, pattern] of faults) {
      await assert.rejects(recordsOf('a.csv', table), (error) => {
        assert.ok(error instanceof UserError && !error.message.includes(secret));
        return userError(pattern)(error);
      });
    }
  });

  it('refuses a table without rows, and a row beyond the bound with the quote that may have made it', async () => {
    await refuses('a.csv', '', /a.csv: is empty/);
    await refuses('a.csv', 'text\n', /a.csv: is empty/);
    await refuses('a.csv', '\ufeff\r\n\r\n', /a.csv: is empty/);
    const long = `text,id\na,1\nb,"\n${'c,2\n'.repeat(LINE_BYTES_MAX / 2)}`;
    await refuses(
      'a.csv',
      long,
      /line 3: the row that begins here is longer than 1048576 bytes.* opened in line 3/,
    );
    await refuses(
      'a.csv',
      Buffer.from('text\ncaf\u00e9\n', 'latin1'),
      /line 2: is not valid UTF-8 \(byte 0xE9\).*CSV UTF-8/,
    );
    await refuses(
      'a.csv',
      Buffer.from('\ufefftext\na\n', 'utf16le'),
      /line 1: has NUL bytes.* not UTF-16/,
    );
  });
});

describe('a JSON list', () => {
  it('gives its entries with the lines where they begin, however it is laid out', async () => {
    const entries = [
      { text: 'a ]},{[ "\\' },
      { text: 'b', more: [[1], { c: '\\"' }] },
      { text: 'c' },
    ];
    const wanted = entries.map(({ text }) => text);
    for (const [text, at] of [
      [JSON.stringify(entries), [1, 1, 1]],
      [JSON.stringify(entries, null, 2), [2, 5, 16]],
      [
        `\ufeff\n\n [ ${entries.map((entry) => JSON.stringify(entry)).join('\r\n,\r\n')}]\r\n`,
        [3, 5, 7],
      ],
    ] as const) {
      const records = await recordsOf('a.json', text);
      assert.deepEqual(
        records.map((record) => (record.kind === 'text' ? record.text : '')),
        wanted,
      );
      assert.deepEqual(lines(records), at);
    }
    const many = Array.from({ length: 30_000 }, (_, i) => ({ text: `entry ${i} 漢` }));
    assert.equal((await recordsOf('a.json', JSON.stringify(many))).length, many.length);
  });

  it('may be lines instead', async () => {
    assert.deepEqual(lines(await recordsOf('a.json', '\n{"text":"a"}\n\n{"text":"b"}\n')), [2, 4]);
  });

  it('names the line of every fault', async () => {
    await refuses('a.json', '[]', /a.json: is empty/);
    await refuses('a.json', ' \n', /a.json: is empty/);
    await refuses(
      'a.json',
      '[{"text":"a"},\n]',
      /line 2: is not valid JSON: each entry of the list/,
    );
    await refuses('a.json', '[{"text":"a"}\n,,{"text":"b"}]', /line 2: is not valid JSON/);
    await refuses('a.json', '[\n7]', /line 2: is not a JSON object: each entry of the list/);
    await refuses(
      'a.json',
      '[{"text":"a"},\n{"text":"b',
      /line 2: the file ends before its list does/,
    );
    await refuses('a.json', '[{"text":"a"}]\n,', /line 2: has something after the end of its list/);
    await refuses('a.json', '[{"text":"a"}}', /line 1: has a "}" too many/);
    await refuses('a.json', '{\n"text": a\n}', /line 1: is not valid JSON: each object/);
    const long = `[{"text":"a"},\n{"text":"${'b'.repeat(LINE_BYTES_MAX)}"}]`;
    await refuses(
      'a.json',
      long,
      /line 2: the entry that begins here is longer than 1048576 bytes/,
    );
    await refuses('a.json', `[${' '.repeat(3 * LINE_BYTES_MAX)}`, /longer than 1048576 bytes/);
  });
});

describe('columns', () => {
  it('are instruction, input and output, or conversations as ShareGPT writes them', async () => {
    const rows = [
      { instruction: 'Add.', input: '1 and 2', output: '3' },
      { instruction: 'Say hi.', input: '', output: 'hi' },
      {
        conversations: [
          { from: 'system', value: 'S' },
          { from: 'human', value: 'Q' },
          { from: 'gpt', value: 'A' },
        ],
      },
    ];
    const records = await recordsOf('a.jsonl', rows.map((row) => JSON.stringify(row)).join('\n'));
    assert.deepEqual(records, [
      { kind: 'instruction', instruction: 'Add.\n\n1 and 2', output: '3', line: 1 },
      { kind: 'instruction', instruction: 'Say hi.', output: 'hi', line: 2 },
      {
        kind: 'messages',
        messages: [
          { role: 'system', content: 'S' },
          { role: 'user', content: 'Q' },
          { role: 'assistant', content: 'A' },
        ],
        line: 3,
      },
    ]);
  });

  it('are those that the user names, to the letter', async () => {
    const table = 'Frage,Antwort,text\nWer?,Anna,x\n';
    const named = { ...USUAL_COLUMNS, prompt: 'Frage', completion: 'Antwort' };
    assert.deepEqual(await recordsOf('a.csv', table, named), [
      { kind: 'completion', prompt: 'Wer?', completion: 'Anna', line: 2 },
    ]);
    await assert.rejects(
      recordsOf('a.csv', table, { ...named, prompt: 'frage' }),
      userError(
        /line 2: has no column "frage", which a flag names, but "Frage", "Antwort", "text"/,
      ),
    );
    const turns = [{ role: 'assistant', content: 'A' }];
    const chat = await recordsOf('a.jsonl', JSON.stringify({ text: 'x', chat: turns }), {
      ...USUAL_COLUMNS,
      messages: 'chat',
    });
    assert.deepEqual(chat, [{ kind: 'messages', messages: turns, line: 1 }]);
  });

  it('must make one whole form', () => {
    checkColumns(USUAL_COLUMNS);
    for (const wrong of [{ prompt: 'a' }, { completion: 'a' }, { text: 'a', messages: 'b' }]) {
      assert.throws(
        () => checkColumns({ ...USUAL_COLUMNS, ...wrong }),
        (error) => error instanceof UserError && error.exitCode === EXIT_USAGE,
      );
    }
  });
});

describe('data files', () => {
  it('that are packed are read as what they hold, and refused when they are cut short', async () => {
    const packed = gzipSync(Buffer.from('{"text":"a"}\n{"text":"b"}\n'));
    assert.deepEqual(lines(await recordsOf('a.jsonl.gz', packed)), [1, 2]);
    assert.equal((await recordsOf('a.TXT.GZ', gzipSync('Some text.'))).length, 1);
    await refuses('a.jsonl.gz', packed.subarray(0, -9), /a.jsonl.gz: is not a whole gzip file/);
    await refuses('a.jsonl.gz', '{"text":"a"}', /a.jsonl.gz: is not a whole gzip file/);
  });

  it('are found in folders, sorted, each once, and the rest is named', async () => {
    const folder = await scratch.directory();
    await mkdir(join(folder, 'b', 'c'), { recursive: true });
    await mkdir(join(folder, '.git'));
    const names = [
      'z.txt',
      'a.CSV',
      'b/1.jsonl.gz',
      'b/c/2.parquet',
      'b/notes.docx',
      '.hidden.txt',
      '.git/x.txt',
      'b/x.parquet.gz',
    ];
    for (const name of names) await writeFile(join(folder, name), 'x');
    await symlink(folder, join(folder, 'b', 'loop'));
    await symlink(join(folder, 'z.txt'), join(folder, 'same.txt'));
    await symlink(join(folder, 'gone'), join(folder, 'b', 'gone.txt'));
    const { files, skipped } = await findDataFiles([folder]);
    const inside = (paths: readonly string[]): string[] =>
      paths.map((path) => path.slice(folder.length + 1));
    assert.deepEqual(inside(files), ['a.CSV', 'b/1.jsonl.gz', 'b/c/2.parquet', 'same.txt']);
    assert.deepEqual(inside(skipped.map(({ path }) => path)).sort(), [
      '.git',
      '.hidden.txt',
      'b/gone.txt',
      'b/notes.docx',
      'b/x.parquet.gz',
    ]);
    const empty = join(folder, '.git', 'y');
    await mkdir(empty);
    await writeFile(join(empty, 'a.pdf'), '');
    await assert.rejects(
      findDataFiles([empty]),
      userError(/y: has no data file to train on in it \(1 entry looked at\)/),
    );
    await assert.rejects(
      findDataFiles([join(folder, 'none')]),
      userError(/none \(a data file\) does not exist/),
    );
    const pdf = findDataFiles([join(empty, 'a.pdf')]);
    await assert.rejects(pdf, userError(/a.pdf: is of an unknown kind/));
  });

  it('are no pipes, devices or folders', { skip: process.platform === 'win32' }, async () => {
    const folder = await scratch.directory();
    const pipe = join(folder, 'pipe.jsonl');
    execFileSync('mkfifo', [pipe]);
    const device = join(folder, 'device.txt');
    await symlink('/dev/zero', device);
    await mkdir(join(folder, 'folder.csv'));
    for (const name of ['pipe.jsonl', 'device.txt', 'folder.csv']) {
      const read = async (): Promise<void> => {
        await readRecords(join(folder, name)).next();
      };
      await assert.rejects(read(), userError(/\(a data file\) is not a regular file/));
    }
  });

  it(
    'are closed again, whatever was wrong with them',
    { skip: process.platform !== 'linux' },
    async () => {
      const open = async (): Promise<number> => (await readdir('/proc/self/fd')).length;
      const before = await open();
      for (let i = 0; i < 20; i++) {
        for (const name of ['a.json', 'a.jsonl', 'a.csv', 'a.json.gz', 'a.parquet']) {
          await assert.rejects(recordsOf(name, '[{"text": 1}, "'), UserError);
        }
      }
      const deadline = Date.now() + 5_000;
      while ((await open()) > before + 5) {
        assert.ok(Date.now() < deadline, `${await open()} files are open, ${before} were before`);
      }
    },
  );
});
