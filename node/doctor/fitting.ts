/** What fits into this machine's memory: the model that is chosen, or else a few that many people want to train. */
import { UserError } from '../errors.js';
import { readModelConfig } from '../model/config.js';
import { loraModules } from '../model/lora.js';
import type { PackedModel } from '../model/packed/layout.js';
import type { WeightFormat } from '../model/weight-format.js';
import { longestSequence, planMemory } from '../train/memory.js';
import { fits, needed, size, type MachineMemory, type MemoryPlan } from '../train/memory-plan.js';
import { plannedFormats, plannedWeights } from '../train/weight-formats.js';
import { needsOf, type Planned } from './computing.js';
import { ok, warn, type Finding } from './finding.js';
import { configJson, namedShape, weightsOf } from './model-shapes.js';

/** Tokens of the sequences that are tried first. */
const TOKENS = 2048;

/** From small to large: what they have in common with others of their size is what matters here. */
export const WANTED = ['Qwen2.5-0.5B', 'Llama-3.2-1B', 'Gemma-3-4B', 'Qwen2.5-7B', 'Llama-3.1-8B'];

const OPEN = { most: 'auto', memory: 'auto', weights: 'auto' } as const;

/** A model, and the adapter that would be trained on it. */
export interface Fitted extends Planned {
  readonly name: string;
}

/** `planned` with the model called `name` of model-shapes.ts, and an adapter on all of its linear layers. */
export function wellKnown(name: string, planned: Planned): Fitted {
  const shape = namedShape(name);
  const config = readModelConfig(JSON.stringify(configJson(shape)), name);
  const model: PackedModel = { config, weights: weightsOf(config, shape) };
  const adapter = { ...planned.adapter, modules: loraModules(config, ['all-linear']) };
  return { ...planned, name, model, adapter };
}

/**
 * E.g. "Qwen2.5-7B: fits with --weights int4 at 2,048 tokens (7.4 of 22 GB)": one sequence at a time, the most exact
 * format of 2,048 tokens, or else the longest sequences of the smallest one.
 */
export async function checkFit(fitted: Fitted, machine: MachineMemory): Promise<Finding> {
  const { name, model } = fitted;
  const most = Math.min(TOKENS, model.config.maxPositions);
  const formats = possible(model, machine);
  const needs = {
    ...(await needsOf(fitted, machine.gpu?.device)),
    formats,
    batchSize: 1,
    replications: [],
  };
  const planFor = async (sequenceLength: number): Promise<MemoryPlan | null> => {
    try {
      return await planMemory({ ...needs, sequenceLength }, OPEN, machine);
    } catch (error) {
      if (error instanceof UserError) return null;
      throw error;
    }
  };
  let plan = await planFor(most);
  if (plan === null || !fits(plan)) {
    const tokens = await longestSequence(needs, OPEN, machine, most);
    plan = (tokens === null ? null : await planFor(tokens)) ?? plan;
  }
  if (plan === null) {
    return warn(`${name}: does not fit, with any --weights and the shortest sequences`);
  }
  const { format, sequenceLength, process, free } = plan;
  const room = free + process;
  const how = `with --weights ${format} at ${sequenceLength.toLocaleString('en-US')} tokens`;
  const sizes = `(${inGb(needed(plan) + process)} of ${size(room)})`;
  return fits(plan)
    ? ok(`${name}: fits ${how} ${sizes}`)
    : warn(`${name}: slow ${how} ${sizes}: each step reads weights from the disk again`);
}

/** Formats whose weights alone are not more than what is free, and the smallest in any case: no graph need be built. */
function possible(model: PackedModel, { free, gpu }: MachineMemory): readonly WeightFormat[] {
  const formats = plannedFormats(gpu?.device ?? 'cpu', model.weights);
  return formats.filter(
    (format, i) => i === formats.length - 1 || weightBytes(model, format) <= free,
  );
}

function weightBytes(model: PackedModel, format: WeightFormat): number {
  let bytes = 0;
  for (const { dtype, length, scales } of plannedWeights(model, format).values()) {
    const isWidened = format === 'fp32' && dtype !== 'F32';
    bytes += (isWidened ? 2 : 1) * length + (scales?.length ?? 0);
  }
  return bytes;
}

/** Without its unit. */
function inGb(bytes: number): string {
  return (bytes / 1e9).toFixed(1);
}
