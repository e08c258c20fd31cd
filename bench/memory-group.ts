/**
 * A memory control group (Linux, root) that this process and what it starts from then on run in, with a limit below
 * which the kernel keeps them by dropping pages of files.
 */
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../node/errors.js';

const ROOT = '/sys/fs/cgroup';

/** Where groups lie, and what their limit is called, in version 2 or 1 of control groups. */
function hierarchy(): { root: string; limit: string; isSecond: boolean } {
  if (existsSync(join(ROOT, 'cgroup.controllers'))) {
    return { root: ROOT, limit: 'memory.max', isSecond: true };
  }
  return { root: join(ROOT, 'memory'), limit: 'memory.limit_in_bytes', isSecond: false };
}

export class MemoryGroup {
  readonly #group: string;
  readonly #root: string;

  /** Throws UserError where the system does not allow it. */
  constructor(limitBytes: number) {
    const { root, limit, isSecond } = hierarchy();
    this.#root = root;
    this.#group = join(root, `murmurate-bench-${process.pid}`);
    try {
      if (isSecond) writeFileSync(join(root, 'cgroup.subtree_control'), '+memory');
      mkdirSync(this.#group);
      writeFileSync(join(this.#group, limit), String(limitBytes));
      writeFileSync(join(this.#group, 'cgroup.procs'), String(process.pid));
    } catch (cause) {
      throw new UserError(
        `no memory control group can be made in ${root}: run this as root on Linux, or where the limit is set from outside (a container with --memory), leave --limit away`,
        undefined,
        { cause },
      );
    }
  }

  /** Page faults so far that had to read from the disk. */
  majorFaults(): number {
    const stat = readFileSync(join(this.#group, 'memory.stat'), 'utf8');
    return Number(/^pgmajfault (\d+)$/m.exec(stat)?.[1]);
  }

  end(): void {
    writeFileSync(join(this.#root, 'cgroup.procs'), String(process.pid));
    rmdirSync(this.#group);
  }
}

/**
 * Has the kernel drop what it holds of the files in `dir`: pages that another group brought in would not count against
 * this one.
 */
export function dropFromCache(dir: string): void {
  for (const file of readdirSync(dir)) {
    execFileSync('dd', [`if=${join(dir, file)}`, 'iflag=nocache', 'count=0', 'status=none']);
  }
}

/** Bytes that the process has had read from disks so far. */
export function bytesReadFromDisk(pid: number): number {
  return Number(/^read_bytes: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1]);
}

/** Ticks a second in which Linux tells processor time, on every architecture that Node runs on. */
const TICKS = 100;

/** Processor time of all threads of the process so far, in seconds. */
export function cpuSeconds(pid: number): number {
  // The name before may hold blanks and brackets.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}
