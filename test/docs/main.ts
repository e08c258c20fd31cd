/** npm run generate:cli: writes docs/CLI.md. */
import '../../node/net/polyfill.js';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { VERBS } from '../../node/cli/verbs.js';
import { PACKAGE_DIRECTORY } from '../../node/version.js';
import { cliReference } from './cli-reference.js';

await writeFile(join(PACKAGE_DIRECTORY, 'docs', 'CLI.md'), cliReference(VERBS));
