/** Writes vectors.json again. Only for a new protocol version, or for vectors that were not there before. */
import { writeFile } from 'node:fs/promises';
import { makeVectors, VECTORS_FILE } from './vectors.js';

await writeFile(VECTORS_FILE, `${JSON.stringify(makeVectors(), null, 2)}\n`);
