/** What a plan of memory says to people: what training takes, why in this way, and why it is refused. */
import { UserError } from '../errors.js';
import type { MemoryMode } from '../model/memory-mode.js';
import {
  anonymous,
  fits,
  isTooLargeABuffer,
  needed,
  size,
  type MemoryPlan,
  type MemoryRequest,
  type Remedy,
} from './memory-plan.js';

const MODE_IN_WORDS: Readonly<Record<MemoryMode, string>> = {
  fast: ', with weights laid out for each product (--memory fast)',
  normal: '',
  low: ', with low memory (--memory low: slower by about a third)',
};

/** E.g. "training takes about 3.5 GB of memory (fp32 weights 1.2 GB, ...) of 21.1 GB: all 8 sequences of a step at once". */
export function describePlan(plan: MemoryPlan): string {
  const { microBatch, batchSize, replicas, process, free } = plan;
  const parts = Math.ceil(batchSize / microBatch);
  const how =
    parts === 1
      ? `${batchSize === 1 ? 'the only sequence' : `all ${batchSize} sequences`} of a step at once`
      : `the ${sequences(batchSize)} of a step in ${parts} parts of at most ${microBatch}` +
        (replicas === 1 ? '' : `, by ${replicas} copies of the model side by side`);
  const { gpu } = plan;
  const where = gpu === null ? 'memory' : `the memory of ${gpu.device}`;
  const own = gpu === null ? 'the process' : 'its driver';
  const guess = gpu?.source === 'guessed' ? ' that it is taken to have (--gpu-memory)' : '';
  return (
    `training takes about ${size(needed(plan) + process)} of ${where} (${partsOf(plan)}, ${own} ${size(process)}) ` +
    `of ${size(free + process)}${guess}: ${how}${MODE_IN_WORDS[plan.memory]}${whyLow(plan)}`
  );
}

/** Low memory that was not asked for. */
function whyLow({ format, memory, passedOver }: MemoryPlan): string {
  const normal = passedOver.find((one) => one.format === format && one.memory === 'normal');
  if (memory !== 'low' || normal === undefined) return '';
  return `, as one part would take ${size(normal.bytes)} without`;
}

/** "fp32 weights 1.2 GB, activations 2.0 GB, adapter 117 MB"; weights in files apart, which the kernel may drop. */
function partsOf({ format, weights, evictable, activations, adapter, gpu }: MemoryPlan): string {
  if (gpu !== null) {
    return `${format} weights ${size(weights)}, activations and adapter ${size(activations)}`;
  }
  const mapped = evictable === 0 ? '' : ` and ${size(evictable)} mapped from files`;
  return `${format} weights ${size(weights)}${mapped}, activations ${size(activations)}, adapter ${size(adapter)}`;
}

/**
 * Why the weights have their format, where that was left open, and why a step is slow; null where there is nothing to
 * say. E.g. "weights int8: fp32 would take 33.3 GB, and 22.1 GB are free".
 */
export function explainWeights(plan: MemoryPlan): string | null {
  const { format, passedOver, process, free } = plan;
  const [first] = passedOver.filter((one) => one.format !== format);
  const why =
    first === undefined
      ? null
      : `${first.format} would take ${size(first.bytes)}, and ${size(free + process)} are free`;
  const slow = fits(plan) ? null : slowness(plan);
  const reasons = [why, slow].filter((reason) => reason !== null);
  return reasons.length === 0 ? null : `weights ${format}: ${reasons.join('; ')}`;
}

function slowness(plan: MemoryPlan): string {
  const left = Math.max(0, plan.free - anonymous(plan));
  return (
    `each step is slow, as ${size(plan.evictable)} of weights are mapped from files and only ${size(left)} of memory ` +
    'are left for them, so that they are read from the disk again and again'
  );
}

/** Why the leanest plan that the request leaves open is refused, and what would fit. */
export function refusal(plan: MemoryPlan, remedy: Remedy): UserError {
  const { microBatch, sequenceLength, evictable, free, gpu } = plan;
  const mapped = evictable === 0 ? '' : ' beside what is mapped from files';
  const where = gpu === null ? 'memory' : `the memory of ${gpu.device}`;
  const isOfBuffer = isTooLargeABuffer(plan) && anonymous(plan) <= free;
  const bound = isOfBuffer
    ? `one array of it takes ${size(gpu!.largest)}, and a buffer of the device at most ${size(gpu!.bufferMax!)}`
    : `only ${size(free)} are free`;
  return new UserError(
    `the model does not fit into ${where}: training ${sequences(microBatch)} of ${sequenceLength} tokens at once takes ` +
      `${size(anonymous(plan))}${mapped} (${partsOf(plan)}), but ${bound}: ${inWords(remedy, gpu)}`,
  );
}

/** What asks for `plan` where `request` was asked for: what that leaves open stays so. */
export function optionsFor(
  { format, memory, microBatch }: MemoryPlan,
  request: MemoryRequest,
): string {
  const options = [
    ['--weights', request.weights, format],
    ['--memory', request.memory, memory],
    ['--micro-batch', request.most, microBatch],
  ] as const;
  return options
    .filter(([, asked, fitting]) => asked !== 'auto' && asked !== fitting)
    .map(([flag, , fitting]) => `${flag} ${fitting}`)
    .join(' ');
}

function inWords({ plan, options, sequenceLength }: Remedy, gpu: MemoryPlan['gpu']): string {
  const close = `close other programs${gpu === null ? '' : ' that use the GPU, or use --device cpu'}`;
  if (plan !== null) {
    const slow = fits(plan) ? '' : ', slowly';
    return `${options} fits (${size(needed(plan) + plan.process)} in all)${slow}; or ${close}`;
  }
  if (sequenceLength !== null) {
    return `sequences of ${sequenceLength} tokens fit (--sequence-length, which the run decides); or ${close}, or take a smaller model`;
  }
  return `${close}, or take a smaller model`;
}

function sequences(count: number): string {
  return count === 1 ? '1 sequence' : `${count} sequences`;
}
