import assert from 'node:assert/strict';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, describe, it } from 'node:test';
import * as fc from 'fast-check';
import { matchesGlob } from '../../../node/data/glob.js';
import { findDataFiles, leftOutText } from '../../../node/data/sources.js';
import { Scratch, userError } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

/** A folder with these files, which hold their own names, but for those with a text. */
async function folderOf(files: readonly string[], texts: Record<string, string> = {}) {
  const folder = await scratch.directory();
  for (const name of [...files, ...Object.keys(texts)]) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), texts[name] ?? `{"text":"${name}"}\n`);
  }
  return folder;
}

/** The files that are read, and what was left out with its reason. */
async function readOf(files: readonly string[], texts: Record<string, string> = {}) {
  const folder = await folderOf(files, texts);
  const sources = await findDataFiles([folder]);
  const inside = (path: string): string => path.slice(folder.length + 1).replaceAll('\\', '/');
  return {
    files: sources.files.map(inside),
    skipped: sources.skipped.map(({ path, reason }) => `${inside(path)}: ${reason}`).sort(),
  };
}

const card = (configs: string): string =>
  `---\nlicense: mit\nconfigs:\n${configs}\n---\n# A card\n`;

describe('a folder as the Hub has it', () => {
  it('is read without what describes it, and names that', async () => {
    const about = [
      'README.md',
      'README_zh.md',
      'LICENSE.txt',
      'license-mit.md',
      'CITATION.txt',
      'CODE_OF_CONDUCT.md',
      'requirements.txt',
      'dataset_info.json',
      'dataset_infos.json',
      'sub/README.md',
      'sub/state.json',
    ];
    const found = await readOf(['a.jsonl', 'sub/licensed-users.md', 'read me.txt', ...about]);
    assert.deepEqual(found.files, ['a.jsonl', 'read me.txt', 'sub/licensed-users.md']);
    assert.deepEqual(
      found.skipped,
      about.map((name) => `${name}: about the data, not data`).sort(),
    );
  });

  it('is trained on by its training split alone, however that is named', async () => {
    const cases: [string[], string[]][] = [
      [['train.jsonl'], ['test.jsonl', 'validation.jsonl', 'dev.csv']],
      [['data/train.jsonl'], ['data/test.jsonl']],
      [
        ['data/train-00000-of-00002.parquet', 'data/train-00001-of-00002.parquet'],
        ['data/test-00000-of-00001.parquet', 'data/validation-00000-of-00001-1a2b3c.parquet'],
      ],
      [
        ['train/a.txt', 'train/b.txt'],
        ['test/a.txt', 'validation/a.txt', 'dev/b.txt'],
      ],
      [['training/a.csv'], ['valid/a.csv', 'testing/a.csv', 'eval/a.csv']],
      [['office_train.csv'], ['office_test.csv', 'office_dev.csv', 'office.val.csv']],
      [['train-v1.1.json'], ['dev-v1.1.json']],
      [['TRAIN.CSV'], ['Test.csv', 'VAL.csv.gz']],
      [
        ['en/train.tsv', 'de/train.tsv'],
        ['en/test.tsv', 'de/dev.tsv'],
      ],
      [['wiki.train.txt'], ['wiki.test.txt', 'wiki.valid.txt']],
      [['data.csv'], ['validation/data.csv', 'test.csv', 'evaluation/1.txt', 'test_1.jsonl']],
      [['train_test_split.csv'], ['test.csv']],
    ];
    for (const [training, others] of cases) {
      const { files, skipped } = await readOf([...others, ...training]);
      assert.deepEqual(files, [...training].sort(), training.join(' '));
      assert.deepEqual(
        skipped.map((line) => line.split(':')[0]),
        [...others].sort(),
      );
      assert.ok(
        skipped.every((line) => /: the (test|validation) split$/.test(line)),
        skipped.join(),
      );
    }
  });

  it('of texts of an office keeps what merely has such a word in its name', async () => {
    const kept = [
      'contest.txt',
      'dev/plan.md',
      'latest.csv',
      'test-report.md',
      'testing of pumps.md',
    ];
    assert.deepEqual((await readOf(kept)).files, kept);
    const beside = ['test-report.md', 'train-2024.csv'];
    assert.deepEqual((await readOf(beside)).files, beside);
  });

  it('is read as the card says', async () => {
    const files = ['a/one.csv', 'a/test.csv', 'b/two.csv', 'three.csv'];
    const cases: [string, string[]][] = [
      ['- config_name: default\n  data_files: a/*.csv', ['a/one.csv', 'a/test.csv']],
      [
        '- config_name: default\n  data_files:\n  - a/one.csv\n  - "**/t[w]o.csv"',
        ['a/one.csv', 'b/two.csv'],
      ],
      [
        '- config_name: default\n  data_files:\n  - split: train\n    path: "a/o*"\n  - split: test\n    path: b/*',
        ['a/one.csv'],
      ],
      [
        '- config_name: default\n  data_files:\n  - split: train_sft\n    path:\n    - ./b\n    - three.csv\n  - split: test_sft\n    path: a/*',
        ['b/two.csv', 'three.csv'],
      ],
      [
        '- config_name: default\n  data_files:\n    train: [b/two.csv]\n    validation: a/*',
        ['b/two.csv'],
      ],
      [
        '- config_name: x\n  data_files: a/*\n- config_name: y\n  default: true\n  data_files: b/*',
        ['b/two.csv'],
      ],
      [
        '- config_name: x\n  data_files: a/one.csv\n- config_name: y\n  data_files: b/*',
        ['a/one.csv'],
      ],
      ['- config_name: default\n  data_dir: a', ['a/one.csv']],
      ['- config_name: default\n  data_dir: ./a/\n  data_files: one.csv', ['a/one.csv']],
      ['- config_name: default', ['a/one.csv', 'b/two.csv', 'three.csv']],
    ];
    for (const [configs, wanted] of cases) {
      const found = await readOf(files, { 'README.md': card(configs) });
      assert.deepEqual(found.files, wanted, configs);
      assert.equal(found.skipped.length, files.length - wanted.length + 1, found.skipped.join());
    }
    const named = await readOf(files, { 'README.md': card(cases[5]![0]) });
    assert.ok(
      named.skipped.some((line) => /"y", the one of 2 configurations that is read/.test(line)),
    );
  });

  it('is refused with the reason where its card names nothing to train on', async () => {
    const refuses = async (configs: string, pattern: RegExp): Promise<void> => {
      const folder = await folderOf(['a.csv'], { 'README.md': card(configs) });
      await assert.rejects(findDataFiles([folder]), userError(pattern));
    };
    await refuses(
      '- config_name: default\n  data_files: data/train-*.parquet',
      /README.md: names files that are not here \(data\/train-\*\.parquet\): download them/,
    );
    await refuses(
      '- config_name: default\n  data_files:\n  - split: test\n    path: a.csv',
      /README.md: names no training split, only "test": name the files/,
    );
    const folder = await folderOf(['test.jsonl', 'README.md', 'x.pdf']);
    await assert.rejects(
      findDataFiles([folder]),
      userError(
        /no data file to train on in it \(3 entries looked at\): README.md is about the data.*name a file itself/,
      ),
    );
    const { files } = await findDataFiles([join(folder, 'test.jsonl'), join(folder, 'README.md')]);
    assert.equal(files.length, 2, 'a file that is named itself is read');
  });

  it('may be one of several in a folder, a cache of links, or have a card without a word on files', async () => {
    const found = await readOf(['one/data/a.csv', 'one/b.csv', 'two/train.csv', 'two/test.csv'], {
      'one/README.md': card('- config_name: default\n  data_files: data/*'),
      'two/README.md': '---\nconfigs: 7\n---\n',
      'README.md': '---\n: [\n---\nNo YAML.\n',
    });
    assert.deepEqual(found.files, ['one/data/a.csv', 'two/train.csv']);
    const cache = await folderOf(['blobs/1a', 'blobs/2b']);
    await mkdir(join(cache, 'snapshots', 'c0'), { recursive: true });
    await symlink(join(cache, 'blobs', '1a'), join(cache, 'snapshots', 'c0', 'train.jsonl'));
    await symlink(join(cache, 'blobs', '2b'), join(cache, 'snapshots', 'c0', 'test.jsonl'));
    const { files } = await findDataFiles([cache]);
    assert.deepEqual(files, [join(cache, 'snapshots', 'c0', 'train.jsonl')]);
  });

  it('is told in one line, by reason', () => {
    const skipped = ['a', 'b', 'c', 'd', 'e'].map((path) => ({ path, reason: 'hidden' }));
    assert.equal(
      leftOutText([...skipped, { path: 'test.csv', reason: 'the test split' }]),
      'a, b, c, d and 1 more (hidden); test.csv (the test split)',
    );
  });
});

describe('a glob pattern', () => {
  it('matches as fsspec has it', () => {
    for (const [pattern, path, isMatch] of [
      ['a/*.csv', 'a/b.csv', true],
      ['a/*.csv', 'a/b/c.csv', false],
      ['**/*.csv', 'b.csv', true],
      ['**/*.csv', 'a/b/c.csv', true],
      ['**/b.csv', 'ab.csv', false],
      ['a/**', 'a/b/c.csv', true],
      ['a/**', 'ab.csv', false],
      ['a/**/c', 'a/c', true],
      ['a-[0-9][0-9]-of-*', 'a-07-of-10', true],
      ['a-[!0-9]', 'a-7', false],
      ['a-[!0-9]', 'a-x', true],
      ['a?c', 'a/c', false],
      ['a.c', 'abc', false],
      ['(a|b)', 'a', false],
      ['', '', true],
    ] as const) {
      assert.equal(matchesGlob(pattern, path), isMatch, `${pattern} ${path}`);
    }
  });

  it('is its own match without special characters, and takes its time in proportion', () => {
    fc.assert(
      fc.property(
        fc.string().filter((s) => !/[*?[\]]/.test(s)),
        (name) => matchesGlob(name, name),
      ),
    );
    const startMs = performance.now();
    assert.equal(matchesGlob('*a'.repeat(400) + 'b', 'a'.repeat(2_000)), false);
    assert.ok(performance.now() - startMs < 2_000);
  });
});
