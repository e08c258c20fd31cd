/**
 * How training uses the memory that is free: in which format the frozen weights are held, in which mode the
 * graph computes, and how many sequences go through the model at once.
 *
 * The order of preference, of what `--weights`, `--memory` and `--micro-batch` leave open:
 *
 * 1. What fits wholly, weights that are mapped from files included, before what makes the kernel drop these
 *    pages and read them again: a step then waits for the disk.
 * 2. The most exact format: fp32, bf16, int8, int4. Where the model's files hold 16 bits, bf16 is the same
 *    numbers as fp32, and comes before fp32 in low memory.
 * 3. Within a format the normal mode before the low one, which takes about half as long again.
 * 4. Within a mode as many sequences at once as make a step fast and fit: a batch in parts costs next to nothing.
 * 5. What takes more memory to be faster, only where all of it is at most SPEED_SHARE of what is free: copies
 *    of the model side by side, then the fast mode of fp32.
 * 6. Where nothing fits wholly: what takes least, if what is not mapped fits. It is slow, and says so.
 */
import { UserError } from '../errors.js';
import type { MemoryMode } from '../model/memory-mode.js';
import { microBatchSize } from './accumulate.js';
import {
  anonymous,
  fits,
  isPossible,
  needed,
  predict,
  type GraphShape,
  type MachineMemory,
  type MemoryNeeds,
  type MemoryPlan,
  type MemoryRequest,
  type PassedOver,
  type Remedy,
} from './memory-plan.js';
import { optionsFor, refusal } from './memory-words.js';

/** The share of what is free that may go into speed. */
const SPEED_SHARE = 0.2;

const OPEN: MemoryRequest = { most: 'auto', memory: 'auto', weights: 'auto' };

/** A format and a mode. */
type Kind = Pick<GraphShape, 'format' | 'memory'>;

/** The plan for `request`. Throws UserError with the sizes and what would fit, and what needs.graphs throws. */
export async function planMemory(
  needs: MemoryNeeds,
  request: MemoryRequest,
  machine: MachineMemory,
): Promise<MemoryPlan> {
  const { batchSize } = needs;
  const fewest = request.most === 'auto' ? 1 : microBatchSize(batchSize, request.most);
  const tried: MemoryPlan[] = [];
  for (const kind of kindsOf(needs, request)) {
    const one = await predictOne(needs, kind, fewest, machine);
    if (fits(one)) {
      const plan = await faster(needs, request, one, machine);
      return { ...plan, passedOver: tried.map(passedOver) };
    }
    tried.push(one);
  }
  const paged = tried.filter(isPossible);
  if (paged.length === 0 && machine.refuse) {
    throw refusal(least(tried, anonymous), await whatFits(needs, request, machine));
  }
  const leanest = paged.length === 0 ? least(tried, anonymous) : least(paged, needed);
  const rest = tried.filter((one) => one !== leanest);
  return { ...leanest, passedOver: rest.map(passedOver) };
}

/** What the request leaves open, the most preferred first. */
function kindsOf({ formats, isHalf }: MemoryNeeds, { memory, weights }: MemoryRequest): Kind[] {
  const open = weights === 'auto' ? formats : [weights];
  const modes: readonly MemoryMode[] = memory === 'auto' ? ['normal', 'low'] : [memory];
  const isTwice = isHalf && open.includes('bf16');
  return open
    .flatMap((format) => modes.map((mode): Kind => ({ format, memory: mode })))
    .filter(({ format, memory }) => !(isTwice && format === 'fp32' && memory === 'low'));
}

/** One copy of the model. */
function predictOne(
  needs: MemoryNeeds,
  { format, memory }: Kind,
  microBatch: number,
  machine: MachineMemory,
  sequenceLength = needs.sequenceLength,
): Promise<MemoryPlan> {
  return predict(needs, { format, memory, microBatch, sequenceLength, replicas: 1 }, machine);
}

function least(plans: readonly MemoryPlan[], of: (plan: MemoryPlan) => number): MemoryPlan {
  return plans.reduce((a, b) => (of(b) <= of(a) ? b : a));
}

function passedOver(plan: MemoryPlan): PassedOver {
  return { format: plan.format, memory: plan.memory, bytes: needed(plan) + plan.process };
}

/** The fastest plan in the format and mode of `least`, which fits. */
async function faster(
  needs: MemoryNeeds,
  request: MemoryRequest,
  least: MemoryPlan,
  machine: MachineMemory,
): Promise<MemoryPlan> {
  const fast = least.memory === 'low' ? null : await withinShare(needs, request, least, machine);
  return fast ?? (request.most === 'auto' ? largest(needs, least, machine) : least);
}

/** The fastest plan that the request leaves open and that is no waste of memory; null for none. */
async function withinShare(
  needs: MemoryNeeds,
  { most, memory }: MemoryRequest,
  least: MemoryPlan,
  machine: MachineMemory,
): Promise<MemoryPlan | null> {
  // A device holds one copy of the weights, laid out in one way.
  if (least.gpu !== null) return null;
  const { format, sequenceLength } = least;
  const room = SPEED_SHARE * least.free;
  // The other formats have one layout for both directions.
  const canBeFast = memory === 'auto' && format === 'fp32';
  const ways = most === 'auto' ? [...needs.replications] : [];
  if (canBeFast) {
    const alone = most === 'auto' ? Math.min(needs.batchSize, needs.fastest) : least.microBatch;
    ways.push({ replicas: 1, microBatch: microBatchSize(needs.batchSize, alone) });
  }
  for (const way of ways) {
    // More sequences never take less, and no graph need be built to see that these are too many.
    if (way.replicas * (least.weights + least.activations) + least.evictable > room) continue;
    const mode = canBeFast ? 'fast' : least.memory;
    const plan = await predict(needs, { format, sequenceLength, memory: mode, ...way }, machine);
    if (needed(plan) <= room) return plan;
  }
  return null;
}

/** The plan for as many sequences as make a step fast and fit; `least` is that for one. */
async function largest(
  needs: MemoryNeeds,
  least: MemoryPlan,
  machine: MachineMemory,
): Promise<MemoryPlan> {
  const { batchSize } = needs;
  const plan = (microBatch: number): Promise<MemoryPlan> =>
    predictOne(needs, least, microBatchSize(batchSize, microBatch), machine);
  const most = Math.min(batchSize, needs.fastest);
  if (most === 1) return least;
  const wanted = await plan(most);
  if (fits(wanted)) return wanted;
  // More sequences never take less, so that halving the range finds the most that fit.
  let best = least;
  for (let low = 1, high = most; high - low > 1;) {
    const middle = (low + high) >>> 1;
    const one = await plan(middle);
    if (fits(one)) [low, best] = [middle, one];
    else high = middle;
  }
  return best;
}

/** What fits where `request` does not. */
export async function whatFits(
  needs: MemoryNeeds,
  request: MemoryRequest,
  machine: MachineMemory,
): Promise<Remedy> {
  const isOpen = Object.values(request).every((value) => value === 'auto');
  const plan = isOpen ? null : await planMemory(needs, OPEN, machine).catch(nullIfRefused);
  if (plan !== null) return { plan, options: optionsFor(plan, request), sequenceLength: null };
  return { plan: null, options: '', sequenceLength: await longestSequence(needs, OPEN, machine) };
}

function nullIfRefused(error: unknown): null {
  if (error instanceof UserError) return null;
  throw error;
}

/** Shortest sequence that a run can have, and the step in which longer ones are told. */
const SEQUENCE_MIN = 8;
const SEQUENCE_STEP = 64;

/**
 * The longest sequences up to `most` tokens, in multiples of 64 (of 8 below that), of which one at a time fits in the
 * leanest way that `request` leaves open; null where none does. Weights that are mapped from files need not fit where
 * they would not even by themselves. Builds one graph for each length that it looks at, the logarithm of all of them.
 */
export async function longestSequence(
  needs: MemoryNeeds,
  request: MemoryRequest,
  machine: MachineMemory,
  most = needs.sequenceLength,
): Promise<number | null> {
  const leanest = kindsOf(needs, request).at(-1)!;
  const doFit = async (tokens: number): Promise<boolean> => {
    const one = await predictOne(needs, leanest, 1, machine, tokens);
    return one.evictable > one.free ? isPossible(one) : fits(one);
  };
  if (await doFit(most)) return most;
  const between = async (low: number, high: number, step: number): Promise<number> => {
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if (await doFit(middle * step)) low = middle;
      else high = middle;
    }
    return low * step;
  };
  if (most > SEQUENCE_STEP && (await doFit(SEQUENCE_STEP))) {
    return between(1, Math.ceil(most / SEQUENCE_STEP), SEQUENCE_STEP);
  }
  const above = Math.ceil(Math.min(most, SEQUENCE_STEP) / SEQUENCE_MIN);
  if (most <= SEQUENCE_MIN || !(await doFit(SEQUENCE_MIN))) return null;
  return between(1, above, SEQUENCE_MIN);
}
