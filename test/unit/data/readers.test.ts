import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import * as fc from 'fast-check';
import { LINE_BYTES_MAX, readLines } from '../../../node/data/lines.js';
import { BLOCK_CHARACTERS_MAX, BLOCK_CHARACTERS_MIN } from '../../../node/data/plain-text.js';
import { readRecords } from '../../../node/data/readers.js';
import type { DataRecord } from '../../../node/data/records.js';
import { EXIT_FAILURE, EXIT_USAGE, UserError } from '../../../node/errors.js';
import { Scratch, userError } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

async function fileWith(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(await scratch.directory(), name);
  await writeFile(path, content);
  return path;
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

async function recordsOf(name: string, content: string | Uint8Array): Promise<DataRecord[]> {
  return collect(readRecords(await fileWith(name, content)));
}

async function refuses(name: string, content: string | Uint8Array, pattern: RegExp): Promise<void> {
  await assert.rejects(recordsOf(name, content), userError(pattern));
}

describe('readLines', () => {
  it('gives back the lines, however the file was cut into chunks', async () => {
    const line = fc
      .string({ unit: 'grapheme', maxLength: 12 })
      .filter((s) => !/[\r\n\0\ufeff]/.test(s));
    const lines = fc.array(line, { minLength: 1, maxLength: 9 }).map((all) => [...all, 'end']);
    await fc.assert(
      fc.asyncProperty(
        lines,
        fc.constantFrom('\n', '\r\n', '\r', '\r\r\n'),
        async (wanted, newline) => {
          const file = await fileWith('x.txt', wanted.join(newline));
          const found = await collect(readLines(file));
          assert.deepEqual(
            found.map(({ text }) => text),
            wanted,
          );
          assert.deepEqual(
            found.map(({ number }) => number),
            wanted.map((_, i) => i + 1),
          );
        },
      ),
      { numRuns: 40 },
    );
    // Longer than the chunks in which a file is read, with characters of three bytes across the cut.
    const long = '漢'.repeat(60_000);
    const found = await collect(readLines(await fileWith('x.txt', `a\n${long}\nb\n`)));
    assert.deepEqual(
      found.map(({ text }) => text),
      ['a', long, 'b'],
    );
  });
});

describe('readRecords', () => {
  it('reads the three forms of JSON lines and keeps their line numbers', async () => {
    const messages = [
      { role: 'user', content: 'Who?' },
      { role: 'assistant', content: 'Me.', extra: 1 },
    ];
    const lines = [
      '{"text": "All of it.", "id": 7}',
      '',
      '{"prompt": "Q: ", "completion": "A"}\r',
      JSON.stringify({ messages }),
    ];
    assert.deepEqual(await recordsOf('data.jsonl', lines.join('\n')), [
      { kind: 'text', text: 'All of it.', endsDocument: true, splitKey: 'All of it.', line: 1 },
      { kind: 'completion', prompt: 'Q: ', completion: 'A', line: 3 },
      // The template may read any field.
      { kind: 'messages', messages, line: 4 },
    ]);
  });

  it('names file and line of every fault in JSON lines', async () => {
    const good = '{"text": "fine"}\n\n';
    const at3 = (line: string, pattern: string): Promise<void> =>
      refuses('bad.jsonl', good + line, new RegExp(`bad\\.jsonl, line 3: ${pattern}`));
    await at3('{"text": "cut', 'is not valid JSON: each line must be one whole JSON object');
    await at3('["a"]', 'is not a JSON object');
    await at3('"a"', 'is not a JSON object');
    await at3('{"question": "a", "answer": "b"}', 'has "question", "answer", but needs "text", or');
    await at3('{"prompt": "a"}', 'has "prompt", but needs');
    await at3('{}', 'has no columns, but needs');
    await at3('{"text": 5}', '"text" is a number, but must be text');
    await at3('{"prompt": null, "completion": "b"}', '"prompt" is null, but must be text');
    await at3('{"prompt": "a", "completion": ["b"]}', '"completion" is a list, but must be');
    await at3('{"text": " "}', '"text" is empty, so there is nothing to train on');
    await at3('{"prompt": "a", "completion": ""}', '"completion" is empty');
    await at3('{"messages": []}', '"messages" must be a list of 1 to 256 turns');
    await at3(
      '{"messages": [{"role": "user"}]}',
      'turn 1 of "messages": "content" is null, but must be text or a list of text parts',
    );
    const unanswered = '{"messages": [{"role": "user", "content": "a"}]}';
    await at3(unanswered, '"messages" has no turn with the role "assistant"');
  });

  it('never quotes the data', async () => {
    const secret = 'Mrs-Miller-has-gout';
    for (const line of [`{"text": "${secret}`, `["${secret}"]`, `{"text": ["${secret}"]}`]) {
      await assert.rejects(
        recordsOf('data.jsonl', line),
        (error) => error instanceof UserError && !error.message.includes(secret),
      );
    }
  });

  it('refuses files that are empty, binary, not UTF-8 or of an unknown kind', async () => {
    await refuses('a.jsonl', '', /a.jsonl: is empty: give a file with at least one example/);
    await refuses('a.txt', '\n  \n\n', /a.txt: is empty/);
    await refuses('a.txt', Buffer.from([0x50, 0x4b, 3, 4, 0, 0]), /line 1: has NUL bytes: give a/);
    await refuses('a.txt', Buffer.alloc(3 << 20), /line 1: has NUL bytes/);
    const utf16 = Buffer.from('\ufeffhello\n', 'utf16le');
    await refuses('a.txt', utf16, /line 1: has NUL bytes: .* not UTF-16/);
    const latin1 = Buffer.from('fine\ncaf\u00e9\n', 'latin1');
    await refuses('a.jsonl', latin1, /a.jsonl, line 1: is not valid JSON/);
    await refuses(
      'a.txt',
      latin1,
      /a.txt, line 2: is not valid UTF-8 \(byte 0xE9\): give a text file/,
    );
    const gone = collect(readRecords(join(await scratch.directory(), 'gone.txt')));
    await assert.rejects(
      gone,
      userError(/gone.txt \(a data file\) does not exist: check the path/),
    );
    const pdf = collect(readRecords('report.pdf'));
    await assert.rejects(pdf, (error) => {
      assert.ok(userError(/report.pdf: is of an unknown kind: data files are \.jsonl/)(error));
      assert.equal((error as UserError).exitCode, EXIT_USAGE);
      return true;
    });
    await assert.rejects(recordsOf('a.jsonl', ''), { exitCode: EXIT_FAILURE });
  });

  it('refuses a line beyond the bound, with or without an end, and takes one at it', async () => {
    const line = (bytes: number): string => `{"text": "${'x'.repeat(bytes - 12)}"}`;
    assert.equal(line(100).length, 100);
    const records = await recordsOf('a.jsonl', `${line(LINE_BYTES_MAX)}\n`);
    assert.equal(records.length, 1);
    const tooLong = /a.jsonl, line 2: is longer than 1048576 bytes/;
    await refuses('a.jsonl', `${line(100)}\n${line(LINE_BYTES_MAX + 1)}\n`, tooLong);
    await refuses('a.jsonl', `${line(100)}\n${'x'.repeat(3 * LINE_BYTES_MAX)}`, tooLong);
  });
});

describe('plain text', () => {
  const paragraph = (i: number): string =>
    `Paragraph ${i}. ${'It goes on like this. '.repeat(i % 20)}`;

  it('comes in blocks that give back the whole text in order', async () => {
    const text = Array.from({ length: 200 }, (_, i) => paragraph(i).trim()).join('\n\n');
    const records = await recordsOf('book.md', text);
    assert.ok(records.length > 20);
    const texts = records.map((record) => (record.kind === 'text' ? record.text : ''));
    assert.equal(texts.join(''), text);
    for (const block of texts.slice(0, -1)) {
      assert.ok(block.length >= BLOCK_CHARACTERS_MIN);
      assert.ok(block.length < BLOCK_CHARACTERS_MAX + paragraph(19).length);
    }
    const ends = records.map((record) => record.kind === 'text' && record.endsDocument);
    assert.deepEqual(ends, [...Array<boolean>(records.length - 1).fill(false), true]);
  });

  it('keeps line breaks, takes several blank lines as one and counts lines', async () => {
    const [record] = await recordsOf('poem.txt', '\n\nRoses\n  are red\n\n\n\nViolets\n');
    assert.deepEqual(record, {
      kind: 'text',
      text: 'Roses\n  are red\n\nViolets',
      endsDocument: true,
      splitKey: 'Roses\n  are red\n\n',
      line: 3,
    });
  });

  it('cuts a paragraph without end at line breaks', async () => {
    const lines = Array.from({ length: 2000 }, (_, i) => `line ${i} of a log without blank lines`);
    const records = await recordsOf('log.txt', lines.join('\n'));
    const texts = records.map((record) => (record.kind === 'text' ? record.text : ''));
    assert.equal(texts.join(''), lines.join('\n'));
    assert.ok(texts.every((block) => block.length < 2 * BLOCK_CHARACTERS_MAX + 100));
    assert.ok(texts.slice(0, -1).every((block) => block.endsWith('lines\n')));
  });
});
