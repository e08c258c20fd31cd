import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { startHttpServer } from '../../../node/http/server.js';
import type { StatusReport } from '../../../node/status.js';
import { sampleStatus } from '../status-sample.js';

const SCRIPT = path.join(
  import.meta.dirname,
  `../../../deploy/health${path.extname(import.meta.filename)}`,
);

let dir = '';
before(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'murmurate-health-'));
});
after(() => rm(dir, { recursive: true, force: true }));

async function health(...args: string[]): Promise<{ exitCode: number; stderr: string }> {
  const child = spawn(process.execPath, [...process.execArgv, SCRIPT, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const [stderr] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  assert.ok(child.exitCode !== null);
  return { exitCode: child.exitCode, stderr };
}

describe('a health check', () => {
  it('of a peer is ready when the peer is healthy, and alive whenever its server answers', async () => {
    let report: StatusReport | null = sampleStatus();
    const server = await startHttpServer({
      port: 0,
      peer: { status: () => report, history: () => [], registries: () => [] },
    });
    await writeFile(path.join(dir, 'http'), `${server.url}\n`);
    assert.deepEqual(await health('ready', dir), { exitCode: 0, stderr: '' });
    report = { ...sampleStatus(), run: { ...sampleStatus().run, state: 'paused' } };
    const paused = await health('ready', dir);
    assert.equal(paused.exitCode, 1);
    assert.match(paused.stderr, /^not ready: 503 .*"state":"paused"/);
    assert.equal((await health('alive', dir)).exitCode, 0);
    await server.stop();
    assert.equal((await health('alive', dir)).exitCode, 1);
  });

  it('of a bootstrap node asks the port that it keeps', async () => {
    const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
    await once(server, 'listening');
    await writeFile(path.join(dir, 'port'), `${(server.address() as AddressInfo).port}\n`);
    assert.equal((await health('listening', dir)).exitCode, 0);
    server.close();
    await once(server, 'close');
    assert.equal((await health('listening', dir)).exitCode, 1);
  });

  it('of nothing says how it is used', async () => {
    assert.deepEqual(await health('sleeping', dir), {
      exitCode: 2,
      stderr: 'usage: health.js ready|alive|listening DIR\n',
    });
  });
});
