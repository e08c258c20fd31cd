/** How much memory this process may still take, as the machine and its container say. */
import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { dirname, join } from 'node:path';

/** A file of the system as text; null where there is none. */
export type ReadSystemFile = (path: string) => string | null;

/** A cgroup without a limit shows one near 2^63. */
const LIMIT_BYTES_MAX = 2 ** 60;

/**
 * Bytes available without swapping. On Linux: MemAvailable, or what the limits of the control groups
 * (containers, systemd) leave, if that is less. Pages of files count as free, a model's mapped weights
 * included: the kernel drops them when it needs room. Elsewhere all of the machine's memory, because what
 * other systems call free says little.
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
  const of = (name: string): string | null => read(join(group, name));
  // Above memory.high the kernel slows a group down until it is almost still.
  const limit = Math.min(limitIn(of('memory.max')), limitIn(of('memory.high')));
  return room(limit, of('memory.current'), of('memory.stat'), '');
}

function firstRoom(read: ReadSystemFile, group: string): number {
  const of = (name: string): string | null => read(join(group, name));
  const limit = limitIn(of('memory.limit_in_bytes'));
  // The usage of a group includes the groups below it; so do the counts that begin with total_.
  return room(limit, of('memory.usage_in_bytes'), of('memory.stat'), 'total_');
}

/** Infinity where there is no limit: "max", a huge number, or no such file. */
function limitIn(text: string | null): number {
  const bytes = Number(text?.trim() || NaN);
  return bytes < LIMIT_BYTES_MAX ? bytes : Infinity;
}

function room(limit: number, usage: string | null, stat: string | null, prefix: string): number {
  if (usage === null || limit === Infinity) return Infinity;
  // Not "file" or "cache": those include shared memory and tmpfs, which can't be dropped.
  const dropped = ['inactive_file', 'active_file'].reduce((sum, name) => {
    const [, bytes = '0'] = new RegExp(`^${prefix}${name} (\\d+)$`, 'm').exec(stat ?? '') ?? [];
    return sum + Number(bytes);
  }, 0);
  return Math.max(0, limit - Math.max(0, Number(usage) - dropped));
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
