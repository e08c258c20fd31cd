/** How much memory this process may still take, as the machine and its container say. */
import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { dirname, join } from 'node:path';

/** A file of the system as text; null where there is none. */
export type ReadSystemFile = (path: string) => string | null;

/** A cgroup without a limit shows one near 2^63. */
const LIMIT_BYTES_MAX = 2 ** 60;

/**
 * Bytes that can be had without swapping: on Linux MemAvailable, or what the limits of the control groups
 * (containers, systemd) leave when that is less; pages of files that a group holds can be given back.
 * Elsewhere all of the machine's memory, for what other systems call free says little.
 */
export function freeMemory(read: ReadSystemFile = readSystemFile): number {
  const available = /^MemAvailable:\s+(\d+) kB$/m.exec(read('/proc/meminfo') ?? '')?.[1];
  if (available === undefined) return totalmem();
  return Math.min(Number(available) * 1024, ...groupRooms(read));
}

/** Room in each memory control group around this process, versions 1 and 2. */
function groupRooms(read: ReadSystemFile): number[] {
  const rooms: number[] = [];
  for (const line of (read('/proc/self/cgroup') ?? '').split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (path === undefined) continue;
    const isSecond = controllers === '';
    if (!isSecond && !controllers?.split(',').includes('memory')) continue;
    const root = isSecond ? '/sys/fs/cgroup' : '/sys/fs/cgroup/memory';
    // A container sees its own group at the root, whatever path it is told.
    for (let at = path; ; at = dirname(at)) {
      rooms.push(isSecond ? secondRoom(read, join(root, at)) : firstRoom(read, join(root, at)));
      if (at === '/') break;
    }
  }
  return rooms;
}

function secondRoom(read: ReadSystemFile, group: string): number {
  return room(
    read(join(group, 'memory.max')),
    read(join(group, 'memory.current')),
    /^inactive_file (\d+)$/m.exec(read(join(group, 'memory.stat')) ?? '')?.[1],
  );
}

function firstRoom(read: ReadSystemFile, group: string): number {
  return room(
    read(join(group, 'memory.limit_in_bytes')),
    read(join(group, 'memory.usage_in_bytes')),
    /^total_inactive_file (\d+)$/m.exec(read(join(group, 'memory.stat')) ?? '')?.[1],
  );
}

/** Infinity where there is no limit ("max", a huge number, or no such file). */
function room(limit: string | null, usage: string | null, files = '0'): number {
  const bytes = Number(limit?.trim() || NaN);
  if (usage === null || !(bytes < LIMIT_BYTES_MAX)) return Infinity;
  return Math.max(0, bytes - Number(usage) + Number(files));
}

/**
 * How many processes the kernel has killed for want of memory since the machine started; null where it
 * does not say (systems other than Linux).
 */
export function outOfMemoryKills(read: ReadSystemFile = readSystemFile): number | null {
  const kills = /^oom_kill (\d+)$/m.exec(read('/proc/vmstat') ?? '')?.[1];
  return kills === undefined ? null : Number(kills);
}

function readSystemFile(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
