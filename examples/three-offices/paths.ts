/** Where the example finds its data and the program, from the sources and from dist/ alike. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of package.json. */
export const PACKAGE_ROOT = packageRoot(dirname(fileURLToPath(import.meta.url)));

/** Data files: <office>.jsonl. */
export const DATA_DIRECTORY = join(PACKAGE_ROOT, 'examples', 'three-offices', 'data');

/** The compiled command line, as `npx murmurate` starts it. */
export const COMMAND_LINE = join(PACKAGE_ROOT, 'dist', 'node', 'main.js');

function packageRoot(directory: string): string {
  if (existsSync(join(directory, 'package.json'))) return directory;
  const parent = dirname(directory);
  // The file system's root has no package.json of ours: keep the name that was looked for.
  return parent === directory ? directory : packageRoot(parent);
}
