/** Chat templates against Jinja itself, with the environment that Transformers makes for them. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parseExactly } from '../../node/data/exact-json.js';
import { compileJinja } from '../../node/data/jinja.js';
import { ROOT } from '../unit/model/fixtures.js';

interface Reference {
  /** JSON text, with numbers that JavaScript would write in another way. */
  variables: string;
  now: string;
  /** A template, and the text that Python makes of it; null where Python refuses it. */
  cases: [source: string, text: string | null][];
}

const path = join(ROOT, 'test', 'reference', 'jinja.json');
const reference = JSON.parse(await readFile(path, 'utf8')) as Reference;

describe('a template makes the text that Python makes of it', () => {
  const variables = parseExactly(reference.variables) as Record<string, unknown>;
  const rendered = (source: string): string | null => {
    try {
      return compileJinja(source, () => new Date(reference.now)).render(variables).text;
    } catch (error) {
      assert.ok(error instanceof Error, String(error));
      return null;
    }
  };

  it(`of all ${reference.cases.length} in the reference`, () => {
    assert.ok(reference.cases.length >= 690, 'the reference is whole');
    const others = reference.cases
      .map(([source, expected]) => ({ source, expected, text: rendered(source) }))
      .filter(({ expected, text }) => expected !== text);
    assert.deepEqual(others, []);
  });
});
