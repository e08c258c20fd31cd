/** Writes the generated module of protocol/kernels. Runs from dist/test/support. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { compileKernels, GENERATED } from './compile-kernels.js';

const root = path.resolve(import.meta.dirname, '../../..');
await writeFile(path.join(root, GENERATED), await compileKernels(root));
