import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text as collect } from 'node:stream/consumers';
import { after, describe, it } from 'node:test';
import { dataVerb } from '../../../node/cli/data.js';
import { runProgram } from '../../../node/cli/program.js';
import { ROOT, Scratch } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

interface Said {
  exitCode: number;
  stdout: string;
  stderr: string;
}

async function run(...args: string[]): Promise<Said> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const { signal } = new AbortController();
  const io = { stdout, stderr, terminal: false, signal, interrupt: () => undefined };
  const exitCode = await runProgram([dataVerb], ['data', ...args], io);
  stdout.end();
  stderr.end();
  return { exitCode, stdout: await collect(stdout), stderr: await collect(stderr) };
}

async function fileWith(name: string, content: string): Promise<string> {
  const path = join(await scratch.directory(), name);
  await writeFile(path, content);
  return path;
}

describe('data check', () => {
  it('prints counts, and samples with what is trained in brackets', async () => {
    const file = await fileWith('a.csv', 'Frage;Antwort\n"Wo? ";"Hier\u001b[31m"\n"Wer? ";Anna\n');
    const columns = ['--prompt-column', 'Frage', '--completion-column', 'Antwort'];
    const { exitCode, stdout, stderr } = await run('check', file, '--held-out', '0', ...columns);
    assert.deepEqual([exitCode, stderr], [0, '']);
    assert.match(stdout, /^records +2, 2 prompt and completion\n/);
    assert.match(stdout, /\nsplit +2 records are trained on, 0 are held out\n/);
    // What would steer the terminal is shown as a sign.
    assert.match(stdout, /--- .*a.csv, line 2\nWo\? ⟦Hier\\u001b\[31m<\|endoftext\|>⟧\n---/);
    assert.match(stdout, /\nno problems\n$/);
    const quiet = await run('check', file, '--no-samples', ...columns);
    assert.doesNotMatch(quiet.stdout, /Wo|Hier|Anna/);
  });

  it('says what the chat template leaves out, and goes on where that is accepted', async () => {
    const turns = [
      { role: 'user', content: 'Which hall?' },
      { role: 'assistant', content: 'Hall two.', reasoning_content: 'The plan says so.' },
    ];
    const file = await fileWith('a.jsonl', JSON.stringify({ messages: turns }));
    const refused = await run('check', file, '--held-out', '0', '--no-samples');
    assert.equal(refused.exitCode, 1);
    assert.match(
      refused.stdout,
      /problem: .*a.jsonl, line 1: .*leaves out "reasoning_content" of turn 2/,
    );
    assert.doesNotMatch(refused.stdout + refused.stderr, /The plan/);
    const accepted = await run('check', file, '--held-out', '0', '--accept-dropped');
    assert.equal(accepted.exitCode, 0);
    assert.match(accepted.stdout, /assistant\n⟦Hall two\.<\|im_end\|>\n⟧/);
  });

  it('says the first problem, all with --all, and fails', async () => {
    const file = await fileWith('a.jsonl', '{"text":"fine"}\n{"text":1}\n{"text":2}\n');
    const first = await run('check', file, '--held-out', '0');
    assert.equal(first.exitCode, 1);
    assert.match(
      first.stdout,
      /\nproblem: .*line 2: "text" is a number.*\nand 1 more; --all lists up to 20\n$/,
    );
    assert.match(
      first.stderr,
      /^error: 2 problems in the data: training would stop at the first\n$/,
    );
    const all = await run('check', file, '--held-out', '0', '--all');
    assert.match(all.stdout, /\nproblem: .*line 2.*\nproblem: .*line 3.*\n$/);
  });

  it('prints one JSON object with --json', async () => {
    const folder = await scratch.directory();
    await mkdir(join(folder, 'in'));
    await writeFile(join(folder, 'in', 'a.jsonl'), '{"prompt":"a ","completion":"b"}\n');
    await writeFile(join(folder, 'in', 'b.pdf'), '');
    const { stdout } = await run('check', folder, '--held-out', '0', '--json');
    const report = JSON.parse(stdout) as Record<string, unknown>;
    assert.deepEqual(
      [report['records'], report['skipped'], report['sequenceLength']],
      [1, [{ path: join(folder, 'in', 'b.pdf'), reason: 'of an unknown kind' }], 64],
    );
    assert.deepEqual(report['samples'], [
      {
        ...{ file: join(folder, 'in', 'a.jsonl'), line: 1 },
        parts: [
          { text: 'a ', trained: false },
          { text: 'b<|endoftext|>', trained: true },
        ],
      },
    ]);
  });

  it('refuses other words, columns that make no form, and files that are not there', async () => {
    const other = await run('clean', 'a.csv');
    assert.equal(other.exitCode, 2);
    assert.match(
      other.stderr,
      /^error: "clean" is nothing that murmurate data does; give "murmurate data check/,
    );
    const half = await run('check', 'a.csv', '--prompt-column', 'a');
    assert.equal(half.exitCode, 2);
    assert.match(half.stderr, /--prompt-column and --completion-column belong together/);
    const gone = await run('check', 'gone.csv');
    assert.equal(gone.exitCode, 1);
    assert.match(gone.stderr, /gone.csv \(a data file\) does not exist/);
  });
});

describe('docs/DATA.md', () => {
  it('has examples that are read as it says', async () => {
    const doc = await readFile(join(ROOT, 'docs', 'DATA.md'), 'utf8');
    const examples = [...doc.matchAll(/```(csv|json|jsonl|txt)\n(.*?)```/gs)];
    assert.ok(examples.length >= 6);
    const kinds: string[] = [];
    for (const [, kind = '', text = ''] of examples) {
      const file = await fileWith(`example.${kind}`, text);
      const { exitCode, stdout, stderr } = await run('check', file, '--json', '--held-out', '0');
      assert.equal(exitCode, 0, `${text}\n${stderr}`);
      const { byKind, touching } = JSON.parse(stdout) as { byKind: object; touching: number };
      assert.equal(touching, 0);
      kinds.push(...Object.keys(byKind));
    }
    assert.deepEqual([...new Set(kinds)].sort(), ['completion', 'instruction', 'messages', 'text']);
  });
});
