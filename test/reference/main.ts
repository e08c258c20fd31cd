/**
 * npm run reference -- DIR...: compares the engine with directories made by make_fixtures.py and prints
 * the largest differences; exit code 1 when one is beyond its bound, 2 without a directory.
 */
import { BOUNDS, compareWithReference, MEASURES } from './compare.js';

const directories = process.argv.slice(2);
if (directories.length === 0) {
  process.stderr.write('give one or more directories made by test/reference/make_fixtures.py\n');
  process.exitCode = 2;
}
for (const dir of directories) {
  process.stdout.write(`${dir}\n`);
  try {
    const differences = await compareWithReference(dir);
    for (const measure of MEASURES) {
      const passes = differences[measure] <= BOUNDS[measure];
      if (!passes) process.exitCode = 1;
      const [difference, bound] = [differences[measure], BOUNDS[measure]].map((value) =>
        value.toExponential(1),
      );
      process.stdout.write(
        `  ${passes ? 'ok  ' : 'FAIL'} ${difference} (at most ${bound}) ${measure}\n`,
      );
    }
  } catch (error) {
    process.exitCode = 1;
    process.stdout.write(`  FAIL ${error instanceof Error ? error.message : String(error)}\n`);
  }
}
