/** A machine whose clock is wrong: libfaketime moves the clock of one process and its children, and no other. */
import { existsSync, readdirSync } from 'node:fs';

/** Debian's package libfaketime puts it below the folder of the architecture. */
function library(): string {
  const found = readdirSync('/usr/lib')
    .map((name) => `/usr/lib/${name}/faketime/libfaketimeMT.so.1`)
    .find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new Error('libfaketime is not installed: it makes the clocks of the chaos run wrong');
}

/**
 * What to put before a command so that its clock is `offsetMs` ahead of the true time. Timers and
 * performance.now() run as ever; the times of files, which the kernel writes, stay true.
 */
export function clockPrefix(offsetMs: number): string[] {
  if (offsetMs === 0) return [];
  const offset = `${offsetMs > 0 ? '+' : ''}${(offsetMs / 1000).toFixed(3)}s`;
  return [
    'env',
    `LD_PRELOAD=${library()}`,
    `FAKETIME=${offset}`,
    'FAKETIME_DONT_FAKE_MONOTONIC=1',
    'NO_FAKE_STAT=1',
  ];
}
