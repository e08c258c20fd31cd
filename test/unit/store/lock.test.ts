import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, rmdir, utimes, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { UserError } from '../../../node/errors.js';
import { lockDirectory } from '../../../node/store/lock.js';

const made: string[] = [];
const extension = fileURLToPath(import.meta.url).endsWith('.ts') ? 'ts' : 'js';
const lockModule = new URL(`../../../node/store/lock.${extension}`, import.meta.url).href;

async function newDirectory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'murmurate-lock-'));
  made.push(path);
  return path;
}

after(async () => {
  for (const path of made) await rm(path, { recursive: true, force: true });
});

/** A process that holds the lock of `path` until it is killed; resolves once it has it. */
async function holder(path: string): Promise<{ pid: number; kill(): Promise<void> }> {
  const script =
    `const { lockDirectory } = await import(${JSON.stringify(lockModule)});` +
    `await lockDirectory(${JSON.stringify(path)});` +
    `process.stdout.write('locked'); setInterval(() => undefined, 1000);`;
  const loader = extension === 'ts' ? ['--import', 'tsx'] : [];
  const child = spawn(process.execPath, [...loader, '--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data', { signal: AbortSignal.timeout(20_000) });
  assert.ok(child.pid !== undefined);
  return {
    pid: child.pid,
    kill: async () => {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/** Boot, pid namespace and start time of this process, as a holder leaves them. */
async function ownToken(): Promise<string> {
  const path = await newDirectory();
  const lock = await lockDirectory(path);
  const owner = JSON.parse(await readFile(join(path, 'owner.json'), 'utf8')) as {
    processToken: string;
  };
  await lock.release();
  return owner.processToken;
}

describe('lockDirectory()', () => {
  it('refuses a directory that a living process holds, naming its pid and what to do', async () => {
    const path = await newDirectory();
    const other = await holder(path);
    try {
      await assert.rejects(lockDirectory(path), (error) => {
        assert.ok(error instanceof UserError);
        assert.equal(
          error.message,
          `${path} is in use by process ${other.pid}; stop that process or give this peer its own directory with --dir`,
        );
        return true;
      });
    } finally {
      await other.kill();
    }
  });

  it('takes a directory over at once after a kill -9 of its holder', async () => {
    const path = await newDirectory();
    await (await holder(path)).kill();
    const startMs = performance.now();
    const lock = await lockDirectory(path);
    // The abandoned lock itself would be respected for 10 seconds.
    assert.ok(performance.now() - startMs < 8_000);
    await lock.release();
  });

  it('gives the directory to one of several that ask together after a kill -9', async () => {
    const path = await newDirectory();
    await (await holder(path)).kill();
    const results = await Promise.allSettled([1, 2, 3].map(() => lockDirectory(path)));
    const locks = results.filter((result) => result.status === 'fulfilled');
    assert.equal(locks.length, 1);
    await locks[0]?.value.release();
  });

  it('is not fooled by another process that has got the pid of the dead owner', async (t) => {
    if (process.platform !== 'linux') {
      t.skip('needs /proc');
      return;
    }
    const path = await newDirectory();
    const token = await ownToken();
    const earlier = token.replace(/\d+$/, '1');
    assert.notEqual(earlier, token);
    const owner = { pid: process.pid, host: hostname(), processToken: earlier };
    await writeFile(join(path, 'owner.json'), JSON.stringify(owner));
    await mkdir(join(path, 'lock'));
    const startMs = performance.now();
    await (await lockDirectory(path)).release();
    assert.ok(performance.now() - startMs < 8_000);
  });

  it('waits until the lock is stale where its owner is of another container of the same host name', async (t) => {
    if (process.platform !== 'linux') {
      t.skip('needs /proc');
      return;
    }
    const path = await newDirectory();
    const elsewhere = (await ownToken()).replace(/pid:\[\d+\]/, 'pid:[1]');
    // No process of that number is here; there it may well live.
    const owner = { pid: 2 ** 22 + 1, host: hostname(), processToken: elsewhere };
    await writeFile(join(path, 'owner.json'), JSON.stringify(owner));
    await mkdir(join(path, 'lock'));
    const staleIn3s = Date.now() / 1000 - 7;
    await utimes(join(path, 'lock'), staleIn3s, staleIn3s);
    const startMs = performance.now();
    await (await lockDirectory(path)).release();
    assert.ok(performance.now() - startMs > 1_500);
  });

  it('can be taken again after release(), which may be called twice', async () => {
    const path = await newDirectory();
    const first = await lockDirectory(path);
    await assert.rejects(lockDirectory(path), UserError);
    await first.release();
    await first.release();
    await (await lockDirectory(path)).release();
  });

  it('does not trust an owner file that is cut off', async () => {
    const path = await newDirectory();
    await writeFile(join(path, 'owner.json'), '{"pid": 1');
    const lock = await lockDirectory(path);
    const owner = JSON.parse(await readFile(join(path, 'owner.json'), 'utf8')) as { pid: number };
    assert.equal(owner.pid, process.pid);
    await lock.release();
  });

  it('takes over from a holder that was killed before it left its name', async () => {
    const path = await newDirectory();
    await mkdir(join(path, 'lock'));
    const almostStale = Date.now() / 1000 - 8;
    await utimes(join(path, 'lock'), almostStale, almostStale);
    await (await lockDirectory(path)).release();
  });

  it('is free again when the disk refused its name', async () => {
    const path = await newDirectory();
    await mkdir(join(path, 'owner.json.tmp'));
    await assert.rejects(
      lockDirectory(path),
      /^StoreUnavailableError: cannot write .*owner.json: /,
    );
    await rmdir(join(path, 'owner.json.tmp'));
    await (await lockDirectory(path)).release();
  });

  it('says why when the directory cannot be written', async () => {
    const path = join(await newDirectory(), 'missing');
    await assert.rejects(lockDirectory(path), /^StoreUnavailableError: cannot lock .*missing: /);
  });

  it('says so when another process has taken the directory from one that stood still', async () => {
    const path = await newDirectory();
    let sentence = '';
    await lockDirectory(path, (text) => (sentence = text));
    // What a takeover leaves behind: another owner, and a lock that was touched at another time.
    const owner = { pid: 4242, host: 'elsewhere', processToken: null };
    await writeFile(join(path, 'owner.json'), JSON.stringify(owner));
    await utimes(join(path, 'lock'), 1_000, 1_000);
    // The lock looks at its directory every few seconds.
    const endMs = performance.now() + 30_000;
    while (sentence === '' && performance.now() < endMs) await delay(100);
    assert.equal(sentence, `process 4242 on elsewhere has taken over ${path}; this peer stops`);
  });
});
