/** murmurate doctor against real sockets, files and training processes: what it finds, and what each failure looks like. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text as collect } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { startBootstrap, type BootstrapNode } from '../../bootstrap/bootstrap-node.js';
import { doctorOptions, planFor } from '../../node/cli/doctor.js';
import { runProgram } from '../../node/cli/program.js';
import { VERBS } from '../../node/cli/verbs.js';
import { defaultsOf } from '../../node/config.js';
import { checkSpeed } from '../../node/doctor/computing.js';
import { wellKnown } from '../../node/doctor/fitting.js';
import { checkNetwork } from '../../node/doctor/network.js';
import { makeDirectory, silent } from './harness.js';

const LISTEN = ['/ip4/127.0.0.1/tcp/0'];
const NOBODY = '/ip4/127.0.0.1/tcp/1';
const { signal } = new AbortController();

interface Row {
  check: string;
  level: string;
  text: string;
  fix: string | null;
}

async function doctor(
  ...args: string[]
): Promise<{ exitCode: number; findings: Row[]; stderr: string }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const io = { stdout, stderr, terminal: false, signal, interrupt: (): void => undefined };
  const exitCode = await runProgram(VERBS, ['doctor', '--json', ...args], io, {});
  stdout.end();
  stderr.end();
  const { findings } = JSON.parse(await collect(stdout)) as { findings: Row[] };
  return { exitCode, findings, stderr: await collect(stderr) };
}

describe('murmurate doctor', () => {
  let directory: Awaited<ReturnType<typeof makeDirectory>>;
  let node: BootstrapNode;
  before(async () => {
    directory = await makeDirectory();
    node = await startBootstrap({
      dir: join(directory.path, 'node'),
      listen: LISTEN,
      logger: silent,
    });
  });
  after(async () => {
    await node.stop();
    await directory.remove();
  });
  const network = { listen: LISTEN, contacts: [], swarmKey: null, running: null };

  it('dials a node that cut the first connection once more', async () => {
    const [address = ''] = node.addresses();
    const [, port = '', id = ''] = /tcp\/(\d+)\/p2p\/(\w+)/.exec(address) ?? [];
    let dialled = 0;
    const door = createServer((caller) => {
      dialled += 1;
      if (dialled === 1) return void caller.destroy();
      const onward = connect(Number(port), '127.0.0.1');
      caller.on('error', () => onward.destroy()).pipe(onward);
      onward.on('error', () => caller.destroy()).pipe(caller);
    });
    await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve));
    const contact = `/ip4/127.0.0.1/tcp/${(door.address() as AddressInfo).port}/p2p/${id}`;
    try {
      const found = await checkNetwork({ ...network, contacts: [contact] }, signal);
      const [, answer] = found;
      assert.equal(answer?.level, 'ok', JSON.stringify(found));
      assert.ok(answer.text.startsWith(`${contact} answered after `), answer.text);
      assert.equal(dialled, 2);
    } finally {
      door.close();
    }
  });

  it('dials the nodes it is given, has them dial back, and says how long that took', async () => {
    const [address = ''] = node.addresses();
    const found = await checkNetwork({ ...network, contacts: [address, NOBODY] }, signal);
    assert.deepEqual(
      found.map(({ level }) => level),
      ['ok', 'ok', 'ok', 'fail'],
    );
    assert.match(
      found[0]?.text ?? '',
      /it can listen on \/ip4\/127\.0\.0\.1\/tcp\/0 \(now on port \d+\)/,
    );
    assert.match(
      found[1]?.text ?? '',
      /answered after \d+ ms, then within [\d.]+ ms, and knows no run yet/,
    );
    assert.match(found[2]?.text ?? '', /^local: 12D3Koo\w+ dialled \/ip4\/127\.0\.0\.1\/tcp\/\d+$/);
    assert.match(found[3]?.text ?? '', /cannot reach \/ip4\/127\.0\.0\.1\/tcp\/1/);
  });

  it('names the process that has the port', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const { port } = server.address() as AddressInfo;
      const listen = [`/ip4/127.0.0.1/tcp/${port}`];
      const [finding] = await checkNetwork({ ...network, listen }, signal);
      assert.equal(finding?.level, 'fail');
      assert.match(finding.text, /another program uses the port/);
      if (process.platform === 'linux') {
        assert.match(
          finding.fix ?? '',
          new RegExp(`^stop .* \\(process ${process.pid}\\), which has port ${port}`),
        );
      }
    } finally {
      server.close();
    }
  });

  it('takes a step of the model where it would train, and leaves nothing behind', async () => {
    const options = {
      ...defaultsOf(doctorOptions),
      device: 'cpu',
      threads: 1,
      sequenceLength: 32,
      batchSize: 2,
    } as const;
    const { level, text } = await checkSpeed(await planFor(options), signal);
    assert.equal(level, 'ok');
    assert.match(
      text,
      /^a step of 2 x 32 tokens takes \d+ ms \(\d+ tokens\/s\) on cpu \(1 thread\), so 10 steps/,
    );
  });

  it('takes a step of the embedded base where the model is large, whose files it leaves alone, and says so', async () => {
    const plan = await planFor({
      ...defaultsOf(doctorOptions),
      ...{ device: 'cpu', threads: 1, sequenceLength: 32, batchSize: 2, weights: 'int4' },
    });
    const { model, adapter, name } = wellKnown('Qwen2.5-7B', plan);
    const large = { ...plan.model, ...model, name, dir: join(directory.path, 'no-model') };
    const { level, text } = await checkSpeed({ ...plan, model: large, adapter }, signal);
    assert.equal(level, 'ok');
    assert.match(
      text,
      /^a step of 2 x 32 tokens of the embedded base takes \d+ ms \(\d+ tokens\/s\) on cpu \(1 thread\), int4; Qwen2\.5-7B is not loaded to time it, but has 1\d\d\d times as many weights to multiply with, so that 10 steps, an epoch, take about \d+(\.\d)? s$/,
    );
  });

  it('exits 1 when anything fails, with all of it on stdout', async () => {
    const key = join(directory.path, 'swarm.key');
    await writeFile(key, 'x', { mode: 0o644 });
    const model = join(directory.path, 'no-model');
    const wrong = [
      '--model',
      model,
      '--data',
      join(directory.path, 'none.txt'),
      '--swarm-key',
      key,
      '--dir',
      '/proc/peer',
    ];
    const { exitCode, findings, stderr } = await doctor(
      ...wrong,
      '--listen',
      ...LISTEN,
      '--bootstrap',
      NOBODY,
    );
    assert.equal(exitCode, 1);
    const failed = new Set(
      findings.filter(({ level }) => level === 'fail').map(({ check }) => check),
    );
    for (const name of ['model', 'memory', 'speed', 'data', 'swarm key', 'directory', 'network']) {
      assert.ok(failed.has(name), `${name} did not fail: ${JSON.stringify(findings)}`);
    }
    assert.match(stderr, /error: \d+ checks failed; see the lines that begin with fail\n$/);
    assert.ok(findings.some(({ check, level }) => check === 'cpu' && level !== 'fail'));
  });
});
