import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

let place = '';
before(async () => {
  place = await mkdtemp(path.join(tmpdir(), 'murmurate-telemetry-'));
});
after(() => rm(place, { recursive: true, force: true }));

/** Runs a graph in a process whose home and temporary directory are `place`; resolves with the files that it left there. */
async function filesAfterRunning(): Promise<string[]> {
  const [home, temporary] = [path.join(place, 'home'), path.join(place, 'tmp')];
  await Promise.all([mkdir(home), mkdir(temporary)]);
  const folder = path.join(import.meta.dirname, '../../../node/engine');
  const extension = path.extname(import.meta.filename);
  const load = (name: string): string =>
    JSON.stringify(pathToFileURL(path.join(folder, name + extension)).href);
  const program = `
    import { ortExecutor } from ${load('ort')};
    import { input } from ${load('graph')};
    import { sum } from ${load('ops/index')};
    const x = input('x', 'float32', [3]);
    const graph = await ortExecutor({ threads: 1 }).compile({ outputs: { total: sum(x, [0]) } });
    const { total } = await graph.run({ x: new Float32Array([1, 2, 4]) });
    if (total[0] !== 7) process.exit(3);
  `;
  // CI would keep the library from reporting by itself.
  const { PATH } = process.env;
  const env = { ...(PATH !== undefined && { PATH }), HOME: home, TMPDIR: temporary };
  const args = [...process.execArgv, '--input-type=module', '--eval', program];
  await promisify(execFile)(process.execPath, args, { env, timeout: 60_000 });
  // tsx, where it runs this file, caches what it compiled.
  const names = await readdir(place, { recursive: true });
  return names.filter((name) => !name.includes('tsx-'));
}

it('ONNX Runtime, which reports to its makers if it may, keeps no device id and nothing to send', async () => {
  assert.deepEqual((await filesAfterRunning()).sort(), ['home', 'tmp']);
});
