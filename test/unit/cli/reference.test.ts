import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import '../../../node/net/polyfill.js';
import { VERBS } from '../../../node/cli/verbs.js';
import { flagOf } from '../../../node/config.js';
import { parseConfigFile } from '../../../node/config/file.js';
import { Sources, variables } from '../../../node/config/sources.js';
import { PACKAGE_DIRECTORY } from '../../../node/version.js';
import { cliReference } from '../../docs/cli-reference.js';

describe('docs/CLI.md', () => {
  it('is what the option objects give; else run npm run generate:cli', async () => {
    const written = await readFile(join(PACKAGE_DIRECTORY, 'docs', 'CLI.md'), 'utf8');
    assert.ok(written === cliReference(VERBS), 'docs/CLI.md is out of date: npm run generate:cli');
  });

  it('has a section for every verb, with each of its options', () => {
    const sections = cliReference(VERBS)
      .split(/^## murmurate /m)
      .slice(1);
    assert.equal(sections.length, VERBS.length);
    for (const [i, { name, options }] of VERBS.entries()) {
      assert.ok(sections[i]?.startsWith(`${name}\n`));
      for (const option of Object.keys(options)) {
        assert.match(sections[i] ?? '', new RegExp(`^\\| \`${flagOf(option)}[ \`]`, 'm'));
      }
    }
  });

  it('shows a config file that is one', () => {
    const [, yaml = ''] = /^```yaml\n(.*?)^```$/ms.exec(cliReference(VERBS)) ?? [];
    const file = parseConfigFile(yaml, 'murmurate.yaml');
    assert.equal(file.settings.length + file.sections.length, 5);
    assert.ok(new Sources(VERBS, file, {}));
  });

  it('names only variables that are read', () => {
    const known = new Set([...variables(VERBS).keys(), 'MURMURATE_CONFIG', 'MURMURATE_']);
    const named = cliReference(VERBS).match(/MURMURATE_\w*/g) ?? [];
    assert.deepEqual(
      named.filter((name) => !known.has(name)),
      [],
    );
  });
});
