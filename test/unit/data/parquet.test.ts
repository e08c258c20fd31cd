import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { USUAL_COLUMNS } from '../../../node/data/columns.js';
import { readRecords } from '../../../node/data/readers.js';
import type { DataRecord } from '../../../node/data/records.js';
import { UserError } from '../../../node/errors.js';
import { ROOT, Scratch, userError } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

/** Written by make_parquet.py. */
const fixture = (name: string): string =>
  join(ROOT, 'test', 'unit', 'data', 'parquet', `${name}.parquet`);

async function recordsOf(file: string, columns = USUAL_COLUMNS): Promise<DataRecord[]> {
  const all: DataRecord[] = [];
  for await (const record of readRecords(file, { columns })) all.push(record);
  return all;
}

const refuses = (name: string, pattern: RegExp): Promise<void> =>
  assert.rejects(recordsOf(fixture(name)), userError(pattern));

const TEXTS = Array.from(
  { length: 12 },
  (_, i) => `Note ${i}: the kettle is in room ${100 + i}. Grüße, 漢字.`,
);

describe('Parquet', () => {
  it('gives the texts of every compression, page version and encoding, row after row', async () => {
    const names = ['none', 'snappy', 'gzip', 'zstd', 'brotli', 'second-pages', 'lengths'];
    for (const name of names) {
      const records = await recordsOf(fixture(`text-${name}`));
      assert.deepEqual(
        records.map((record) => (record.kind === 'text' ? record.text : '')),
        TEXTS,
        name,
      );
      assert.deepEqual(
        records.map(({ line, unit }) => `${unit} ${line}`),
        TEXTS.map((_, i) => `row ${i + 1}`),
      );
    }
    const repeated = await recordsOf(fixture('text-repeated'));
    assert.equal(repeated.length, 300);
    assert.ok(
      repeated.every((record, i) => record.kind === 'text' && record.text === TEXTS[i % 3]),
    );
  });

  it('gives conversations, which are lists of structs, also over small pages', async () => {
    for (const name of ['messages', 'messages-small-pages', 'messages-second-pages']) {
      const records = await recordsOf(fixture(name));
      assert.equal(records.length, 12, name);
      for (const [i, record] of records.entries()) {
        assert.ok(record.kind === 'messages');
        const turns = record.messages.map(({ role, content }) => `${role}: ${content}`);
        const thanks = i % 3 === 0 ? ['user: Thanks', 'assistant: Sure'] : [];
        assert.deepEqual(turns, [
          `user: Where is key ${i}?`,
          `assistant: On hook ${i}.`,
          ...thanks,
        ]);
      }
    }
  });

  it('gives instructions, with an input or a null instead', async () => {
    assert.deepEqual(await recordsOf(fixture('instructions')), [
      { kind: 'instruction', instruction: 'Add.\n\n1 and 2', output: '3', line: 1, unit: 'row' },
      { kind: 'instruction', instruction: 'Say hi.', output: 'hi', line: 2, unit: 'row' },
    ]);
  });

  it('reads the columns that the user names, and says which there are', async () => {
    const columns = { ...USUAL_COLUMNS, text: 'source' };
    const [first] = await recordsOf(fixture('messages'), columns);
    assert.ok(first?.kind === 'text' && first.text === 'a');
    await assert.rejects(
      recordsOf(fixture('messages'), { ...USUAL_COLUMNS, text: 'body' }),
      userError(
        /row 1: has no column "body", which a flag names, but "messages", "source": name one/,
      ),
    );
  });

  it('names the row of a value that is no text', async () => {
    await refuses('nulls', /nulls.parquet, row 2: "completion" is null, but must be text/);
    await refuses('numbers', /numbers.parquet, row 1: "text" is a number, but must be text/);
    await refuses(
      'not-utf8',
      /not-utf8.parquet, row 2: "text" is not valid UTF-8, but must be text/,
    );
  });

  it('says why a file cannot be read', async () => {
    await refuses('encrypted', /encrypted.parquet: is encrypted, which cannot be read here/);
    await refuses('encrypted-column', /encrypted-column.parquet: is encrypted/);
    await refuses('text-lz4', /row group 1 cannot be read \(its compression is LZ4_RAW, .* snappy/);
    await refuses(
      'text-prefixes',
      /\(its encoding cannot be read; write it with plain or dictionary/,
    );
    const file = join(await scratch.directory(), 'x.parquet');
    await writeFile(file, '');
    await assert.rejects(recordsOf(file), userError(/x.parquet: is empty/));
    await writeFile(file, 'id,text\n1,a\n');
    await assert.rejects(recordsOf(file), userError(/x.parquet: is not a Parquet file/));
  });

  it('refuses what is cut short anywhere', async () => {
    const whole = await readFile(fixture('text-snappy'));
    const file = join(await scratch.directory(), 'cut.parquet');
    for (let length = 0; length < whole.length; length += 37) {
      await writeFile(file, whole.subarray(0, length));
      await assert.rejects(recordsOf(file), UserError, `${length} bytes`);
    }
    await writeFile(file, whole.subarray(0, -10));
    await assert.rejects(
      recordsOf(file),
      userError(/cut.parquet: is cut short, its end is missing/),
    );
  });
});
