import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import type { Device } from '../../../node/engine/devices.js';
import { EXIT_FAILURE, EXIT_USAGE, UserError } from '../../../node/errors.js';
import {
  chooseDevice,
  probeDevice,
  type DeviceChoice,
  type DeviceWorld,
  type ProbeReport,
} from '../../../node/train/choose-device.js';

const never = new AbortController().signal;
const faster: ProbeReport = { kind: 'works', times: { cpuMs: 60, deviceMs: 5 } };
const slower: ProbeReport = { kind: 'works', times: { cpuMs: 60, deviceMs: 4000 } };
const fails: ProbeReport = { kind: 'fails', reason: 'no adapter found' };

/** A platform with the devices in `reports`, or a reason for which one need not be tried. */
function world(reports: Partial<Record<Device, ProbeReport | string>>): DeviceWorld & {
  tried: string[];
} {
  const tried: string[] = [];
  return {
    tried,
    lackOf: (device) => {
      const report = reports[device];
      if (report === undefined) return { isOfPlatform: true, reason: 'it exists elsewhere only' };
      return typeof report === 'string' ? { isOfPlatform: false, reason: report } : null;
    },
    probe: (device, { isTimed }) => {
      tried.push(`${device}${isTimed ? ' timed' : ''}`);
      return Promise.resolve(reports[device] as ProbeReport);
    },
  };
}

describe('chooseDevice', () => {
  const choose = (device: DeviceChoice, within: DeviceWorld): ReturnType<typeof chooseDevice> =>
    chooseDevice({ device, threads: 1 }, never, within);

  it('takes under auto the first GPU that is right and faster, and says why not the others', async () => {
    const within = world({ cuda: 'no NVIDIA card found', webgpu: faster, coreml: faster });
    assert.deepEqual(await choose('auto', within), {
      device: 'webgpu',
      why: 'a small step takes 5.0 ms there and 60 ms on the CPU, with the same result; cuda was not taken: no NVIDIA card found',
    });
    assert.deepEqual(within.tried, ['webgpu timed']);
  });

  it('falls back under auto to the CPU from what fails and from what is slower', async () => {
    assert.deepEqual(await choose('auto', world({ dml: fails, webgpu: slower })), {
      device: 'cpu',
      why: 'dml was not taken: no adapter found; webgpu was not taken: a small step takes 4000 ms there and 60 ms on the CPU',
    });
    assert.equal((await choose('auto', world({}))).why, 'this platform has no GPU device');
  });

  it('tries nothing for the CPU', async () => {
    const within = world({ webgpu: faster });
    assert.deepEqual(await choose('cpu', within), { device: 'cpu', why: null });
    assert.deepEqual(within.tried, []);
  });

  it('tries under auto only what computes with the weights that are asked for', async () => {
    const within = world({ dml: faster, webgpu: faster });
    const request = { threads: 1, weights: 'int8' } as const;
    const chosen = await chooseDevice({ ...request, device: 'auto' }, never, within);
    assert.equal(chosen.device, 'webgpu');
    assert.deepEqual(within.tried, ['webgpu timed']);
    await assert.rejects(
      chooseDevice({ ...request, device: 'dml' }, never, within),
      (error) =>
        error instanceof UserError &&
        error.exitCode === EXIT_USAGE &&
        error.message ===
          "--device dml can't compute with --weights int8, only with fp32: use --weights auto, or --device cpu",
    );
    assert.deepEqual(within.tried, ['webgpu timed']);
  });

  it('takes what is asked for, slow or not, once it proves right', async () => {
    const within = world({ webgpu: slower });
    assert.equal((await choose('webgpu', within)).device, 'webgpu');
    assert.deepEqual(within.tried, ['webgpu']);
  });

  it('refuses what is asked for and cannot be had, with what to do', async () => {
    for (const [within, message, exitCode] of [
      [
        world({}),
        /^--device cuda cannot be had: it exists elsewhere only; use --device cpu$/,
        EXIT_USAGE,
      ],
      [
        world({ cuda: 'no card' }),
        /: no card; install NVIDIA.*npm rebuild.*, or use --device cpu$/,
        EXIT_FAILURE,
      ],
      [world({ cuda: fails }), /: no adapter found; install/, EXIT_FAILURE],
    ] as const) {
      await assert.rejects(choose('cuda', within), (error: Error) => {
        assert.ok(error instanceof UserError);
        assert.match(error.message, message);
        assert.equal(error.exitCode, exitCode);
        return true;
      });
    }
  });
});

describe('probeDevice', () => {
  const flags = [...process.execArgv];
  after(() => void process.execArgv.splice(0, Infinity, ...flags));
  const once = { threads: 1, isTimed: false };

  it('finds that the CPU agrees with itself', async () => {
    assert.deepEqual(await probeDevice('cpu', once, never), { kind: 'works', times: null });
    const timed = await probeDevice('cpu', { ...once, isTimed: true }, never);
    assert.ok(timed.kind === 'works' && timed.times!.cpuMs > 0 && timed.times!.deviceMs > 0);
  });

  it('says why a device is not there', async () => {
    const absent = process.platform === 'linux' ? 'coreml' : 'cuda';
    const report = await probeDevice(absent, once, never);
    assert.ok(report.kind === 'fails' && /backend not found|missing/.test(report.reason));
  });

  it('survives a driver that crashes', async () => {
    process.execArgv.push('--import', 'data:text/javascript,process.abort()');
    assert.deepEqual(await probeDevice('cpu', once, never), {
      kind: 'fails',
      reason: 'trying it ended by signal SIGABRT',
    });
    process.execArgv.splice(-2);
  });

  it('ends what hangs when it is aborted', async () => {
    process.execArgv.push('--import', 'data:text/javascript,for(;;);');
    const abort = new AbortController();
    const probing = probeDevice('cpu', once, abort.signal);
    setImmediate(() => abort.abort(new Error('Ctrl-C')));
    await assert.rejects(probing, /Ctrl-C/);
    process.execArgv.splice(-2);
  });
});
