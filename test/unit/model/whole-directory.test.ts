import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { ABANDONED_MS, writeWholeDirectory } from '../../../node/model/whole-directory.js';
import { Scratch } from './fixtures.js';

const scratch = new Scratch();
const children: ChildProcess[] = [];
after(async () => {
  for (const child of children) child.kill('SIGKILL');
  await scratch.remove();
});

const MODULE = new URL('../../../node/model/whole-directory.js', import.meta.url).href;

/** A process that has written half of `place` and goes on for ever. */
async function writerOf(place: string): Promise<ChildProcess> {
  const program = `
    const { writeWholeDirectory } = await import(${JSON.stringify(MODULE)});
    const { writeFile } = await import('node:fs/promises');
    await writeWholeDirectory(${JSON.stringify(place)}, async (dir) => {
      await writeFile(dir + '/weights', 'half');
      process.stdout.write('half');
      await new Promise(() => setInterval(() => undefined, 1000));
    });`;
  const args = [...process.execArgv, '--input-type=module', '--eval', program];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  await once(child.stdout, 'data');
  return child;
}

const write = (dir: string): Promise<void> => writeFile(join(dir, 'weights'), 'whole');

describe('writeWholeDirectory', () => {
  it('removes what a process left that was killed while it wrote there, and nothing while it lives', async () => {
    const parent = await scratch.directory();
    const place = join(parent, 'merged');
    const child = await writerOf(place);
    const [left, ...more] = await readdir(parent);
    assert.match(left ?? '', /^merged\.tmp-/);
    assert.deepEqual(more, []);

    await writeWholeDirectory(place, write);
    assert.deepEqual(await readdir(parent), ['merged', left], 'somebody is still at work on it');

    child.kill('SIGKILL');
    await once(child, 'exit');
    await writeWholeDirectory(join(parent, 'another'), write);
    assert.ok((await readdir(parent)).includes(left ?? ''), 'only its own');
    await writeWholeDirectory(join(parent, 'merged.tmp'), write);
    assert.ok((await readdir(parent)).includes(left ?? ''), 'only its own');
    await assert.rejects(writeWholeDirectory(place, write), { code: 'ENOTEMPTY' });
    assert.deepEqual((await readdir(parent)).sort(), ['another', 'merged', 'merged.tmp']);
    assert.equal(await readFile(join(place, 'weights'), 'utf8'), 'whole');
  });

  it('takes what names no process that can be asked for abandoned when nothing changed in it for long', async () => {
    const parent = await scratch.directory();
    const temporary = join(parent, 'merged.tmp-01234567-89ab-4cde-8f01-23456789abcd');
    await mkdir(temporary);
    const elsewhere = JSON.stringify({ pid: 1, host: 'elsewhere', processToken: null });
    await writeFile(join(temporary, 'owner.json'), elsewhere);
    const backup = join(parent, 'merged.tmp-of-my-own');
    await mkdir(backup);
    const age = async (ms: number): Promise<void> => {
      const then = new Date(Date.now() - ms);
      for (const path of [join(temporary, 'owner.json'), temporary, backup])
        await utimes(path, then, then);
    };
    await age(ABANDONED_MS - 60_000);
    await writeWholeDirectory(join(parent, 'merged'), write);
    assert.equal((await readdir(parent)).length, 3);
    await age(ABANDONED_MS + 60_000);
    await assert.rejects(writeWholeDirectory(join(parent, 'merged'), write));
    assert.deepEqual((await readdir(parent)).sort(), ['merged', 'merged.tmp-of-my-own']);
  });
});
