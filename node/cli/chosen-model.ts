/** What generate, chat, serve and eval work with: a base model with the swarm's adapter, with another one, or alone; and a device. */
import { checkBaseModel, openBaseModel, type BaseModel } from '../base-model.js';
import { option, switchOption, text, type OptionValues } from '../config.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import type { Executor, Program } from '../engine/executor.js';
import { graphMemory, type GraphMemory } from '../engine/memory.js';
import { openExecutor } from '../engine/open-executor.js';
import { cacheDirectoryOf } from '../hub/endpoint.js';
import type { ModelToOpen } from '../model/load.js';
import { loraModules, type AdapterShape } from '../model/lora.js';
import { openModelDirectory, type ModelDirectory } from '../model/model-directory.js';
import { openPackedWeights } from '../model/packed/open.js';
import { readPeftAdapter } from '../model/peft.js';
import type { WeightIndex } from '../model/safetensors.js';
import type { WeightFormat } from '../model/weight-format.js';
import { adapterLayout } from '../../protocol/adapter.js';
import type { Run } from '../../protocol/manifest.js';
import { adapterUpTo, type AdapterContent } from '../past-adapters.js';
import { readStoredRun } from '../stored-run.js';
import { DataDirectory } from '../store/directory.js';
import { readSettings } from '../store/settings.js';
import { chooseDevice, type DeviceChoice } from '../train/choose-device.js';
import { freeMemory } from '../train/free-memory.js';
import { gpuBytes, gpuMemory, isGpu, onGpu } from '../train/gpu-memory.js';
import type { MachineMemory } from '../train/memory-plan.js';
import { planReading, type ReadingPurpose } from '../train/reading-memory.js';
import {
  formatsFor,
  plannedFormats,
  plannedWeights,
  type WeightChoice,
} from '../train/weight-formats.js';
import { modelDirectory, modelOption } from './base-choice.js';
import { personalOption, readPersonalExperts } from './personal-experts.js';
import {
  deviceOption,
  directoryOption,
  epochOption,
  gpuMemoryOption,
  weightsOption,
} from './peer-options.js';
import { sayPacking } from './slow.js';
import type { VerbCall, VerbIo } from './verb.js';

/** Which model, which adapter on it, and what computes. */
export const modelOptions = {
  ...directoryOption,
  adapter: option(text('DIR'), null, 'use the PEFT adapter in DIR instead of the one in --dir'),
  base: switchOption('use the base model alone'),
  ...epochOption,
  ...personalOption,
  model: { ...modelOption.model, defaultText: 'the one of --dir, or the embedded tiny-base' },
  ...deviceOption,
  ...weightsOption,
  ...gpuMemoryOption,
} as const;
type ModelOptions = OptionValues<typeof modelOptions>;

/** A model that is read but for its weights, and the adapter on it. */
export interface ChosenModel extends Omit<ModelToOpen, 'executor'> {
  directory: ModelDirectory;
  /** Absolute path of the base model. */
  dir: string;
  /** [adapterSize] float32; zero for the base model alone. */
  theta: Float32Array;
  /** Where the adapter comes from. */
  source: 'swarm' | 'adapter' | 'none';
  /** Of the swarm's adapter; else null. */
  run: Run | null;
  /** What the swarm's adapter is the fold of; else null. */
  content: AdapterContent | null;
  /** The epoch that was asked for; null for the newest. */
  epoch: number | null;
  /** With --personal: what is mixed with the swarm's adapter, [adapterSize] float32 each; else null. */
  own: readonly Float32Array[] | null;
}

/** What is mixed when `theta`, [adapterSize] float32, is the adapter; null without --personal. */
export function expertsOf(
  { own }: Pick<ChosenModel, 'own'>,
  theta: Float32Array,
): readonly Float32Array[] | null {
  return own === null ? null : [theta, ...own];
}

/** What people call it. */
export function nameOf({ source, own }: Pick<ChosenModel, 'source' | 'own'>): string {
  return own === null ? source : 'personal';
}

/**
 * Throws UserError: --base with --adapter (wrong usage), --dir without a run, a model or adapter that
 * cannot be used, or a model that is not the run's.
 */
export async function chooseModel({
  options,
  given,
  io,
}: Pick<VerbCall<typeof modelOptions>, 'given' | 'io'> & {
  options: ModelOptions;
}): Promise<ChosenModel> {
  if (options.base && options.adapter !== null) {
    throw new UserError('--base and --adapter exclude each other; give one of them', EXIT_USAGE);
  }
  if (options.epoch !== null && (options.base || options.adapter !== null)) {
    throw new UserError(
      '--epoch is of the swarm’s adapter in --dir; give it without --base and --adapter',
      EXIT_USAGE,
    );
  }
  if (options.personal && (options.base || options.adapter !== null)) {
    throw new UserError(
      '--personal is of the swarm’s adapter in --dir; give it without --base and --adapter',
      EXIT_USAGE,
    );
  }
  const settings = await readSettings(new DataDirectory(options.dir));
  const base = await openBaseModel(await modelDirectory(options.model, settings, io));
  // Somebody who has no peer yet may try the model: said on stderr, so that nobody takes it for a swarm's.
  const isHomeless =
    !given.has('dir') &&
    options.epoch === null &&
    !options.personal &&
    (await new DataDirectory(options.dir).readManifest()) === null;
  if (isHomeless && !options.base && options.adapter === null) {
    io.stderr.write(`${options.dir} holds no run: this is the base model alone\n`);
  }
  const chosen = await chooseAdapter(base, {
    ...options,
    base: options.base || (isHomeless && options.adapter === null),
  });
  const directory = await openModelDirectory(base.dir);
  const { config, weights } = directory;
  return { directory, dir: base.dir, config, weights, ...chosen };
}

/** What computes, and the weights that it computes with. */
export interface OpenedDevice {
  executor: Executor;
  /**
   * The model with its weights in the format that was asked for, or else in the most exact one with which the graph of
   * `build` fits: decided by the first graph. Says on stderr what the graph takes, and how far packing the weights is.
   * Throws UserError with the sizes when it does not fit, and when packed weights cannot be written; `io.signal.reason`.
   */
  ready: (
    build: (model: ModelToOpen) => Promise<Program>,
    purpose: ReadingPurpose,
  ) => Promise<ModelToOpen>;
}

/** What the user says of the device; GB of a GPU's memory that may be used, null for all that is free. */
export interface ComputingChoice {
  readonly device: DeviceChoice;
  readonly weights: WeightChoice;
  readonly gpuMemory: number | null;
}

function machineNow(): MachineMemory {
  return { processBytes: process.memoryUsage.rss(), free: freeMemory(), refuse: true };
}

/**
 * What computes with `chosen`, and on stderr why that. `threads`: CPU threads, 1 to 256. Throws UserError when the
 * device that is asked for cannot be had or can't compute with such weights, `io.signal.reason`.
 */
export async function openDevice(
  chosen: ChosenModel,
  { device: asked, weights: choice, gpuMemory: gigabytes }: ComputingChoice,
  threads: number,
  io: VerbIo,
): Promise<OpenedDevice> {
  const { device, why } = await chooseDevice(
    { device: asked, threads, weights: choice },
    io.signal,
  );
  const executor = await openExecutor({ device, threads });
  if (why !== null) io.stderr.write(`device: ${executor.device}; ${why}\n`);
  const { directory } = chosen;
  const formats = plannedFormats(device, directory.weights);
  const inFormat = (weightFormat: WeightFormat, weights: WeightIndex): ModelToOpen => ({
    ...chosen,
    ...{ weights, weightFormat, executor },
  });
  let known: { format: WeightFormat; weights: WeightIndex } | null = null;
  return {
    executor,
    ready: async (build, purpose) => {
      const graph = async (format: WeightFormat): Promise<GraphMemory> =>
        graphMemory(await build(inFormat(format, plannedWeights(directory, format))));
      let [format] = formatsFor(device, directory.weights);
      if (device !== 'tfjs') {
        const machine = isGpu(device)
          ? onGpu(device, await gpuMemory(device, gpuBytes(gigabytes)), true)
          : machineNow();
        const plan = await planReading(
          { formats, graph },
          known?.format ?? choice,
          purpose,
          machine,
        );
        io.stderr.write(`${plan.sentence}\n`);
        format = plan.format;
      }
      known ??= { format, weights: await packed(directory, format, io) };
      return inFormat(format, known.weights);
    },
  };
}

/** The weights in `format`, from a packed copy where it needs one, which is made where there is none. */
function packed(directory: ModelDirectory, format: WeightFormat, io: VerbIo): Promise<WeightIndex> {
  const say = sayPacking(io.stderr);
  return openPackedWeights({
    ...{ directory, format, signal: io.signal, cacheDir: cacheDirectoryOf(process.env) },
    onProgress: ({ done, total }) => say({ packed: done, total }),
    say: (sentence) => void io.stderr.write(`${sentence}\n`),
  });
}

type ChosenAdapter = Pick<
  ChosenModel,
  'adapter' | 'theta' | 'source' | 'run' | 'content' | 'epoch' | 'own'
>;

async function chooseAdapter(
  base: BaseModel,
  options: Pick<ModelOptions, 'base' | 'adapter' | 'dir' | 'epoch' | 'personal'>,
): Promise<ChosenAdapter> {
  const { epoch } = options;
  const none = { run: null, content: null, epoch, own: null };
  if (options.base) return { ...zeroAdapter(base), source: 'none', ...none };
  if (options.adapter !== null) {
    const { rank, alpha, modules, theta } = await readPeftAdapter(options.adapter);
    return { adapter: { rank, alpha, modules }, theta, source: 'adapter', ...none };
  }
  const stored = await readStoredRun(options.dir);
  const { run } = stored;
  checkBaseModel(run, base);
  const { theta, ...content } = adapterUpTo(stored, epoch);
  let own: Float32Array[] | null = null;
  if (options.personal) {
    const { continued, alone } = await readPersonalExperts(options.dir, run);
    own = [continued, alone];
  }
  return { adapter: run.manifest.adapter, theta, source: 'swarm', run, content, epoch, own };
}

/** An adapter that changes nothing: lora_A and lora_B zero. */
function zeroAdapter({ config }: BaseModel): { adapter: AdapterShape; theta: Float32Array } {
  const modules = loraModules(config, ['all-linear']).slice(0, 1);
  const adapter = { rank: 1, alpha: 1, modules };
  return { adapter, theta: new Float32Array(adapterLayout(adapter).size) };
}
