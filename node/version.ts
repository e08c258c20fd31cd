/** The version of this program, from its package.json. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { UserError } from './errors.js';

/** Directory that holds package.json and models/, from dist/node/ as well as from node/. */
export const PACKAGE_DIRECTORY = findPackage(dirname(fileURLToPath(import.meta.url)));

/** Directory of the embedded base model. */
export const EMBEDDED_MODEL_DIRECTORY = join(PACKAGE_DIRECTORY, 'models', 'tiny-base');

/** E.g. "0.1.0". */
export const VERSION = z
  .object({ version: z.string() })
  .parse(JSON.parse(readFileSync(join(PACKAGE_DIRECTORY, 'package.json'), 'utf8'))).version;

function findPackage(start: string): string {
  let directory = start;
  while (!existsSync(join(directory, 'package.json'))) {
    const parent = dirname(directory);
    if (parent === directory) {
      throw new UserError(`no package.json above ${start}: install murmurate again`);
    }
    directory = parent;
  }
  return directory;
}
