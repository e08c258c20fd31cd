/** Reading data takes as much memory for a large file as for a small one, in every format of text. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';

const READER = join(import.meta.dirname, 'read-data.js');
/** Records of a small file and of a large one, each of some 500 bytes. */
const [FEW, MANY] = [2_000, 80_000];
/** The large files have 200 MB together; what the garbage collector lets lie is much less. */
const DIFFERENCE_KIB_MAX = 48 * 1024;
const HEAP_MIB = 48;

const sentence = 'The kettle sang before the rain began, and nobody in the house took any notice. ';
const textOf = (i: number): string => `${i}: ${sentence.repeat(6)}`;

async function writeAll(dir: string, count: number): Promise<string[]> {
  const texts = Array.from({ length: count }, (_, i) => textOf(i));
  const lines = texts.map((text) => JSON.stringify({ text })).join('\n');
  const contents = {
    'a.jsonl': lines,
    'a.jsonl.gz': gzipSync(lines, { level: 1 }),
    'a.json': `[${texts.map((text) => JSON.stringify({ text })).join(',\n')}]`,
    'a.csv': ['text', ...texts.map((text) => `"${text}"`)].join('\n'),
    'a.txt': texts.join('\n\n'),
  };
  const files: string[] = [];
  for (const [name, content] of Object.entries(contents)) {
    const file = join(dir, `${count}-${name}`);
    await writeFile(file, content);
    files.push(file);
  }
  return files;
}

describe('memory of reading data', { skip: process.platform !== 'linux' }, () => {
  let dir = '';
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'murmurate-data-memory-'));
  });
  after(() => rm(dir, { recursive: true, force: true }));

  async function peakOf(count: number): Promise<number> {
    const files = await writeAll(dir, count);
    const args = [`--max-old-space-size=${HEAP_MIB}`, READER, ...files];
    const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 120_000 });
    const { records, peakKiB } = JSON.parse(stdout) as { records: number; peakKiB: number };
    assert.ok(records >= 4 * count, `${records} records`);
    return peakKiB;
  }

  it('does not grow with the file', async () => {
    const [small, large] = [await peakOf(FEW), await peakOf(MANY)];
    assert.ok(
      large - small < DIFFERENCE_KIB_MAX,
      `${small} KiB, and ${large} KiB for forty times the data`,
    );
  });
});
