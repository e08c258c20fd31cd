/** What generate, chat, serve and eval work with: a base model with the swarm's adapter, with another one, or alone; and a device. */
import { checkBaseModel, openBaseModel, type BaseModel } from '../base-model.js';
import { option, switchOption, text, type OptionValues } from '../config.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import type { Executor, Program } from '../engine/executor.js';
import { openExecutor } from '../engine/open-executor.js';
import type { ModelToOpen } from '../model/load.js';
import { loraModules, type AdapterShape } from '../model/lora.js';
import { openModelDirectory } from '../model/model-directory.js';
import { readPeftAdapter } from '../model/peft.js';
import { adapterLayout } from '../../protocol/adapter.js';
import type { Run } from '../../protocol/manifest.js';
import { adapterUpTo, type AdapterContent } from '../past-adapters.js';
import { readStoredRun } from '../stored-run.js';
import { DataDirectory } from '../store/directory.js';
import { readSettings } from '../store/settings.js';
import { chooseDevice, type DeviceChoice } from '../train/choose-device.js';
import { planReading, type ReadingPurpose } from '../train/reading-memory.js';
import { modelDirectory, modelOption } from './base-choice.js';
import { deviceOption, directoryOption, epochOption } from './peer-options.js';
import type { VerbCall, VerbIo } from './verb.js';

/** Which model, which adapter on it, and what computes. */
export const modelOptions = {
  ...directoryOption,
  adapter: option(text('DIR'), null, 'use the PEFT adapter in DIR instead of the one in --dir'),
  base: switchOption('use the base model alone'),
  ...epochOption,
  model: { ...modelOption.model, defaultText: 'the one of --dir, or the embedded tiny-base' },
  ...deviceOption,
} as const;
type ModelOptions = OptionValues<typeof modelOptions>;

/** A model that is read but for its weights, and the adapter on it. */
export interface ChosenModel extends Omit<ModelToOpen, 'executor'> {
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
  const settings = await readSettings(new DataDirectory(options.dir));
  const base = await openBaseModel(await modelDirectory(options.model, settings, io));
  // Somebody who has no peer yet may try the model: said on stderr, so that nobody takes it for a swarm's.
  const isHomeless =
    !given.has('dir') &&
    options.epoch === null &&
    (await new DataDirectory(options.dir).readManifest()) === null;
  if (isHomeless && !options.base && options.adapter === null) {
    io.stderr.write(`${options.dir} holds no run: this is the base model alone\n`);
  }
  const chosen = await chooseAdapter(base, {
    ...options,
    base: options.base || (isHomeless && options.adapter === null),
  });
  const { weights } = await openModelDirectory(base.dir);
  return { dir: base.dir, config: base.config, weights, ...chosen };
}

/** What computes, and how what it will take is told. */
export interface OpenedDevice {
  executor: Executor;
  /**
   * Says on stderr what a graph will take. Throws UserError with the sizes when it does not fit; of a device other
   * than the CPU nothing is known.
   */
  sayMemory: (program: Program, purpose: ReadingPurpose) => void;
}

/**
 * What computes, and on stderr why that. `threads`: CPU threads, 1 to 256. Throws UserError when the device
 * that is asked for cannot be had, `io.signal.reason`.
 */
export async function openDevice(
  asked: DeviceChoice,
  threads: number,
  io: VerbIo,
): Promise<OpenedDevice> {
  const { device, why } = await chooseDevice({ device: asked, threads }, io.signal);
  const executor = await openExecutor({ device, threads });
  if (why !== null) io.stderr.write(`device: ${executor.device}; ${why}\n`);
  return {
    executor,
    sayMemory: (program, purpose) => {
      if (device === 'cpu') io.stderr.write(`${planReading(program, purpose)}\n`);
    },
  };
}

type ChosenAdapter = Pick<
  ChosenModel,
  'adapter' | 'theta' | 'source' | 'run' | 'content' | 'epoch'
>;

async function chooseAdapter(
  base: BaseModel,
  options: Pick<ModelOptions, 'base' | 'adapter' | 'dir' | 'epoch'>,
): Promise<ChosenAdapter> {
  const { epoch } = options;
  const none = { run: null, content: null, epoch };
  if (options.base) return { ...zeroAdapter(base), source: 'none', ...none };
  if (options.adapter !== null) {
    const { rank, alpha, modules, theta } = await readPeftAdapter(options.adapter);
    return { adapter: { rank, alpha, modules }, theta, source: 'adapter', ...none };
  }
  const stored = await readStoredRun(options.dir);
  const { run } = stored;
  checkBaseModel(run, base);
  const { theta, ...content } = adapterUpTo(stored, epoch);
  return { adapter: run.manifest.adapter, theta, source: 'swarm', run, content, epoch };
}

/** An adapter that changes nothing: lora_A and lora_B zero. */
function zeroAdapter({ config }: BaseModel): { adapter: AdapterShape; theta: Float32Array } {
  const modules = loraModules(config, ['all-linear']).slice(0, 1);
  const adapter = { rank: 1, alpha: 1, modules };
  return { adapter, theta: new Float32Array(adapterLayout(adapter).size) };
}
