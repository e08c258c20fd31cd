/**
 * Entry point of a process that tries one device and tells what came of it: a driver that crashes or hangs
 * takes this process with it and nothing else. Arguments: device, threads, whether to time it (1 or 0).
 */
import { DEVICES } from '../engine/devices.js';
import { openExecutor } from '../engine/open-executor.js';
import { COMPARED_SEQUENCES, disagreement, TIMED_SEQUENCES, Trial } from '../engine/trial.js';
import type { ProbeReport } from './choose-device.js';

/** Share of a whole step that the compared one is. */
const PART = COMPARED_SEQUENCES / TIMED_SEQUENCES;

async function probe(): Promise<ProbeReport> {
  const [name, threads, isTimed] = process.argv.slice(2);
  const device = DEVICES.find((one) => one === name);
  if (device === undefined) throw new TypeError(`no device is called ${name}`);
  const cpu = await openExecutor({ device: 'cpu', threads: Number(threads) });
  const other = await openExecutor({ device, threads: Number(threads) });
  // The device first: where there is none, that is all the work.
  const small = await Trial.open(other, COMPARED_SEQUENCES);
  const expected = await (await Trial.open(cpu, COMPARED_SEQUENCES)).step();
  const reason = disagreement(await small.step(), expected);
  if (reason !== null) return { kind: 'fails', reason };
  if (isTimed !== '1') return { kind: 'works', times: null };
  const cpuMs = await timed(await Trial.open(cpu, TIMED_SEQUENCES));
  const partMs = await small.fastestMs();
  // A GPU that software imitates would need minutes for the whole.
  if (partMs > cpuMs) return { kind: 'works', times: { cpuMs, deviceMs: partMs / PART } };
  const deviceMs = await timed(await Trial.open(other, TIMED_SEQUENCES));
  return { kind: 'works', times: { cpuMs, deviceMs } };
}

async function timed(trial: Trial): Promise<number> {
  await trial.step();
  return trial.fastestMs();
}

process.on('disconnect', () => process.exit());
const report = await probe().catch((error: unknown): ProbeReport => ({
  kind: 'fails',
  reason: error instanceof Error ? error.message : String(error),
}));
process.send?.(report, undefined, undefined, () => process.exit());
