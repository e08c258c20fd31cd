/** murmurate doctor: looks at this machine before a peer is started on it, and says what to do about what is wrong. */
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import Table from 'cli-table3';
import { z } from 'zod';
import { checkKind, checkSpace, checkWritable, fileSystemAt, nearest } from '../doctor/disk.js';
import { checkDevice, checkMemory, checkSpeed, threadsOf, type Plan } from '../doctor/computing.js';
import { checkFit, WANTED, wellKnown } from '../doctor/fitting.js';
import { checkData, checkModel, checkModelCache, checkSwarmKey } from '../doctor/files.js';
import { AGAIN, runChecks, warn, type Check, type Finding, type Named } from '../doctor/finding.js';
import { checkClock, checkNode, checkThisProcessor } from '../doctor/machine.js';
import { checkAddresses, checkNetwork, checkRouter, ownAddresses } from '../doctor/network.js';
import { defaultsOf, type OptionValues } from '../config.js';
import type { ColumnNames } from '../data/columns.js';
import { DEVICES, GPU_DEVICES, lackOf, type Device } from '../engine/devices.js';
import { EXIT_FAILURE, UserError } from '../errors.js';
import { loraModules } from '../model/lora.js';
import { ModelCache } from '../hub/cache.js';
import { cacheDirectoryOf } from '../hub/endpoint.js';
import {
  isModelDirectory,
  openModelDirectory,
  type ModelDirectory,
} from '../model/model-directory.js';
import { readSwarmKey } from '../net/swarm-key.js';
import type { StatusReport } from '../status.js';
import { DataDirectory } from '../store/directory.js';
import { holderOf } from '../store/lock.js';
import { freeMemory } from '../train/free-memory.js';
import { gpuBytes, gpuMemory, isGpu, onGpu } from '../train/gpu-memory.js';
import type { MachineMemory } from '../train/memory-plan.js';
import { adapterLayout } from '../../protocol/adapter.js';
import type { Manifest } from '../../protocol/manifest.js';
import { EMBEDDED_MODEL_DIRECTORY, PACKAGE_DIRECTORY } from '../version.js';
import { hubNameMeant } from './base-choice.js';
import { columnOptions, columnsOf } from './data-options.js';
import { peerOptions } from './peer-options.js';
import { loraAlpha, runOptions } from './run-options.js';
import { autoSequenceLength, planOf } from './sequence-length.js';
import { columnsInForce, inForce, readStored, type Stored } from './settings-in-force.js';
import { createBar } from './slow.js';
import { fetchStatus, storedUrl } from './status.js';
import { defineVerb } from './verb.js';

/** Most checks end in far less; a step of a large model and contacts that do not answer take longest. */
const DEADLINE_MS = 8_000;
const LONG_MS = 15_000;

export const doctorOptions = {
  dir: peerOptions.dir,
  model: peerOptions.model,
  data: peerOptions.data,
  ...columnOptions,
  listen: peerOptions.listen,
  bootstrap: peerOptions.bootstrap,
  swarmKey: peerOptions.swarmKey,
  threads: peerOptions.threads,
  device: peerOptions.device,
  weights: peerOptions.weights,
  gpuMemory: peerOptions.gpuMemory,
  microBatch: peerOptions.microBatch,
  memory: peerOptions.memory,
  rank: runOptions.rank,
  steps: runOptions.steps,
  sequenceLength: runOptions.sequenceLength,
  batchSize: runOptions.batchSize,
  json: peerOptions.json,
} as const;

type DoctorOptions = OptionValues<typeof doctorOptions>;

export const doctorVerb = defineVerb({
  name: 'doctor',
  summary:
    'Check this machine, its disk and its network before a peer is started, and say what to mend.',
  args: [],
  options: doctorOptions,
  example: `
$ murmurate doctor --data notes.jsonl --bootstrap /ip4/192.0.2.1/tcp/4001/p2p/12D3KooWRm4t...
ok    node       Node 20.20.2, and 20.19 is the oldest that will do
ok    memory     training takes about 515 MB of memory (fp32 weights 221 MB, ...) of 24.8 GB: the 8 sequences of a step in 4 parts of at most 2, ...
ok    speed      a step of 8 x 128 tokens takes 216 ms (4741 tokens/s) on cpu (2 threads), so 10 steps, an epoch, take 2.2 s
fail  swarm key  swarm.key holds a secret and can be read by others (mode 0644): chmod 600 swarm.key
                 do: chmod 600 swarm.key
...`,
  run: async ({ options: asked, given, io }) => {
    const { options, manifest, columns } = await withStored(asked, given);
    const bar = createBar(io, 'checking');
    const lanes = await lanesFor(options, manifest, columns);
    const total = lanes.flat().length;
    let done = 0;
    const findings = await runChecks(lanes, io.signal, () => bar.update(++done, total)).finally(
      () => bar.stop(),
    );
    io.stdout.write(options.json ? `${JSON.stringify({ findings })}\n` : linesOf(findings));
    const failed = findings.filter(({ level }) => level === 'fail').length;
    if (failed === 0) return;
    const checks = failed === 1 ? '1 check' : `${failed} checks`;
    throw new UserError(`${checks} failed; see the lines that begin with fail`, EXIT_FAILURE);
  },
});

/** More of a check that reads or writes where the data directory is. */
const ofDisk = { whenLate: 'look whether that disk still answers, or give a --dir on another' };

/** A check of the usual kind; `more` is what is unusual. */
function one(name: string, run: Check['run'], more: Partial<Check> = {}): Check {
  return { name, run, deadlineMs: DEADLINE_MS, whenLate: AGAIN, ...more };
}

/** Lanes run beside each other; what computes does not run beside what computes. */
async function lanesFor(
  options: DoctorOptions,
  manifest: Manifest | null,
  columns: ColumnNames,
): Promise<Check[][]> {
  const { dir, data, swarmKey } = options;
  const directory = new DataDirectory(dir);
  const holder = await holderOf(dir);
  // Within the time of the checks that wait for it.
  const asking = holder === null ? Promise.resolve(null) : statusOf(dir);
  let planning: Promise<Plan> | null = null;
  // Once for all checks; a model that cannot be read is told by the check of the model.
  const plan = (): Promise<Plan> => (planning ??= planFor(options, manifest, columns));
  const machine = [
    one('node', async () => [checkNode(process.versions.node, await oldestNode())]),
    one('processor', () => Promise.resolve([checkThisProcessor()])),
    one('clock', async () => [checkClock(await asking)]),
    one('directory', async () => [await checkWritable(dir)], ofDisk),
    one(
      'disk',
      async () => {
        const system = await fileSystemAt(await nearest(resolve(dir)));
        const size = await plan()
          .then(({ adapter }) => adapterLayout(adapter).size)
          .catch(() => null);
        return [checkSpace(dir, system, size), checkKind(dir, system)];
      },
      ofDisk,
    ),
    one('data', () => checkData(data, columns), {
      whenLate: 'murmurate data check FILE..., which takes its time and says how far it is',
    }),
    one('model cache', async () => [await checkModelCache(process.env)]),
    one('swarm key', () => checkSwarmKey(swarmKey, directory.pathOf('swarmKey'))),
  ];
  const computing = [
    one('model', async () => [await checkModel(await modelOf(options))]),
    one('memory', async () => memoryFindings(await plan(), options)),
    one('speed', async (signal) => [await checkSpeed(await plan(), signal)], {
      deadlineMs: LONG_MS,
      whenLate: 'give a smaller --batch-size or --sequence-length, or free this machine (top)',
    }),
    ...DEVICES.map((device) =>
      one(device, (signal) => checkDevice(device, options.device, threadsOf(options), signal), {
        whenLate: `${AGAIN}; where that is no help, its driver may hang: --device cpu`,
      }),
    ),
    // Last: nothing hangs on it.
    ...fittingChecks(options, plan),
  ];
  const own = [
    one('addresses', () => Promise.resolve([checkAddresses(ownAddresses())])),
    one('router', async (signal) => [await checkRouter(signal)]),
  ];
  const network = [
    one(
      'network',
      async (signal) => {
        const path = swarmKey ?? directory.pathOf('swarmKey');
        const key = await readSwarmKey(path).catch(() => null);
        const { listen, bootstrap: contacts } = options;
        const running = holder === null ? null : { holder, report: await asking };
        return checkNetwork({ listen, contacts, swarmKey: key, running }, signal);
      },
      { deadlineMs: LONG_MS },
    ),
  ];
  return [machine, computing, own, network];
}

/** Of the model that was chosen; of none, one for each of a few that many people want. */
function fittingChecks(options: DoctorOptions, plan: () => Promise<Plan>): Check[] {
  const names = options.model === null ? WANTED : [null];
  return names.map((name) =>
    one('fits', async () => {
      const planned = await plan();
      const fitted =
        name === null ? { ...planned, name: planned.model.name } : wellKnown(name, planned);
      const room = isGpu(options.device) ? await gpuRoomNow(options.device, options) : roomNow();
      return [await checkFit(fitted, room)];
    }),
  );
}

/** Of the device that is asked for; under auto of the processor, and of the first GPU that may be there. */
async function memoryFindings(plan: Plan, options: DoctorOptions): Promise<Finding[]> {
  const { device } = options;
  if (device === 'tfjs') return [warn('nothing is known of the memory that tfjs takes')];
  if (device !== 'auto') {
    const room = isGpu(device) ? await gpuRoomNow(device, options) : roomNow();
    return [await checkMemory(plan, room)];
  }
  const onCpu = await checkMemory(plan, roomNow());
  const gpu = GPU_DEVICES.find((one) => lackOf(one) === null);
  if (gpu === undefined) return [onCpu];
  const onIt = await checkMemory(plan, await gpuRoomNow(gpu, options));
  // The processor takes over what it has no room for.
  return [onCpu, onIt.level === 'fail' ? warn(onIt.text) : onIt];
}

async function gpuRoomNow(
  device: Device,
  { gpuMemory: asked }: DoctorOptions,
): Promise<MachineMemory> {
  return onGpu(device, await gpuMemory(device, gpuBytes(asked)), true);
}

function roomNow(): MachineMemory {
  return { processBytes: process.memoryUsage.rss(), free: freeMemory(), refuse: true };
}

/** What the run and the peer in --dir say takes the place of what nobody gave; a damaged directory is told by its checks. */
async function withStored(
  options: DoctorOptions,
  given: ReadonlySet<string>,
): Promise<{ options: DoctorOptions; manifest: Manifest | null; columns: ColumnNames }> {
  const none: Stored = { manifest: null, settings: null };
  const { manifest, settings } = await readStored(options.dir).catch((): Stored => none);
  const model = options.model ?? settings?.modelDir ?? null;
  const data = options.data.length > 0 ? options.data : (settings?.dataFiles ?? []);
  const columns = columnsInForce(options, given, settings);
  return { options: { ...inForce(options, given, manifest), model, data }, manifest, columns };
}

/** A directory, the embedded model, or a name whose model is in the cache: nothing is fetched here. Throws UserError. */
async function modelOf({ model }: DoctorOptions): Promise<ModelDirectory> {
  if (model === null) return openModelDirectory(EMBEDDED_MODEL_DIRECTORY);
  const wanted = await hubNameMeant(model);
  if (wanted === null) return openModelDirectory(model);
  const cache = new ModelCache(cacheDirectoryOf(process.env), wanted.name);
  const commit = await cache.commitOf(wanted.revision ?? 'main');
  const snapshot = commit === null ? null : cache.snapshot(commit);
  if (snapshot !== null && (await isModelDirectory(snapshot))) return openModelDirectory(snapshot);
  throw new UserError(
    `the model ${model} is not here yet, so that nothing of it can be checked; fetch it: ` +
      `murmurate generate --base --model ${model} Hello`,
  );
}

/** What start would train with these options. Throws UserError for a model that cannot be used. */
export async function planFor(
  options: DoctorOptions,
  manifest: Manifest | null = null,
  columns: ColumnNames = columnsOf(options),
  signal: AbortSignal = AbortSignal.timeout(DEADLINE_MS),
): Promise<Plan> {
  const model = await modelOf(options);
  const run = { ...defaultsOf(runOptions), ...options };
  const modules = manifest?.adapter.modules ?? loraModules(model.config, run.targetModules);
  const { rank, batchSize, steps, data } = run;
  const alpha = loraAlpha(run);
  const plan = planOf(model, { rank, alpha, modules, batchSize, steps, options });
  // What is wrong with the data, their own check says.
  const auto = async (): Promise<number> =>
    data.length === 0
      ? plan.training.sequenceLength
      : autoSequenceLength({ plan, data, columns }, signal).then(
          ({ tokens }) => tokens,
          () => plan.training.sequenceLength,
        );
  const sequenceLength = run.sequenceLength === 'auto' ? await auto() : run.sequenceLength;
  return { ...plan, training: { ...plan.training, sequenceLength } };
}

/** Of the peer that runs in `dir`; null when it does not answer. */
async function statusOf(dir: string): Promise<StatusReport | null> {
  return storedUrl(dir)
    .then(fetchStatus)
    .catch(() => null);
}

const manifest = z.object({ engines: z.object({ node: z.string() }) });

/** As package.json has it. */
async function oldestNode(): Promise<string> {
  const text = await readFile(join(PACKAGE_DIRECTORY, 'package.json'), 'utf8');
  return manifest.parse(JSON.parse(text)).engines.node;
}

function linesOf(findings: readonly Named[]): string {
  const table = new Table({
    chars: PLAIN,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
  });
  for (const { level, check, text, fix } of findings) {
    table.push([level, check, fix === null ? text : `${text}\ndo: ${fix}`]);
  }
  return `${table.toString().replaceAll(/ +$/gm, '')}\n`;
}

/** No lines between the cells. */
const PLAIN = Object.fromEntries(
  ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right']
    .concat(['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid', 'middle'])
    .map((name) => [name, '']),
);
