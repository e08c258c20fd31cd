/**
 * npm run reference -- [--device cpu|tfjs|...] DIR...: compares the engine with directories made by
 * make_fixtures.py and prints the largest differences; exit code 1 when one is beyond its bound, 2 for
 * wrong usage.
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { DEVICES, type Device } from '../../node/engine/devices.js';
import type { Executor } from '../../node/engine/executor.js';
import { openExecutor } from '../../node/engine/open-executor.js';
import { BOUNDS, compareWithReference, MEASURES } from './compare.js';

/** What the command line asks for, or what is wrong with it. */
function readArguments(): { device: Device; directories: string[] } | string {
  const options = { device: { type: 'string', default: 'cpu' } } as const;
  try {
    const { values, positionals } = parseArgs({ options, allowPositionals: true });
    const device = DEVICES.find((name) => name === values.device);
    if (device === undefined) {
      return `device "${values.device}" is unknown: give ${DEVICES.join(' or ')}`;
    }
    if (positionals.length > 0) return { device, directories: positionals };
    return 'give one or more directories made by test/reference/make_fixtures.py';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function compare(dir: string, executor: Executor): Promise<void> {
  process.stdout.write(`${dir}\n`);
  try {
    const differences = await compareWithReference(dir, executor);
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

const wanted = readArguments();
if (typeof wanted === 'string') {
  process.stderr.write(`${wanted}\n`);
  process.exitCode = 2;
} else {
  const executor = await openExecutor({ device: wanted.device, threads: availableParallelism() });
  process.stdout.write(`on ${executor.device}\n`);
  for (const dir of wanted.directories) await compare(dir, executor);
}
