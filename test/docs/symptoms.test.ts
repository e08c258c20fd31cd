import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, it } from 'node:test';
import { PACKAGE_DIRECTORY } from '../../node/version.js';

/** All sentences of the program: its sources, with texts that are put together of several lines in one piece. */
async function sentences(): Promise<string> {
  const folder = path.join(PACKAGE_DIRECTORY, 'node');
  const names = (await readdir(folder, { recursive: true })).filter((name) => name.endsWith('.ts'));
  const sources = await Promise.all(names.map((name) => readFile(path.join(folder, name), 'utf8')));
  return sources.join('\n').replaceAll(/['"`] \+\s*['"`]/g, '');
}

describe('docs/TROUBLESHOOTING.md', () => {
  it('quotes what the program really says', async () => {
    const said = await sentences();
    const text = await readFile(path.join(PACKAGE_DIRECTORY, 'docs/TROUBLESHOOTING.md'), 'utf8');
    const symptoms = text.split('\n').flatMap((line) => /^\| (.*?) \|/.exec(line)?.[1] ?? []);
    const quotes = symptoms.flatMap((cell) =>
      [...cell.matchAll(/\*([^*]+)\*/g)].map(([, quote = '']) => quote),
    );
    assert.ok(quotes.length > 12);
    // "..." stands for what differs.
    const pieces = quotes.flatMap((quote) =>
      quote.split(/ ?\.\.\. ?/).filter((piece) => piece !== ''),
    );
    assert.deepEqual(
      pieces.filter((piece) => !said.includes(piece)),
      [],
    );
  });
});
