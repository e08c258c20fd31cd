/** Writes the generated modules of the kernels. Runs from dist/test/support. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { compileKernel, KERNELS } from './compile-kernels.js';

const root = path.resolve(import.meta.dirname, '../../..');
for (const kernel of KERNELS) {
  await writeFile(path.join(root, kernel.generated), await compileKernel(root, kernel));
}
