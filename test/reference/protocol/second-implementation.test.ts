/** A second implementation, in Python and written from docs/PROTOCOL.md, agrees with every vector. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { VECTORS_FILE } from './vectors.js';

const SCRIPT = join(dirname(VECTORS_FILE), 'second_implementation.py');
const DOCUMENT = join(dirname(VECTORS_FILE), '../../../docs/PROTOCOL.md');
const TIMEOUT_MS = 60_000;

const hasPython = spawnSync('python3', ['--version'], { timeout: TIMEOUT_MS }).status === 0;
const options = hasPython ? {} : { skip: 'python3 is not installed' };

function run(vectorsFile: string): { status: number | null; output: string } {
  const result = spawnSync('python3', [SCRIPT, vectorsFile, DOCUMENT], {
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
  });
  return { status: result.status, output: result.stdout + result.stderr };
}

/** Runs the script on vectors of which `change` altered the text. */
async function runChanged(
  context: TestContext,
  change: (text: string) => string,
): Promise<ReturnType<typeof run>> {
  const dir = await mkdtemp(join(tmpdir(), 'murmurate-vectors-'));
  context.after(() => rm(dir, { recursive: true }));
  const text = await readFile(VECTORS_FILE, 'utf8');
  const changed = change(text);
  assert.notEqual(changed, text, 'the vectors hold what this test changes');
  const file = join(dir, 'vectors.json');
  await writeFile(file, changed);
  return run(file);
}

describe('the second implementation', options, () => {
  it('recomputes every section of vectors.json', async () => {
    const sections = Object.keys(JSON.parse(await readFile(VECTORS_FILE, 'utf8')) as object);
    const { status, output } = run(VECTORS_FILE);
    assert.equal(status, 0, output);
    for (const section of sections) assert.match(output, new RegExp(`^agrees: ${section}$`, 'm'));
  });

  it('tells when a folded adapter is another', async (context) => {
    const { status, output } = await runChanged(context, (text) => {
      const start = text.lastIndexOf('"adapterSha256": "') + '"adapterSha256": "'.length;
      return text.slice(0, start) + (text[start] === '0' ? '1' : '0') + text.slice(start + 1);
    });
    assert.equal(status, 1, output);
    assert.match(output, /^the folded adapter is .* vectors\.json says/m);
  });

  it('tells when one random number is another', async (context) => {
    const { status, output } = await runChanged(context, (text) =>
      text.replace(/("uint32": \[\s*)(\d)/, (_, before: string, digit: string) => {
        return before + String((Number(digit) % 9) + 1);
      }),
    );
    assert.equal(status, 1, output);
    assert.match(output, /^uint32 is /m);
  });
});
