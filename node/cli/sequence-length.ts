/** What --sequence-length auto comes to: long enough for nearly all records, as far as model and memory allow. */
import type { Writable } from 'node:stream';
import { defaultsOf } from '../config.js';
import { openChatTemplate } from '../data/chat-template.js';
import type { ColumnNames } from '../data/columns.js';
import { sampleLengths } from '../data/record-lengths.js';
import { openTokenizer } from '../data/tokenizer.js';
import { longestThatFits, type Plan } from '../doctor/computing.js';
import { loraModules } from '../model/lora.js';
import type { ModelDirectory } from '../model/model-directory.js';
import { freeMemory } from '../train/free-memory.js';
import { gpuBytes, gpuMemory, isGpu, onGpu } from '../train/gpu-memory.js';
import { size } from '../train/memory-plan.js';
import type { LoraModule } from '../../protocol/adapter.js';
import { trainingOf } from './found-run.js';
import { peerOptions } from './peer-options.js';
import { loraAlpha, runOptions } from './run-options.js';

/** Where there are no data to look at. */
export const DEFAULT_TOKENS = 128;
/** Lengths are multiples of it, and at least as much. */
const STEP = 64;

/** What would be trained on what; `plan.training.sequenceLength` plays no part. */
export interface AutoLengthRequest {
  readonly plan: Plan;
  readonly data: readonly string[];
  readonly columns: ColumnNames;
}

/** Tokens of a sequence, and why so many. */
export interface AutoLength {
  readonly tokens: number;
  /** One sentence without a full stop. */
  readonly why: string;
}

/**
 * The 95th percentile of the records' lengths, rounded up to a multiple of 64, at most the model's positions, and no more
 * than fits into memory: of the GPU that is asked for, or else of the processor. Throws UserError for paths that are not data files and for a
 * tokenizer that cannot be used, and `signal.reason`.
 */
export async function autoSequenceLength(
  { plan, data, columns }: AutoLengthRequest,
  signal: AbortSignal,
  free = freeMemory(),
): Promise<AutoLength> {
  const { dir, config } = plan.model;
  const tokenizer = await openTokenizer(dir, config);
  const chatTemplate = await openChatTemplate(dir);
  const options = { tokenizer, chatTemplate, columns };
  const { sampled, p95 } = await sampleLengths(data, options, signal);
  if (sampled === 0)
    return known(Math.min(DEFAULT_TOKENS, config.maxPositions), 'no record says more');
  const records = `95 of 100 records have at most ${grouped(p95)} tokens`;
  const wanted = Math.max(STEP, STEP * Math.ceil(p95 / STEP));
  const most = Math.min(wanted, config.maxPositions);
  const positions = `${records}, but the model has ${grouped(config.maxPositions)} positions`;
  const why = most < wanted ? positions : records;
  const { device, gpuMemory: asked = null } = plan.options;
  // A short sequence that does not fit is refused with all that would help.
  if (most <= DEFAULT_TOKENS || device === 'tfjs') return known(most, why);
  // Under auto a GPU that has no room for it is not taken.
  const machine = isGpu(device)
    ? onGpu(device, await gpuMemory(device, gpuBytes(asked)), true)
    : { processBytes: process.memoryUsage.rss(), free, refuse: true };
  const fitting = await longestThatFits(plan, machine, most);
  if (fitting === null || fitting >= most) return known(most, why);
  return known(
    fitting,
    `${records}, but more do not fit into the ${size(machine.free)} of memory that are free`,
  );
}

/**
 * What is asked for, or what auto comes to, which is said in one line. `request` is made only where it is needed.
 */
export async function sequenceLengthOf(
  asked: number | 'auto',
  request: () => Promise<AutoLengthRequest>,
  out: Writable,
  signal: AbortSignal,
): Promise<number> {
  if (asked !== 'auto') return asked;
  const length = await autoSequenceLength(await request(), signal);
  out.write(`${autoLengthText(length)}\n`);
  return length.tokens;
}

/** The default plan for `model`, beside what `options` of a run say. */
export function planOf(
  model: ModelDirectory,
  { rank, alpha, modules, batchSize, steps, ...own }: PlanOptions,
): Plan {
  const run = { ...defaultsOf(runOptions), batchSize, sequenceLength: DEFAULT_TOKENS };
  const names = modules.map(({ name }) => name.slice(name.lastIndexOf('.') + 1));
  return {
    model,
    adapter: {
      ...{ rank, alpha, seed: new Uint8Array(32), targetModules: [...new Set(names)], modules },
    },
    training: trainingOf(run, model.config.hiddenSize),
    steps,
    options: own.options,
  };
}

export interface PlanOptions {
  readonly rank: number;
  readonly alpha: number;
  readonly modules: readonly LoraModule[];
  readonly batchSize: number;
  readonly steps: number;
  /** What a peer decides for itself. */
  readonly options: Plan['options'];
}

/** Of a run with the defaults that start has, beside `changed`. */
export function usualRequest(
  model: ModelDirectory,
  data: readonly string[],
  columns: ColumnNames,
  changed: Partial<Pick<PlanOptions, 'rank' | 'batchSize' | 'steps'>> = {},
): AutoLengthRequest {
  const defaults = defaultsOf(runOptions);
  const { rank, targetModules, batchSize, steps } = { ...defaults, ...changed };
  const modules = loraModules(model.config, targetModules);
  const options = defaultsOf(peerOptions);
  const alpha = loraAlpha({ rank, alpha: defaults.alpha });
  const plan = planOf(model, { rank, alpha, modules, batchSize, steps, options });
  return { plan, data, columns };
}

function known(tokens: number, why: string): AutoLength {
  return { tokens, why };
}

/** E.g. "sequences of 256 tokens (--sequence-length auto): 95 of 100 records have at most 231 tokens". */
export function autoLengthText({ tokens, why }: AutoLength): string {
  return `sequences of ${grouped(tokens)} tokens (--sequence-length auto): ${why}`;
}

function grouped(count: number): string {
  return count.toLocaleString('en-US');
}
