/**
 * Which device trains: the one that is asked for, or with `auto` the first GPU whose small train step agrees
 * with the CPU's and is faster. Each is tried in a process of its own (device-probe.ts), under a deadline.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { GPU_DEVICES, lackOf, remedyFor, type Device } from '../engine/devices.js';
import { EXIT_FAILURE, EXIT_USAGE, UserError } from '../errors.js';
import { exitInWords, loaderFlags } from './training-process.js';
import { checkWeights, formatsOf, type WeightChoice } from './weight-formats.js';

export type DeviceChoice = 'auto' | Device;

export interface DeviceRequest {
  readonly device: DeviceChoice;
  /** CPU threads, 1 to 256. */
  readonly threads: number;
  /** Format of the frozen weights: not every device has all. Default: auto. */
  readonly weights?: WeightChoice;
}

/** What was chosen, and why: completes "device: cpu (2 threads); ..."; null where there was no choice. */
export interface ChosenDevice {
  readonly device: Device;
  readonly why: string | null;
}

/** Longest that a device is tried, in ms: a first step compiles kernels, which takes seconds. */
const PROBE_MS_MAX = 30_000;
/** Characters of what a driver wrote that are looked at, and of a reason that are shown. */
const STDERR_MAX = 8192;
const REASON_MAX = 200;

const times = z.object({ cpuMs: z.number(), deviceMs: z.number() });
const probeReport = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('works'), times: times.nullable() }),
  z.object({ kind: z.literal('fails'), reason: z.string() }),
]);
/** What trying a device gave; times of one step, where they were asked for. */
export type ProbeReport = z.infer<typeof probeReport>;

/** Tries one device. Rejects with `signal.reason` only. */
export type Probe = (
  device: Device,
  options: { threads: number; isTimed: boolean },
  signal: AbortSignal,
) => Promise<ProbeReport>;

/** What chooseDevice asks; other answers in tests. */
export interface DeviceWorld {
  readonly lackOf: typeof lackOf;
  readonly probe: Probe;
}

/**
 * Throws UserError when the device that is asked for cannot be had, computes wrongly or has not that
 * format of weights, `signal.reason`.
 */
export async function chooseDevice(
  request: DeviceRequest,
  signal: AbortSignal,
  world: DeviceWorld = { lackOf, probe: probeDevice },
): Promise<ChosenDevice> {
  const { device, threads, weights = 'auto' } = request;
  checkWeights(device, weights);
  if (device === 'cpu') return { device, why: null };
  if (device !== 'auto') {
    const lack = world.lackOf(device);
    if (lack !== null) throw refusal(device, lack.reason, lack.isOfPlatform);
    const report = await world.probe(device, { threads, isTimed: false }, signal);
    if (report.kind === 'fails') throw refusal(device, report.reason, false);
    return { device, why: "a small step agrees with the CPU's" };
  }
  const candidates = GPU_DEVICES.filter(
    (one) => weights === 'auto' || formatsOf(one).includes(weights),
  );
  const reasons: string[] = [];
  for (const candidate of candidates) {
    const lack = world.lackOf(candidate);
    if (lack?.isOfPlatform === true) continue;
    const { isTaken, why } =
      lack === null
        ? verdict(await world.probe(candidate, { threads, isTimed: true }, signal))
        : { isTaken: false, why: lack.reason };
    if (isTaken) return { device: candidate, why: [why, ...reasons].join('; ') };
    reasons.push(notTaken(candidate, why));
  }
  const why = reasons.length > 0 ? reasons.join('; ') : 'this platform has no GPU device';
  return { device: 'cpu', why };
}

/** The CPU instead of the GPU that `auto` chose, after that failed. */
export function cpuInstead({ device }: ChosenDevice, reason: string): ChosenDevice {
  return { device: 'cpu', why: notTaken(device, reason) };
}

function notTaken(device: Device, reason: string): string {
  return `${device} was not taken: ${reason}`;
}

/** Whether `auto` takes a device of which `report` was got, and why. */
function verdict(report: ProbeReport): { isTaken: boolean; why: string } {
  if (report.kind === 'fails') return { isTaken: false, why: report.reason };
  if (report.times === null) throw new TypeError('the device was tried without being timed');
  const { deviceMs, cpuMs } = report.times;
  const took = `a small step takes ${inMs(deviceMs)} there and ${inMs(cpuMs)} on the CPU`;
  return deviceMs < cpuMs
    ? { isTaken: true, why: `${took}, with the same result` }
    : { isTaken: false, why: took };
}

function inMs(ms: number): string {
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

function refusal(device: Device, reason: string, isOfPlatform: boolean): UserError {
  const remedy = isOfPlatform ? 'use' : `${remedyFor(device)}, or use`;
  return new UserError(
    `--device ${device} cannot be had: ${reason}; ${remedy} --device cpu`,
    isOfPlatform ? EXIT_USAGE : EXIT_FAILURE,
  );
}

/** What is known of a process that tries a device. */
interface Seen {
  isLate: boolean;
  report: ProbeReport | null;
  stderr: string;
}

/** Tries a device in a process of its own, which is gone when this settles. */
export async function probeDevice(
  device: Device,
  { threads, isTimed }: { threads: number; isTimed: boolean },
  signal: AbortSignal,
): Promise<ProbeReport> {
  signal.throwIfAborted();
  const entry = fileURLToPath(import.meta.url).replace(/choose-device(?=\.[jt]s$)/, 'device-probe');
  const child = fork(entry, [device, String(threads), isTimed ? '1' : '0'], {
    execArgv: loaderFlags(process.execArgv),
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  const kill = (): void => void child.kill('SIGKILL');
  const seen: Seen = { isLate: false, report: null, stderr: '' };
  const deadline = setTimeout(() => {
    seen.isLate = true;
    kill();
  }, PROBE_MS_MAX);
  signal.addEventListener('abort', kill, { once: true });
  child.on('message', (message) => {
    seen.report = probeReport.safeParse(message).data ?? null;
  });
  child.stderr?.on('data', (chunk) => {
    seen.stderr = `${seen.stderr}${chunk}`.slice(-STDERR_MAX);
  });
  try {
    const ended = await new Promise<string>((resolve) => {
      child.once('close', (code, by) => resolve(`trying it ${exitInWords(code, by, false)}`));
      child.once('error', (error) => resolve(`it could not be tried (${error.message})`));
    });
    signal.throwIfAborted();
    if (seen.isLate) return fails(`it gave no result within ${PROBE_MS_MAX / 1000} s`);
    return clarified(seen.report ?? fails(ended), seen.stderr);
  } finally {
    clearTimeout(deadline);
    signal.removeEventListener('abort', kill);
  }
}

function fails(reason: string): ProbeReport {
  return { kind: 'fails', reason };
}

/** Drivers say on stderr which library they miss, and ONNX Runtime puts its own source lines before the cause. */
function clarified(report: ProbeReport, stderr: string): ProbeReport {
  if (report.kind === 'works') return report;
  const missing = /(\S+\.so[\w.]*): cannot open shared object file/.exec(stderr)?.[1];
  if (missing !== undefined) return fails(`the library ${missing.replace(/^.*\//, '')} is missing`);
  if (report.reason.includes('Failed to get a WebGPU adapter')) return fails('no adapter found');
  const oneLine = report.reason.replaceAll(/\s+/g, ' ').trim();
  return fails(oneLine.length > REASON_MAX ? `${oneLine.slice(0, REASON_MAX)}...` : oneLine);
}
