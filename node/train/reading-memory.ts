/**
 * What a graph that only reads will take (generate, chat, serve, eval), said before its weights are loaded, and in
 * which format they are: the most exact of which all fits; else the one that takes least, if what is not mapped from
 * files fits.
 */
import type { GraphMemory } from '../engine/memory.js';
import { UserError } from '../errors.js';
import type { WeightFormat } from '../model/weight-format.js';
import { freeMemory } from './free-memory.js';
import {
  DRIVER_BYTES,
  FRAGMENTATION,
  NODE_BYTES,
  RUNTIME_BYTES,
  size,
  type MachineMemory,
} from './memory-plan.js';
import type { WeightChoice } from './weight-formats.js';

/** What it is for. */
export interface ReadingPurpose {
  /** Begins a sentence: "generating". */
  readonly doing: string;
  /** What to do where it does not fit, beside closing other programs. */
  readonly remedy: string;
}

/** What is read with. */
export interface ReadingNeeds {
  /** Formats that frozen weights can have here, the most exact first; at least one. */
  readonly formats: readonly WeightFormat[];
  readonly graph: (format: WeightFormat) => Promise<GraphMemory>;
}

/** What was decided, and lines that say it. */
export interface ReadingPlan {
  readonly format: WeightFormat;
  readonly sentence: string;
}

/** What a format takes, in bytes. */
interface Reading {
  readonly format: WeightFormat;
  readonly weights: number;
  readonly evictable: number;
  readonly activations: number;
  readonly anonymous: number;
  readonly needed: number;
  /** The largest single array. */
  readonly largest: number;
}

/**
 * E.g. "generating takes about 640 MB of memory (fp32 weights 420 MB, activations 24 MB, the process 196 MB) of 21.1 GB".
 * Throws UserError with the sizes, and the format that fits where there is one, when `weights` does not fit.
 */
export async function planReading(
  needs: ReadingNeeds,
  weights: WeightChoice,
  purpose: ReadingPurpose,
  machine: MachineMemory = {
    ...{ processBytes: process.memoryUsage.rss(), free: freeMemory(), refuse: true },
  },
): Promise<ReadingPlan> {
  const place = placeOf(machine);
  const { room, own, where, gpu } = place;
  const open = weights === 'auto' ? needs.formats : [weights];
  const { taken: fitting, passedOver } = await firstThatFits(needs, open, place);
  const leastTried = (): Reading | null =>
    machine.refuse ? null : passedOver.reduce((a, b) => (b.anonymous <= a.anonymous ? b : a));
  const taken = fitting ?? leastTried();
  if (taken === null) {
    const others = needs.formats.filter((format) => !open.includes(format));
    const { taken: other } = await firstThatFits(needs, others, place);
    throw refusal(passedOver, { purpose, place, other });
  }
  const { format, needed } = taken;
  const guess = gpu?.source === 'guessed' ? ' that it is taken to have (--gpu-memory)' : '';
  const lines = [
    `${purpose.doing} takes about ${size(needed + own)} of ${where} (${partsOf(taken)}, ` +
      `${gpu === undefined ? 'the process' : 'its driver'} ${size(own)}) of ${size(room + own)}${guess}`,
  ];
  const [first] = passedOver.filter((one) => one.format !== format);
  const reasons = [
    ...(first === undefined
      ? []
      : [
          `${first.format} would take ${size(first.needed + own)}, and ${size(room + own)} are free`,
        ]),
    ...(needed > room && gpu === undefined
      ? ['it is slow, as its weights are read from the disk again and again for want of memory']
      : []),
  ];
  if (reasons.length > 0) lines.push(`weights ${format}: ${reasons.join('; ')}`);
  return { format, sentence: lines.join('\n') };
}

/** Where the graph is to lie, and what is taken and free there, in bytes. */
interface Place {
  readonly where: string;
  readonly own: number;
  readonly room: number;
  readonly gpu: MachineMemory['gpu'];
}

function placeOf({ processBytes, free, gpu }: MachineMemory): Place {
  const taken = gpu === undefined ? RUNTIME_BYTES : DRIVER_BYTES;
  const where = gpu === undefined ? 'memory' : `the memory of ${gpu.device}`;
  return { where, own: processBytes + taken, room: Math.max(0, free - taken), gpu };
}

async function firstThatFits(
  { graph }: ReadingNeeds,
  formats: readonly WeightFormat[],
  { room, gpu }: Place,
): Promise<{ taken: Reading | null; passedOver: Reading[] }> {
  const passedOver: Reading[] = [];
  for (const format of formats) {
    const memory = await graph(format);
    const one = gpu === undefined ? readingOf(format, memory) : readingOnGpu(format, memory);
    const isBuffer = one.largest <= (gpu?.bufferMax ?? Infinity);
    if (one.needed <= room && isBuffer) return { taken: one, passedOver };
    passedOver.push(one);
  }
  const paged = gpu === undefined ? passedOver.filter(({ anonymous }) => anonymous <= room) : [];
  const [first, ...rest] = paged;
  if (first === undefined) return { taken: null, passedOver };
  return { taken: rest.reduce((a, b) => (b.needed <= a.needed ? b : a), first), passedOver };
}

function readingOf(format: WeightFormat, graph: GraphMemory): Reading {
  const weights = graph.weights + NODE_BYTES * graph.operations;
  const activations = FRAGMENTATION * graph.peak;
  const { evictable, largest } = graph;
  const anonymous = weights + activations;
  const needed = anonymous + evictable;
  return { format, weights, evictable, activations, anonymous, needed, largest };
}

/** Every weight is a buffer of the device, mapped or not. */
function readingOnGpu(format: WeightFormat, { peak, largest, ...graph }: GraphMemory): Reading {
  const weights = graph.weights + graph.stored;
  const activations = FRAGMENTATION * peak;
  const all = weights + activations;
  return { format, weights, evictable: 0, activations, anonymous: all, needed: all, largest };
}

function partsOf({ format, weights, evictable, activations }: Reading): string {
  const mapped = evictable === 0 ? '' : ` and ${size(evictable)} mapped from files`;
  return `${format} weights ${size(weights)}${mapped}, activations ${size(activations)}`;
}

/** Of the last of `tried`, which takes least. */
function refusal(
  tried: readonly Reading[],
  {
    purpose: { doing, remedy },
    place: { where, room, own, gpu },
    other,
  }: { purpose: ReadingPurpose; place: Place; other: Reading | null },
): UserError {
  const least = tried.reduce((a, b) => (b.anonymous <= a.anonymous ? b : a));
  const slowly = other !== null && other.needed > room ? ', slowly' : '';
  const fitting =
    other === null
      ? ''
      : `--weights ${other.format} fits (${size(other.needed + own)} in all)${slowly}; or `;
  const close = gpu === undefined ? 'close other programs' : 'use --device cpu';
  const bound =
    least.anonymous > room
      ? `only ${size(room)} are free`
      : `one array of it takes ${size(least.largest)}, and a buffer of the device at most ${size(gpu?.bufferMax ?? Infinity)}`;
  return new UserError(
    `the model does not fit into ${where}: ${doing} takes ${size(least.anonymous)} (${partsOf(least)}), but ` +
      `${bound}: ${fitting}${close}, ${remedy} or take a smaller model`,
  );
}
