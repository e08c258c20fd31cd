/** murmurate simulate: a whole swarm on this machine, under virtual time, with faults and hostile peers on demand. */
import Table from 'cli-table3';
import { availableParallelism } from 'node:os';
import { adapterLayout } from '../../protocol/adapter.js';
import { sha256 } from '../../protocol/bytes.js';
import { InvalidManifestError } from '../../protocol/errors.js';
import { ROBUST_AUTHORS_MAX } from '../../protocol/limits.js';
import { encodeManifest } from '../../protocol/manifest-codec.js';
import type { ModelFingerprint, Run } from '../../protocol/manifest.js';
import { openBaseModel } from '../base-model.js';
import { checkData } from '../compose-trainer.js';
import {
  choice,
  defaultsOf,
  integer,
  matching,
  option,
  real,
  switchOption,
  type OptionValues,
} from '../config.js';
import { DATA_FILE_KINDS } from '../data/sources.js';
import { openExecutor } from '../engine/open-executor.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { loraModules } from '../model/lora.js';
import { openModelDirectory } from '../model/model-directory.js';
import { ATTACK_NAMES, ATTACKS, needsText, type Attack } from '../sim/attacks.js';
import { DEALS, dealRecords } from '../sim/deal.js';
import { simIdentity } from '../sim/identity.js';
import { ModelWorkload } from '../sim/model-workload.js';
import { simulate, type Simulation, type SimulationResult } from '../sim/simulate.js';
import { SYNTHETIC_MODULES, SyntheticWorkload, type Workload } from '../sim/workload.js';
import { columnOptions, columnsOf, dataText, sayDataFiles } from './data-options.js';
import { manifestFromOptions, type FoundingContext } from './found-run.js';
import { modelDirectory, modelOption } from './base-choice.js';
import { jsonOption, peerOptions, threadsOption } from './peer-options.js';
import { runOptions } from './run-options.js';
import { DEFAULT_TOKENS, sequenceLengthOf, usualRequest } from './sequence-length.js';
import { createBar } from './slow.js';
import { defineVerb, type VerbIo } from './verb.js';

/** Length of an epoch in virtual time: it costs nothing. */
const EPOCH_MS = 10_000;
/** 2026-01-01T00:00:00Z. */
const START_MS = 1_767_225_600_000;

const simulateOptions = {
  peers: option(integer('N', 2, ROBUST_AUTHORS_MAX), 10, 'peers, hostile ones among them'),
  seed: option(integer('N', 0, 2 ** 32 - 1), 1, 'of everything that is drawn'),
  synthetic: switchOption('train on a synthetic problem instead of a language model: fast'),
  ...modelOption,
  data: { ...peerOptions.data, help: `text to train on, dealt to the peers: ${DATA_FILE_KINDS}` },
  ...columnOptions,
  deal: option(
    choice(DEALS),
    'lines',
    'lines: all examples are shuffled and dealt; files: the peers take files in turn',
  ),
  heldOut: peerOptions.heldOut,
  blind: switchOption(
    'the peers measure no loss before the end: faster, but nobody can be named for harm',
  ),
  attack: option(choice(ATTACK_NAMES), null, 'what the hostile peers do', 'nobody is hostile'),
  attackers: option(real('SHARE', 0, 0.5), 0.2, 'share of the peers that is hostile'),
  open: switchOption(
    'an open run instead of one of listed members: the hostile peers may be one person with many keys',
  ),
  loss: option(real('SHARE', 0, 1), 0, 'share of gossip messages that a receiver misses'),
  churn: option(
    real('SHARE', 0, 1),
    0,
    'chance of each peer to be killed in an epoch; it comes back within two',
  ),
  slow: option(real('SHARE', 0, 1), 0, 'share of the honest peers that is five times slower'),
  partition: option(
    matching('FROM-TO', /^\d{1,6}-\d{1,6}$/, 'two epochs, like 5-10'),
    null,
    'epochs in which two halves do not hear each other',
    'none',
  ),
  epochs: runOptions.epochs,
  steps: runOptions.steps,
  cohorts: runOptions.cohorts,
  foldAlpha: runOptions.foldAlpha,
  rank: runOptions.rank,
  sequenceLength: runOptions.sequenceLength,
  batchSize: runOptions.batchSize,
  learningRate: runOptions.learningRate,
  fold: runOptions.fold,
  trim: runOptions.trim,
  clip: runOptions.clip,
  ...threadsOption,
  ...jsonOption,
} as const;

export type SimulateOptions = OptionValues<typeof simulateOptions>;

/** What a run of so many peers is made of before anything is opened. */
interface Plan {
  options: SimulateOptions;
  honest: number;
  seed: Uint8Array;
  identities: Simulation['identities'];
}

export const simulateVerb = defineVerb({
  name: 'simulate',
  summary: 'Run a whole swarm on this machine in virtual time, with faults and hostile peers.',
  args: [],
  options: simulateOptions,
  example: `
$ murmurate simulate --synthetic --attack ipm --fold robust --loss 0.2
┌────────────────────────┬─────────────────────────────────────────────┐
│ peers                  │ 10, 2 of them hostile                       │
│ attack                 │ ipm: against the honest mean, twice as long │
│ loss before            │ 0.188                                       │
│ loss at the end        │ 0.015                                       │
│ adapters               │ 1 at 8 honest peers                         │
│ updates in the adapter │ 300                                         │
│ evicted peers          │ 0                                           │
│ sent by a peer         │ 0.2 MB                                      │
└────────────────────────┴─────────────────────────────────────────────┘
loss: mean of the honest peers, above the optimum`,
  run: async ({ options, io }) => {
    const result = await runSimulation(options, io);
    io.stdout.write(
      options.json
        ? `${JSON.stringify({ options, ...result })}\n`
        : tableReport(options, result, hostileCount(options)),
    );
  },
});

/** Throws UserError for options that do not go together, and for a model or data that cannot be used. */
export async function runSimulation(
  options: SimulateOptions,
  io: Pick<VerbIo, 'stderr' | 'terminal' | 'signal'>,
): Promise<SimulationResult> {
  checkOptions(options);
  const label = `simulate/${options.seed}`;
  const seed = sha256(new TextEncoder().encode(label));
  const identities = Array.from({ length: options.peers }, (_, i) => simIdentity(i, label));
  const plan = { options, honest: options.peers - hostileCount(options), seed, identities };
  const { run, workload } = await open(plan, io);
  const bar = createBar(io, 'simulating epoch');
  try {
    const simulation = {
      ...{ run, identities, honest: plan.honest, attack: options.attack, workload, seed },
      isBlind: options.blind,
      loss: options.loss,
      churn: options.churn,
      slow: Math.round(options.slow * plan.honest),
      partition: partitionOf(options.partition),
    };
    return await simulate(simulation, bar.update, io.signal);
  } finally {
    bar.stop();
    await workload.close();
  }
}

function hostileCount({ peers, attack, attackers }: SimulateOptions): number {
  return attack === null ? 0 : Math.round(peers * attackers);
}

function checkOptions(options: SimulateOptions): void {
  const { attack, synthetic, peers, attackers } = options;
  if (attack !== null && hostileCount(options) === 0) {
    throw new UserError(
      `--attackers ${attackers} of --peers ${peers} is no peer; give a larger share or more peers`,
      EXIT_USAGE,
    );
  }
  if (attack !== null && synthetic && needsText(attack)) {
    throw new UserError(
      `--attack ${attack} is made of text, and --synthetic has none; leave one of them out`,
      EXIT_USAGE,
    );
  }
  if (!synthetic) checkData(options.data);
  const partition = partitionOf(options.partition);
  if (partition !== null && partition.from >= partition.to) {
    throw new UserError(
      `--partition is "${options.partition}"; its first epoch must be before its second`,
      EXIT_USAGE,
    );
  }
}

function partitionOf(text: string | null): Simulation['partition'] {
  if (text === null) return null;
  const [from = 0, to = 0] = text.split('-').map(Number);
  return { from, to };
}

async function open(
  plan: Plan,
  io: Pick<VerbIo, 'stderr' | 'terminal' | 'signal'>,
): Promise<{ run: Run; workload: Workload }> {
  const { options, honest, seed } = plan;
  if (options.synthetic) {
    const run = found(plan, SYNTHETIC_MODULES, {
      ...{ hiddenSize: 41, fingerprint: NO_MODEL, sequenceLength: DEFAULT_TOKENS },
    });
    const { size } = adapterLayout(run.manifest.adapter);
    return { run, workload: new SyntheticWorkload(honest, size, seed) };
  }
  const base = await openBaseModel(await modelDirectory(options.model, null, io));
  const { config, fingerprint, dir } = base;
  const modules = loraModules(config, ['all-linear']);
  const files = await sayDataFiles(options.data, io.stderr);
  const sequenceLength = await sequenceLengthOf(
    options.sequenceLength,
    async () =>
      usualRequest(await openModelDirectory(dir), files, columnsOf(options), {
        ...{ rank: options.rank, batchSize: options.batchSize, steps: options.steps },
      }),
    io.stderr,
    io.signal,
  );
  const { hiddenSize } = config;
  const run = found(plan, modules, { hiddenSize, fingerprint, sequenceLength });
  const dealt = await dealRecords(files, options.peers, options.deal, seed, columnsOf(options));
  const attack: Attack | null = options.attack === null ? null : ATTACKS[options.attack];
  const hands = dealt.map((hand, i) => (i < honest ? hand : (attack?.poison?.(hand) ?? hand)));
  const threads = options.threads ?? availableParallelism();
  const workload = await ModelWorkload.open({
    columns: columnsOf(options),
    ...{ modelDir: dir, hands, honest, seed, signal: io.signal },
    executor: await openExecutor({ device: 'cpu', threads }),
    manifest: run.manifest,
    heldOutShare: options.heldOut,
  });
  io.stderr.write(`data: ${dataText(workload.stats, run.manifest.training)}\n`);
  return { run, workload };
}

/** The manifest that `start` would write for these options, closed to all but the simulated peers unless it is open. */
function found(
  { options, identities, seed }: Plan,
  modules: FoundingContext['modules'],
  model: Pick<FoundingContext, 'hiddenSize' | 'fingerprint'> & { sequenceLength: number },
): Run {
  const ids = identities.map(({ peerId }) => peerId);
  const context = {
    ...model,
    founder: ids[0] ?? '',
    targetModules: [...new Set(modules.map(({ name }) => name.split('.').at(-1) ?? ''))],
    modules,
    files: null,
    startMs: START_MS,
    epochMs: EPOCH_MS,
  };
  const all = {
    ...defaultsOf(runOptions),
    ...options,
    sequenceLength: model.sequenceLength,
    name: 'simulation',
    allow: options.open ? [] : ids,
  };
  const adapterSeed = Buffer.from(seed).toString('hex');
  try {
    return encodeManifest(
      manifestFromOptions({ ...all, seed: adapterSeed, forceRobust: true }, context),
    );
  } catch (cause) {
    if (!(cause instanceof InvalidManifestError)) throw cause;
    throw new UserError(`no such run can be founded: ${cause.message}`, EXIT_USAGE, { cause });
  }
}

const NO_HASH = '00'.repeat(32);
const NO_MODEL: ModelFingerprint = {
  name: 'synthetic',
  architecture: 'llama',
  configSha256: NO_HASH,
  weightsSha256: NO_HASH,
  tokenizerSha256: NO_HASH,
};

function namedText({ named, namedAfter }: SimulationResult): string {
  const known = namedAfter.filter((epoch) => epoch !== null);
  const when = known.length === 0 ? '' : ` (from epoch ${Math.min(...known)} on)`;
  return `${known.length} hostile${when}, honest ${named.honest} times`;
}

function tableReport(
  { peers, attack, synthetic }: SimulateOptions,
  result: SimulationResult,
  hostile: number,
): string {
  const { lossBefore, lossAfter, hashes, updates, evicted, backdoorSuccess, bytes } = result;
  const adapters = Object.values(hashes);
  const table = new Table({ style: { head: [], border: [], compact: true } });
  const number = (loss: number | null): string => (loss === null ? '-' : loss.toFixed(3));
  table.push(
    ['peers', `${peers}, ${hostile} of them hostile`],
    ['attack', attack === null ? 'none' : `${attack}: ${ATTACKS[attack].what}`],
    ['loss before', number(lossBefore)],
    ['loss at the end', number(lossAfter)],
    ['adapters', `${adapters.length} at ${adapters.reduce((a, b) => a + b, 0)} honest peers`],
    ['updates in the adapter', updates],
    ['evicted peers', evicted],
    ['named by honest peers', namedText(result)],
    ['sent by a peer', `${(bytes / peers / 1e6).toFixed(1)} MB`],
  );
  if (attack === 'backdoor' && backdoorSuccess !== null) {
    table.push(['trigger obeyed', `${Math.round(100 * backdoorSuccess)} %`]);
  }
  const unit = synthetic ? 'above the optimum' : 'in nats per held-out token';
  return `${table.toString()}\nloss: mean of the honest peers, ${unit}\n`;
}
