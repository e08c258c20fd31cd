import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import '../../../node/net/polyfill.js';
import { doctorOptions, planFor } from '../../../node/cli/doctor.js';
import { defaultsOf } from '../../../node/config.js';
import { checkDevice, checkMemory, planTraining } from '../../../node/doctor/computing.js';
import { checkFit } from '../../../node/doctor/fitting.js';
import { checkKind, checkSpace, checkWritable, fileSystemAt } from '../../../node/doctor/disk.js';
import {
  checkData,
  checkModel,
  checkModelCache,
  checkSwarmKey,
} from '../../../node/doctor/files.js';
import {
  AGAIN,
  fail,
  GRACE_MS,
  ok,
  runChecks,
  TOTAL_MS_MAX,
  type Check,
  type Finding,
} from '../../../node/doctor/finding.js';
import { checkClock, checkNode, checkProcessor } from '../../../node/doctor/machine.js';
import { checkAddresses, checkRouter } from '../../../node/doctor/network.js';
import type { Device } from '../../../node/engine/devices.js';
import { UserError } from '../../../node/errors.js';
import { openModelDirectory } from '../../../node/model/model-directory.js';
import { makeSwarmKey } from '../../../node/net/swarm-key.js';
import { lockDirectory } from '../../../node/store/lock.js';
import { onGpu } from '../../../node/train/gpu-memory.js';
import { needed, RUNTIME_BYTES, type MachineMemory } from '../../../node/train/memory-plan.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../../../node/version.js';
import { sampleStatus } from '../status-sample.js';

let dir = '';
before(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'murmurate-checks-'));
});
after(() => rm(dir, { recursive: true }));

const { signal } = new AbortController();

function says(
  { level, text, fix }: Finding | undefined = fail(''),
  ...expected: [string, RegExp, RegExp?]
): void {
  assert.equal(level, expected[0], text);
  assert.match(text, expected[1]);
  if (expected[2] === undefined) assert.equal(fix, null);
  else assert.match(fix ?? '', expected[2]);
}

describe('runChecks()', () => {
  const check = (name: string, run: Check['run'], deadlineMs = 10_000): Check => ({
    name,
    run,
    deadlineMs,
    whenLate: `ask ${name} later`,
  });

  it('keeps the order of the lanes, and goes on after a check that fails, throws or hangs', async () => {
    const lanes = [
      [
        check('late', () => new Promise(() => undefined), 1),
        check('user', () => Promise.reject(new UserError('mend it so'))),
      ],
      [
        check('fault', () => Promise.reject(new TypeError('x is undefined'))),
        check('fine', () => Promise.resolve([ok('all is well')])),
      ],
    ];
    const seen: string[] = [];
    const findings = await runChecks(lanes, signal, (name) => seen.push(name));
    assert.deepEqual(
      findings.map(({ check: name, level, text }) => `${name} ${level}: ${text}`),
      [
        'late warn: no result within 0.001 s, so nothing is known',
        'user fail: mend it so',
        'fault fail: it could not be checked: x is undefined',
        'fine ok: all is well',
      ],
    );
    assert.equal(seen.length, 4);
    assert.equal(findings[0]?.fix, 'ask late later');
  });

  it('are over when the time of all of them is: one is cut, those behind it are not begun', async () => {
    const hangs = (): Promise<never> => new Promise(() => undefined);
    const lanes = [
      [check('quick', () => Promise.resolve([ok('fine')])), check('slow', hangs)],
      [check('other', hangs), check('behind', () => assert.fail('begun'))],
    ];
    const startMs = performance.now();
    const findings = await runChecks(lanes, signal, undefined, 200);
    const tookMs = performance.now() - startMs;
    assert.ok(tookMs < 200 + 1_000 + 2_000, `${tookMs} ms`);
    assert.deepEqual(
      findings.map(({ check: name, level, text, fix }) => [`${name} ${level}: ${text}`, fix]),
      [
        ['quick ok: fine', null],
        ['slow warn: no result within 0.2 s, so nothing is known', 'ask slow later'],
        ['other warn: no result within 0.2 s, so nothing is known', 'ask other later'],
        ['behind warn: not begun: the checks before it took the 0.2 s that all have', AGAIN],
      ],
    );
  });

  it('of the product end within 30 s', () => {
    assert.ok(TOTAL_MS_MAX + GRACE_MS <= 30_000);
  });

  it('is over when it is told to stop, though a check does not hear', async () => {
    const abort = new AbortController();
    const lanes = [[check('deaf', () => new Promise(() => abort.abort(new Error('stop'))))]];
    await assert.rejects(runChecks(lanes, abort.signal), /stop/);
  });
});

describe('checks of the machine', () => {
  it('Node: the oldest that will do, and nothing before', () => {
    for (const good of ['20.19.0', '20.20.2', '22.1.0', '100.0.0'])
      says(checkNode(good, '>=20.19'), 'ok', /Node/);
    for (const old of ['20.18.9', '18.20.1', '2.99.0']) {
      says(checkNode(old, '>=20.19'), 'fail', /20\.19 is the oldest/, /install the current Node/);
    }
  });

  it('processor: a warning from as many waiting processes as there are cores', () => {
    says(checkProcessor(2, 1.99), 'ok', /2 cores/);
    says(checkProcessor(2, 2), 'warn', /load 2\.0: other programs/, /top/);
  });

  it('clock: a failure beyond half an epoch, and no judgement where nobody tells the time', () => {
    says(checkClock(null), 'ok', /with whose clock that agrees is known when a peer runs/);
    const report = sampleStatus();
    const epochMs = report.run.epochSeconds * 1000;
    const off = (...offsets: (number | null)[]): Finding => {
      const [peer] = report.peers;
      assert.ok(peer);
      const peers = offsets.map((clockOffsetMs) => ({ ...peer, clockOffsetMs }));
      return checkClock({ ...report, peers });
    };
    says(off(null), 'ok', /is known when/);
    says(off(epochMs / 2), 'ok', /behind the median of 1 peers/);
    says(off(epochMs / 2 + 1), 'fail', /behind/, /timedatectl set-ntp true/);
    says(off(-epochMs, -epochMs, 1), 'fail', /ahead of the median of 3/, /timedatectl/);
    says(off(-epochMs, 1, 2), 'ok', /median of 3/);
  });
});

describe('checks of the disk', () => {
  it('directory: a file is replaced in it or above it, and nothing is left behind', async () => {
    says(await checkWritable(dir), 'ok', /can be written: a file was replaced and synced$/);
    says(
      await checkWritable(path.join(dir, 'a', 'b')),
      'ok',
      /where .*a\/b will be made, can be written/,
    );
    assert.deepEqual(await readdir(dir), []);
    const lock = await lockDirectory(dir);
    says(
      await checkWritable(dir),
      'ok',
      new RegExp(`the peer of process ${process.pid} runs in it`),
    );
    await lock.release();
  });

  it('directory: a failure where nobody, root neither, can write', async () => {
    says(
      await checkWritable('/proc/peer'),
      'fail',
      /\/proc cannot be written \((EACCES|EPERM|ENOENT)\)/,
      /.*/,
    );
    const file = path.join(dir, 'file');
    await writeFile(file, '');
    says(await checkWritable(file), 'fail', /file cannot be written \(ENOTDIR\)/);
    await rm(file);
  });

  it('space: what the state takes is needed, and room for a log beside it wanted', () => {
    const needed = 52 * 1000;
    const log = 256 * 2 ** 20;
    const space = (freeBytes: number): Finding => checkSpace('peer', { freeBytes, kind: 0 }, 1000);
    says(space(needed - 1), 'fail', /1 MB free for peer/, /larger disk/);
    says(space(needed), 'warn', /free for peer/, /larger disk/);
    says(space(needed + log - 1), 'warn', /free for peer/, /larger disk/);
    says(space(needed + log), 'ok', /free for peer/);
  });

  it('kind: a warning for memory and for other machines', async () => {
    says(
      checkKind('peer', { freeBytes: 0, kind: 0x6969 }),
      'warn',
      /is on NFS: two machines/,
      /this machine/,
    );
    const { kind } = await fileSystemAt('/proc');
    says(checkKind('peer', { freeBytes: 0, kind }), 'ok', /0x9fa0/);
  });
});

describe('checks of files', () => {
  it('data: the first example of each file is read', async () => {
    const files = ['good.jsonl', 'bad.jsonl', 'none.txt', 'table.bin'].map((name) =>
      path.join(dir, name),
    );
    await writeFile(files[0] ?? '', '{"prompt":"a","completion":"b"}\n{"broken');
    await writeFile(files[1] ?? '', '{"words":"a"}\n');
    const [good, bad, missing, unknown] = await checkData(files);
    says(good, 'ok', /good\.jsonl: 1 MB, and line 1 holds a prompt with its completion/);
    says(bad, 'fail', /bad\.jsonl, line 1/);
    says(missing, 'fail', /none\.txt .*does not exist/);
    says(unknown, 'fail', /is of an unknown kind/);
    const [nothing] = await checkData([]);
    says(nothing, 'warn', /no text is named/, /doctor --data/);
  });

  it('data: a folder stands for the data files in it', async () => {
    const folder = path.join(dir, 'folder');
    await mkdir(folder);
    await writeFile(path.join(folder, 'a.csv'), 'prompt,completion\nWho? ,Anna.\n');
    const [inside] = await checkData([folder]);
    says(inside, 'ok', /a\.csv: .*line 2 holds a prompt with its completion/);
  });

  it('model cache: what was fetched by name, and how much that is', async () => {
    const env = { HF_HUB_CACHE: path.join(dir, 'hub') };
    says(await checkModelCache(env), 'ok', /hub: no model was fetched by name yet/);
    const snapshot = path.join(env.HF_HUB_CACHE, 'models--anna--small/snapshots', 'ab'.repeat(20));
    await mkdir(snapshot, { recursive: true });
    await writeFile(path.join(snapshot, 'config.json'), new Uint8Array(3_000_000));
    says(await checkModelCache(env), 'ok', /hub: 3 MB, anna\/small$/);
  });

  it('model: a name is what its branch was when it was last fetched, and nothing is fetched here', async (t) => {
    const commit = 'ab'.repeat(20);
    const cache = path.join(dir, 'branches');
    const folder = path.join(cache, 'models--anna--tiny');
    for (const name of ['refs', 'snapshots'])
      await mkdir(path.join(folder, name), { recursive: true });
    await symlink(EMBEDDED_MODEL_DIRECTORY, path.join(folder, 'snapshots', commit));
    await writeFile(path.join(folder, 'refs', 'main'), commit);
    const before = process.env.HF_HUB_CACHE;
    t.after(() => {
      if (before === undefined) delete process.env.HF_HUB_CACHE;
      else process.env.HF_HUB_CACHE = before;
    });
    process.env.HF_HUB_CACHE = cache;
    const planned = (model: string) => planFor({ ...defaultsOf(doctorOptions), model });
    for (const name of ['anna/tiny', 'anna/tiny@main', `anna/tiny@${commit}`]) {
      assert.equal((await planned(name)).model.config.hiddenSize, 256, name);
    }
    await assert.rejects(planned('anna/other'), /is not here yet, .*--model anna\/other Hello$/);
  });

  it('model: one that is there is opened, one that is not is a failure with its sentence', async () => {
    says(
      await checkModel(await openModelDirectory(EMBEDDED_MODEL_DIRECTORY)),
      'ok',
      /5\.5 million weights/,
    );
    const missing: Check = {
      ...{ name: 'model', deadlineMs: 10_000, whenLate: AGAIN },
      run: async () => [await checkModel(await openModelDirectory(path.join(dir, 'none')))],
    };
    says((await runChecks([[missing]], signal))[0], 'fail', /none .*does not exist/);
  });

  it('swarm key: others must not read it, and one that is named must be there', async () => {
    const key = path.join(dir, 'swarm.key');
    const none = path.join(dir, 'no.key');
    await makeSwarmKey(key);
    says((await checkSwarmKey(key, none))[0], 'ok', /is a swarm key that you alone may read/);
    assert.deepEqual(await checkSwarmKey(null, none), []);
    says(
      (await checkSwarmKey(none, key))[0],
      'fail',
      /no swarm key at/,
      /murmurate swarm-key .*no\.key/,
    );
    const open = path.join(dir, 'open.key');
    await writeFile(open, 'x', { mode: 0o644 });
    says((await checkSwarmKey(null, open))[0], 'fail', /mode 0644/, /^chmod 600 .*open\.key$/);
    await writeFile(key, 'no key');
    says((await checkSwarmKey(key, none))[0], 'fail', /is not a swarm key \(6 bytes\)/);
  });
});

describe('checks of what computes', () => {
  it('memory: what training takes fits exactly, and one byte less does not', async () => {
    const asked = { microBatch: 8, memory: 'normal', weights: 'fp32' } as const;
    const plan = await planFor({ ...defaultsOf(doctorOptions), ...asked });
    const machine = { processBytes: 0, free: 2 ** 40, refuse: true };
    const free = needed(await planTraining(plan, machine)) + RUNTIME_BYTES;
    says(await checkMemory(plan, { ...machine, free }), 'ok', /all 8 sequences of a step at once/);
    const less = await checkMemory(plan, { ...machine, free: free - 1 });
    says(less, 'fail', /does not fit into memory/, /^murmurate start --micro-batch [1-7]$/);
    const tiny = await checkMemory(plan, { ...machine, free: RUNTIME_BYTES });
    says(tiny, 'fail', /only 0 MB are free/, /take a smaller --model/);
    const auto = await planFor({ ...defaultsOf(doctorOptions), weights: 'fp32' });
    const low = await planTraining(
      { ...auto, options: { ...auto.options, memory: 'low', microBatch: 1 } },
      machine,
    );
    const lowFree = needed(low) + RUNTIME_BYTES;
    says(await checkMemory(auto, { ...machine, free: lowFree }), 'warn', /with low memory/);
    const tight = await checkMemory(auto, { ...machine, free: lowFree - 1 });
    says(tight, 'fail', /does not fit/, /^murmurate start --weights bf16$/);
  });

  it('memory: of a GPU too, with what would fit there', async () => {
    const plan = await planFor({ ...defaultsOf(doctorOptions), device: 'webgpu' });
    const known = { bufferMax: null, source: 'known' } as const;
    const of = (free: number): MachineMemory => onGpu('webgpu', { ...known, free }, true);
    const roomy = await planTraining(plan, of(24e9));
    const free = needed(roomy) + roomy.process;
    const fitting = await checkMemory(plan, of(free));
    says(
      fitting,
      'ok',
      /of the memory of webgpu \(bf16 weights .*: all 8 sequences of a step at once$/,
    );
    says(await checkMemory(plan, of(free - 1)), 'ok', /: the 8 sequences of a step in 2 parts/);
    says(
      await checkMemory(plan, of(0.5e9)),
      'fail',
      /does not fit into the memory of webgpu/,
      /^use --device cpu, or /,
    );
    const model = { ...plan, name: 'tiny-base' };
    const fit = await checkFit(model, of(24e9));
    says(
      fit,
      'ok',
      /^tiny-base: fits with --weights bf16 at [\d,]+ tokens \(\d\.\d of 24\.0 GB\)$/,
    );
  });

  it('devices: one that is missing is a failure only when it is asked for', async () => {
    const world = {
      lackOf: (device: string) =>
        device === 'cuda'
          ? { isOfPlatform: false, reason: 'no NVIDIA card found' }
          : device === 'dml'
            ? { isOfPlatform: true, reason: 'it exists on Windows only' }
            : null,
      probe: (device: string) =>
        Promise.resolve(
          device === 'webgpu'
            ? ({ kind: 'fails', reason: 'it computes a loss of 7' } as const)
            : ({ kind: 'works', times: { cpuMs: 16, deviceMs: 8 } } as const),
        ),
    };
    const check = async (device: Device, asked: Device | 'auto' = 'auto'): Promise<Finding[]> =>
      checkDevice(device, asked, 1, signal, world);
    says((await check('cpu'))[0], 'ok', /8\.0 ms \(128000 tokens\/s\)$/);
    says((await check('tfjs'))[0], 'ok', /and on the CPU 16\.0 ms/);
    assert.deepEqual(await check('dml'), []);
    for (const [device, text, fix] of [
      ['cuda', /cuda cannot be had: no NVIDIA card found/, /NVIDIA's driver/],
      ['webgpu', /it computes a loss of 7/, /graphics card's driver/],
    ] as const) {
      says((await check(device))[0], 'ok', text);
      says((await check(device, device))[0], 'fail', text, fix);
    }
    says((await check('dml', 'dml'))[0], 'fail', /it exists on Windows only/, /DirectX/);
  });
});

describe('checks of the network', () => {
  it('addresses: which of them are of the open internet', () => {
    says(checkAddresses([]), 'warn', /on no network/);
    says(checkAddresses(['192.168.1.2', 'fd00::2']), 'ok', /private addresses only/);
    says(
      checkAddresses(['192.168.1.2', '93.184.216.34']),
      'ok',
      /^93\.184\.216\.34: others may dial it/,
    );
  });

  it('router: one that forwards, one behind another, none', async () => {
    const at = (externalIp: string | null) => () =>
      Promise.resolve({ host: '192.168.1.1', externalIp });
    says(await checkRouter(signal, at('93.184.216.34')), 'ok', /--upnp makes use of it/);
    says(await checkRouter(signal, at('100.64.0.1')), 'warn', /behind another/, /--bootstrap/);
    says(await checkRouter(signal, at(null)), 'warn', /does not say/, /--bootstrap/);
    says(await checkRouter(signal, () => Promise.resolve(null)), 'ok', /no router/);
  });
});

describe('a data directory that is new', () => {
  it('is not made by looking at it', async () => {
    const parent = path.join(dir, 'parent');
    await mkdir(parent);
    await checkWritable(path.join(parent, 'peer'));
    assert.deepEqual(await readdir(parent), []);
  });
});
