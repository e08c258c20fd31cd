import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { freemem, totalmem } from 'node:os';
import { describe, it } from 'node:test';
import {
  freeMemory,
  outOfMemoryKills,
  type ReadSystemFile,
} from '../../../node/train/free-memory.js';

const GB = 2 ** 30;

/** A system with these files. */
function system(files: Record<string, string>): ReadSystemFile {
  return (path) => files[path] ?? null;
}

const MEMINFO = 'MemTotal:       16777216 kB\nMemFree: 100 kB\nMemAvailable:    8388608 kB\n';

describe('freeMemory', () => {
  it('is what Linux calls available, without a limit or below one', () => {
    assert.equal(freeMemory(system({ '/proc/meminfo': MEMINFO })), 8 * GB);
    const roomy = {
      '/proc/meminfo': MEMINFO,
      '/proc/self/cgroup': '0::/\n',
      '/sys/fs/cgroup/memory.max': `${32 * GB}\n`,
      '/sys/fs/cgroup/memory.current': `${GB}\n`,
    };
    assert.equal(freeMemory(system(roomy)), 8 * GB);
    const unlimited = { ...roomy, '/sys/fs/cgroup/memory.max': 'max\n' };
    assert.equal(freeMemory(system(unlimited)), 8 * GB);
  });

  it('is what the tightest control group leaves, without the pages of files that it can drop', () => {
    const files = {
      '/proc/meminfo': MEMINFO,
      '/proc/self/cgroup': '0::/peers/one\n',
      '/sys/fs/cgroup/peers/one/memory.max': 'max\n',
      '/sys/fs/cgroup/peers/one/memory.current': `${GB}\n`,
      '/sys/fs/cgroup/peers/memory.max': `${4 * GB}\n`,
      '/sys/fs/cgroup/peers/memory.current': `${3 * GB}\n`,
      '/sys/fs/cgroup/peers/memory.stat': `anon 5\nfile ${9 * GB}\ninactive_file ${GB}\nactive_file ${GB / 2}\n`,
    };
    assert.equal(freeMemory(system(files)), 2.5 * GB);
    const full = { ...files, '/sys/fs/cgroup/peers/memory.current': `${9 * GB}\n` };
    assert.equal(freeMemory(system(full)), 0);
  });

  it('counts weights that this process has mapped as free, however often they are read', () => {
    const files = {
      '/proc/meminfo': MEMINFO,
      '/proc/self/cgroup': '0::/\n',
      '/sys/fs/cgroup/memory.max': `${4 * GB}\n`,
      '/sys/fs/cgroup/memory.current': `${4 * GB}\n`,
      '/sys/fs/cgroup/memory.stat': `anon ${GB}\nfile ${3 * GB}\ninactive_file 0\nactive_file ${3 * GB}\n`,
    };
    assert.equal(freeMemory(system(files)), 3 * GB);
  });

  it('ends where a control group of the second version is slowed down', () => {
    const files = {
      '/proc/meminfo': MEMINFO,
      '/proc/self/cgroup': '0::/\n',
      '/sys/fs/cgroup/memory.max': `${6 * GB}\n`,
      '/sys/fs/cgroup/memory.high': `${4 * GB}\n`,
      '/sys/fs/cgroup/memory.current': `${GB}\n`,
    };
    assert.equal(freeMemory(system(files)), 3 * GB);
  });

  it('knows control groups of the first version, also where a container sees its own at the root', () => {
    const files = {
      '/proc/meminfo': MEMINFO,
      '/proc/self/cgroup': '5:cpu,cpuacct:/\n4:memory:/docker/3f1c\n0::/\n',
      '/sys/fs/cgroup/memory/memory.limit_in_bytes': `${3 * GB}\n`,
      '/sys/fs/cgroup/memory/memory.usage_in_bytes': `${2 * GB}\n`,
      '/sys/fs/cgroup/memory/memory.stat': `inactive_file 1\ntotal_inactive_file ${GB / 4}\ntotal_active_file ${GB / 4}\n`,
    };
    assert.equal(freeMemory(system(files)), 1.5 * GB);
    const unlimited = '9223372036854771712\n';
    const open = { ...files, '/sys/fs/cgroup/memory/memory.limit_in_bytes': unlimited };
    assert.equal(freeMemory(system(open)), 8 * GB);
  });

  it('is all of the memory where the system does not say, and a sound number here', () => {
    assert.equal(freeMemory(system({})), totalmem());
    const free = freeMemory();
    assert.ok(free > 0 && free <= totalmem());
    // Others take and give memory between the two readings.
    if (existsSync('/proc/meminfo')) assert.ok(free < freemem() + GB);
  });
});

describe('outOfMemoryKills', () => {
  it('is the count of the kernel, null where nobody counts', () => {
    assert.equal(outOfMemoryKills(system({ '/proc/vmstat': 'pgfault 9\noom_kill 3\n' })), 3);
    assert.equal(outOfMemoryKills(system({})), null);
  });
});
