/** Checks of what computes: whether training fits into memory, which devices there are, how fast a step is. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { openTrainer, type TrainerOptions, type TrainerRun } from '../compose-trainer.js';
import { lackOf, remedyFor, type Device } from '../engine/devices.js';
import { openExecutor } from '../engine/open-executor.js';
import { TIMED_SEQUENCES, TRIAL_TOKENS } from '../engine/trial.js';
import { UserError } from '../errors.js';
import { createLogger } from '../log.js';
import { openLanguageModel } from '../model/language-model.js';
import { loraModules } from '../model/lora.js';
import { openModelDirectory, type ModelDirectory } from '../model/model-directory.js';
import type { PackedModel } from '../model/packed/layout.js';
import { fastestWays } from '../train/accumulate.js';
import { probeDevice, type DeviceWorld } from '../train/choose-device.js';
import { graphMemory } from '../engine/memory.js';
import { isGpu } from '../train/gpu-memory.js';
import { longestSequence, planMemory, whatFits } from '../train/memory.js';
import {
  fits,
  type MachineMemory,
  type MemoryNeeds,
  type MemoryPlan,
  type MemoryRequest,
} from '../train/memory-plan.js';
import { describePlan, explainWeights } from '../train/memory-words.js';
import { isHalf, plannedFormats, plannedWeights } from '../train/weight-formats.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../version.js';
import { adapterLayout, type AdapterSpec } from '../../protocol/adapter.js';
import type { Training } from '../../protocol/manifest.js';
import { fail, ok, warn, type Finding } from './finding.js';

/** What would be trained, and how. */
export interface Plan {
  model: ModelDirectory;
  adapter: AdapterSpec;
  training: Training;
  /** Of an epoch. */
  steps: number;
  options: Omit<TrainerOptions, 'data' | 'heldOut'>;
}

/** What of a plan decides what training takes; of the model no more than its config and the headers of its files. */
export interface Planned {
  model: PackedModel;
  adapter: AdapterSpec;
  training: Training;
  options: Pick<TrainerOptions, 'threads'>;
}

/** What training on `device` is planned with. */
export async function needsOf(
  { model, adapter, training, options }: Planned,
  device: Device = 'cpu',
): Promise<MemoryNeeds> {
  const { config, weights } = model;
  const { batchSize, sequenceLength } = training;
  const executor = await openExecutor({ device, threads: 1 });
  return {
    ...{ batchSize, sequenceLength, adapterSize: adapterLayout(adapter).size },
    ...(isGpu(device)
      ? { fastest: batchSize, replications: [] }
      : fastestWays(batchSize, sequenceLength, threadsOf(options))),
    ...{ formats: plannedFormats(device, weights), isHalf: isHalf(weights) },
    graphs: async ({ microBatch, format, ...shape }) => {
      const opened = await openLanguageModel({
        ...{ config, weights: plannedWeights(model, format), weightFormat: format },
        ...{ adapter, executor, ...shape, batchSize: microBatch },
      });
      return [graphMemory(opened.program('gradient'))];
    },
  };
}

/** How training would use memory. Throws UserError with the sizes when it does not fit into `machine`. */
export async function planTraining(plan: Plan, machine: MachineMemory): Promise<MemoryPlan> {
  return planMemory(await needsOf(plan, machine.gpu?.device), requestOf(plan), machine);
}

/**
 * The longest sequences up to `most` tokens that fit one at a time; null where not even the shortest do. Throws what
 * planTraining does.
 */
export async function longestThatFits(
  plan: Plan,
  machine: MachineMemory,
  most: number,
): Promise<number | null> {
  return longestSequence(await needsOf(plan, machine.gpu?.device), requestOf(plan), machine, most);
}

function requestOf({ options: { microBatch: most, memory, weights } }: Plan): MemoryRequest {
  return { most, memory, weights };
}

/** In the memory of the processor, or of the GPU that `machine` is. */
export async function checkMemory(plan: Plan, machine: MachineMemory): Promise<Finding> {
  try {
    const planned = await planTraining(plan, machine);
    const why = explainWeights(planned);
    const text = `${describePlan(planned)}${why === null ? '' : `; ${why}`}`;
    const isLow = planned.memory === 'low' && plan.options.memory === 'auto';
    return isLow || !fits(planned) ? warn(text) : ok(text);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const needs = await needsOf(plan, machine.gpu?.device);
    const remedy = await whatFits(needs, requestOf(plan), machine);
    const fix =
      remedy.plan !== null
        ? `murmurate start ${remedy.options}`
        : remedy.sequenceLength !== null
          ? `murmurate start --sequence-length ${remedy.sequenceLength}`
          : `${machine.gpu === undefined ? '' : 'use --device cpu, or '}take a smaller --model`;
    return fail(error.message, fix);
  }
}

/**
 * Whether a device can be had, and the speed of a small step there; nothing where this platform has none. One that is
 * missing is a failure only when it is the one that is `asked` for.
 */
export async function checkDevice(
  device: Device,
  asked: Device | 'auto',
  threads: number,
  signal: AbortSignal,
  world: DeviceWorld = { lackOf, probe: probeDevice },
): Promise<Finding[]> {
  const missing = (reason: string): Finding => {
    const text = `${device} cannot be had: ${reason}`;
    return device === asked ? fail(text, remedyFor(device)) : ok(text);
  };
  const lack = world.lackOf(device);
  if (lack !== null) return lack.isOfPlatform && device !== asked ? [] : [missing(lack.reason)];
  const report = await world.probe(device, { threads, isTimed: true }, signal);
  if (report.kind === 'fails') return [missing(report.reason)];
  const { deviceMs, cpuMs } = report.times ?? { deviceMs: NaN, cpuMs: NaN };
  const speed = Math.round((TIMED_SEQUENCES * TRIAL_TOKENS * 1000) / deviceMs);
  const beside = device === 'cpu' ? '' : `, and on the CPU ${cpuMs.toFixed(1)} ms`;
  const step = `a small trial step takes ${deviceMs.toFixed(1)} ms (${speed} tokens/s)${beside}`;
  return [ok(`${device} computes right; ${step}`)];
}

/** Words for a text to train on: what they are has no influence on the speed. */
const LINE = `${'The quick brown fox jumps over the lazy dog. '.repeat(8)}\n`;
const LINES = 256;

/** Files of a model larger than that are not read to time a step: packing or loading them takes longer than anyone waits. */
const TIMED_BYTES_MAX = 1e9;

/**
 * A real step in the process that would train: of the model, or of the embedded base where the model is large. Throws
 * UserError, TrainerDiedError, `signal.reason`.
 */
export async function checkSpeed(plan: Plan, signal: AbortSignal): Promise<Finding> {
  const { steps, training, model } = plan;
  const isLarge = fileBytes(model) > TIMED_BYTES_MAX;
  const timed = isLarge ? await onEmbeddedBase(plan) : plan;
  const { ms, device } = await stepMs(timed, signal);
  const { batchSize, sequenceLength } = timed.training;
  const tokens = batchSize * sequenceLength;
  const step = `a step of ${batchSize} x ${sequenceLength} tokens`;
  const took = `takes ${Math.round(ms)} ms (${Math.round((tokens * 1000) / ms)} tokens/s) on ${device}`;
  if (!isLarge) {
    return ok(`${step} ${took}, so ${steps} steps, an epoch, take ${inSeconds(steps * ms)}`);
  }
  // Nearly all of a step is products with weights.
  const times = productsOf(model) / productsOf(timed.model);
  const share = (training.batchSize * training.sequenceLength) / tokens;
  return ok(
    `${step} of the embedded base ${took}; ${model.name} is not loaded to time it, but has ${Math.round(times)} times as ` +
      `many weights to multiply with, so that ${steps} steps, an epoch, take about ${inSeconds(steps * ms * times * share)}`,
  );
}

function inSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 100_000 ? 1 : 0)} s`;
}

async function stepMs(plan: Plan, signal: AbortSignal): Promise<{ ms: number; device: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'murmurate-doctor-'));
  try {
    const file = join(folder, 'text.txt');
    await writeFile(file, LINE.repeat(LINES));
    const { adapter, training, steps, options } = plan;
    const run: TrainerRun = { adapter, training, schedule: { epochsMax: 1, stepsRef: steps } };
    const logger = createLogger({ level: 'silent', format: 'text' });
    const own = { ...options, data: [file], heldOut: 0 };
    const trainer = await openTrainer(plan.model, run, own, '', logger, signal);
    try {
      return { ms: await trainer.measureStepMs(signal), device: trainer.device };
    } finally {
      await trainer.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The same plan for the model that every installation has. */
async function onEmbeddedBase({ adapter, training, ...plan }: Plan): Promise<Plan> {
  const model = await openModelDirectory(EMBEDDED_MODEL_DIRECTORY);
  const modules = loraModules(model.config, ['all-linear']);
  const sequenceLength = Math.min(training.sequenceLength, model.config.maxPositions);
  return {
    ...{ ...plan, model },
    adapter: { ...adapter, modules },
    training: { ...training, sequenceLength },
  };
}

function fileBytes({ weights }: PackedModel): number {
  return [...weights.values()].reduce((sum, { length }) => sum + length, 0);
}

/** Weights that a token is multiplied with, those of the output layer included. */
function productsOf({ config }: PackedModel): number {
  const linear = loraModules(config, ['all-linear']);
  const head = config.vocabSize * config.hiddenSize;
  return linear.reduce((sum, one) => sum + one.inFeatures * one.outFeatures, head);
}

/** As --threads. */
export function threadsOf({ threads }: Pick<TrainerOptions, 'threads'>): number {
  return threads ?? availableParallelism();
}
