/** Text files as two systems write them between them, or as `cat` joins them: line breaks, marks, headers. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import * as fc from 'fast-check';
import { USUAL_COLUMNS, type ColumnNames } from '../../../node/data/columns.js';
import { ByteOrderMarks, LineBreaks } from '../../../node/data/line-breaks.js';
import { readRecords } from '../../../node/data/readers.js';
import { Scratch, userError } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

async function pairsOf(
  name: string,
  content: string,
  columns: ColumnNames = USUAL_COLUMNS,
): Promise<string[]> {
  const path = join(await scratch.directory(), name);
  await writeFile(path, content);
  const all: string[] = [];
  for await (const one of readRecords(path, { columns })) {
    if (one.kind === 'completion') all.push(`${one.line}: ${one.prompt} ${one.completion}`);
    else if (one.kind === 'text') all.push(`${one.line}: ${one.text}`);
  }
  return all;
}

const TWO = ['2: Who? Ida.', '3: Where? Here.'];

describe('line breaks', () => {
  it('become LF, however the file was cut into chunks', () => {
    const part = fc.constantFrom('\r', '\n', '\r\n', '\r\r\n', 'a', 'bc');
    fc.assert(
      fc.property(fc.array(part), fc.array(fc.nat(6)), (parts, sizes) => {
        const bytes = Buffer.from(parts.join(''));
        const breaks = new LineBreaks();
        const out: Buffer[] = [];
        let from = 0;
        for (const size of [...sizes, bytes.length]) {
          out.push(breaks.take(bytes.subarray(from, from + size)));
          from += size;
        }
        out.push(breaks.end());
        const wanted = bytes.toString().replace(/\r?\r\n|\r/g, '\n');
        assert.equal(Buffer.concat(out).toString(), wanted);
      }),
    );
  });

  it('are taken as they come in one table: no carriage return is trained', async () => {
    const rows = ['prompt,completion', '"Who?",Ida.', '"Where?",Here.'];
    for (const ends of [
      ['\n', '\r\n', '\r\n'],
      ['\r\n', '\n', '\n'],
      ['\r', '\r', '\r'],
      ['\r', '\r\n', '\n'],
      ['\r\r\n', '\r\r\n', '\r\r\n'],
      ['\n', '\r\n', ''],
    ]) {
      const table = rows.map((row, i) => row + (ends[i] ?? '')).join('');
      assert.deepEqual(await pairsOf('a.csv', table), TWO, JSON.stringify(ends));
    }
  });

  it('within quotes become LF too, and count as lines', async () => {
    const table = 'text\r\n"one\r\ntwo\rthree"\r\nfour\r\n';
    assert.deepEqual(await pairsOf('a.csv', table), ['2: one\ntwo\nthree', '5: four']);
  });

  it('of old Macs leave the delimiter to the first line, and number the line of a fault', async () => {
    const table = 'prompt;completion\rWho, and why?;Ida, she can.\rWhere;\r';
    await assert.rejects(
      pairsOf('a.csv', table),
      userError(/a\.csv, line 3: "completion" is empty/),
    );
    await assert.rejects(pairsOf('a.csv', 'text\ra\rb\0\r'), userError(/line 3: has NUL bytes/));
    assert.deepEqual(await pairsOf('a.jsonl', '{"text":"a"}\r{"text":"b"}\r'), ['1: a', '2: b']);
    assert.deepEqual(await pairsOf('a.txt', 'one\rtwo\r\rthree\r'), ['1: one\ntwo\n\nthree']);
  });
});

describe('byte order marks', () => {
  it('that begin a line are dropped, however the file was cut into chunks', () => {
    const part = fc.constantFrom('\ufeff', '\n', 'a', '\ufffe', '漢');
    fc.assert(
      fc.property(fc.array(part), fc.array(fc.nat(4)), (parts, sizes) => {
        const text = parts.join('');
        const marks = new ByteOrderMarks();
        const out: Buffer[] = [];
        let from = 0;
        for (const size of [...sizes, text.length]) {
          out.push(marks.take(Buffer.from(text.slice(from, from + size))));
          from += size;
        }
        assert.equal(Buffer.concat(out).toString(), text.replace(/^\ufeff+/gm, ''));
      }),
    );
  });

  it('are no part of a column, an object or a text, wherever files were joined', async () => {
    const table =
      '\ufeffprompt,completion\r\nWho?,Ida.\r\n\ufeffprompt,completion\r\nWhere?,Here.\r\n';
    assert.deepEqual(await pairsOf('a.csv', table), ['2: Who? Ida.', '4: Where? Here.']);
    const doubled = '\ufeff\ufeffprompt,completion\nWho?,Ida.\nWhere?,Here.';
    assert.deepEqual(await pairsOf('a.csv', doubled), TWO);
    const lines = '\ufeff{"text":"a"}\r\n\ufeff{"text":"b"}\r\n';
    assert.deepEqual(await pairsOf('a.jsonl', lines), ['1: a', '2: b']);
    assert.deepEqual(await pairsOf('a.txt', '\ufeffone\n\ufefftwo\ufeffthree'), [
      '1: one\ntwo\nthree',
    ]);
  });

  it('within a line tell where files were joined without a line break', async () => {
    const table = 'prompt,completion\nWho?,Ida.\ufeffprompt,completion\nWhere?,Here.\n';
    assert.deepEqual(await pairsOf('a.csv', table), TWO);
    const lines = '{"text":"a"}\ufeff{"text":"b"}{"text":"c \ufeff }{"}\n{"text":"d"}';
    assert.deepEqual(await pairsOf('a.jsonl', lines), ['1: a', '1: b', '1: c \ufeff }{', '2: d']);
    for (const joined of [
      'prompt,completion\nWho?,Ida.\ufeffid,prompt,completion\n1,Where?,Here.\n',
      'prompt,completion\n"Who?","Ida."\ufeff"prompt","completion"\n"Where?","Here."\n',
    ]) {
      await assert.rejects(
        pairsOf('a.csv', joined),
        userError(
          /a\.csv, line 2: has a byte order mark within the line, .*put a line break there/,
        ),
      );
    }
  });
});

describe('a table', () => {
  it('may begin with the line that tells Excel its delimiter', async () => {
    for (const begin of ['sep=;\r\n', '"sep=;"\n', 'SEP=;\n', '\ufeffsep=;\r\n', '\nsep=;;\n']) {
      const lines = begin.split('\n').length - 1;
      const table = `${begin}prompt;completion\r\nWho?;Ida, and Bo.\r\n`;
      assert.deepEqual(await pairsOf('a.csv', table), [`${lines + 2}: Who? Ida, and Bo.`], begin);
    }
    assert.deepEqual(await pairsOf('a.tsv', 'sep=,\nprompt,completion\nWho?,Ida.\n'), [
      '3: Who? Ida.',
    ]);
    const again = 'sep=;\nprompt;completion\nWho?;Ida.\nsep=;\nprompt;completion\nWhere?;Here.\n';
    assert.deepEqual(await pairsOf('a.csv', again), ['3: Who? Ida.', '6: Where? Here.']);
    for (const begin of ['sep=\n', 'sep=ab\n', 'sep="\n']) {
      await assert.rejects(
        pairsOf('a.csv', `${begin}prompt,completion\nWho?,Ida.\n`),
        userError(/a\.csv, line 1: is a "sep=" line of Excel that names no delimiter.*remove it/),
      );
    }
  });

  it('names its columns again where exports were joined, perhaps in another order', async () => {
    const table = 'prompt,completion\nWho?,Ida.\nCompletion , Prompt\nHere.,Where?\n';
    assert.deepEqual(await pairsOf('a.csv', table), ['2: Who? Ida.', '4: Where? Here.']);
  });

  it('has the delimiter that makes usable columns, else the most frequent one of its header', async () => {
    for (const table of [
      'prompt;completion\nWho?;Ida.\nWhere?;Here.\n',
      'prompt|completion\nWho?|Ida.\nWhere?|Here.\n',
      'prompt\tcompletion\nWho?\tIda.\nWhere?\tHere.\n',
      'prompt;completion;"a, b, c, d"\nWho?;Ida.;\nWhere?;Here.;\n',
      'prompt;completion;a, b, c, d\nWho?;Ida.;\nWhere?;Here.;\n',
      '"prompt";"completion"\n"Who?";Ida.\n"Where?";Here.\n',
    ]) {
      assert.deepEqual(await pairsOf('a.csv', table), TWO, table);
    }
    const named = { ...USUAL_COLUMNS, prompt: 'Frage, kurz', completion: 'Antwort' };
    const german = '\n\n"Frage, kurz";Antwort;"x, y, z"\nWho?;Ida.;\n';
    assert.deepEqual(await pairsOf('a.csv', german, named), ['4: Who? Ida.']);
    const split = '"prompt";"com\nment, long";completion\nWho?;;Ida.\n';
    assert.deepEqual(await pairsOf('a.csv', split), ['3: Who? Ida.']);
  });

  it('is refused where two columns have one name, but for capitals and spaces', async () => {
    const faults: [string, RegExp][] = [
      ['prompt,prompt,completion\na,b,c\n', /line 1: columns 1 and 2 have one name/],
      [
        'Prompt, prompt ,completion\na,b,c\n',
        /line 2: has 2 columns that are called "prompt" but for/,
      ],
    ];
    for (const [table, pattern] of faults) {
      await assert.rejects(pairsOf('a.csv', table), userError(pattern));
    }
  });
});

describe('JSON', () => {
  it('is read whether its objects stand on lines, in lists one after the other, or over several lines', async () => {
    const [a, b] = ['{"text":"a"}', '{"text":"b"}'];
    const pretty = '{\n  "text": "a"\n}\n{\n  "text": "b"\n}\n';
    for (const [content, wanted] of [
      [`[${a},${b}]`, ['1: a', '1: b']],
      [`[${a}]\n[${b}]\n`, ['1: a', '2: b']],
      [`[${a}][${b}]`, ['1: a', '1: b']],
      [`\ufeff[\n${a}\n]\r\n\ufeff[${b}]\n`, ['2: a', '4: b']],
      [`[${a}]\ufeff[]${b}`, ['1: a', '1: b']],
      [`${a}\n\n[${b}]\n[]\n`, ['1: a', '3: b']],
      [pretty, ['1: a', '4: b']],
      [`${a}\r\n \r\n${b}`, ['1: a', '3: b']],
    ] as [string, string[]][]) {
      for (const name of ['a.json', 'a.jsonl']) {
        assert.deepEqual(await pairsOf(name, content), wanted, `${name} ${content}`);
      }
    }
  });

  it('is refused with its line where it goes on or ends otherwise', async () => {
    for (const [content, pattern] of [
      ['[{"text":"a"}]\nx', /line 2: has something after the end of its list or object/],
      ['[{"text":"a"}]\n[{"text":', /line 2: the file ends before its list does/],
      ['{\n"text":"a"}\n{\n"text":', /line 3: the file ends before its object does/],
      ['{"text":"a"}\n{"text":"b"}{"text"\n', /line 2: is not valid JSON: each line/],
      ['{"text":"a"}\n7\n', /line 2: is not a JSON object/],
      ['{"text":"a"}\n[7]\n', /line 2: is not a JSON object/],
      ['{"text":"a"}\n{"text":"b\0"}\n', /line 2: has NUL bytes/],
    ] as [string, RegExp][]) {
      await assert.rejects(pairsOf('a.jsonl', content), userError(pattern));
    }
  });
});

it('a Git LFS pointer is named, not read', async () => {
  const pointer = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n';
  for (const name of ['a.txt', 'a.csv', 'a.jsonl', 'a.parquet']) {
    await assert.rejects(pairsOf(name, pointer), userError(/is a Git LFS pointer.*git lfs pull/));
  }
});
