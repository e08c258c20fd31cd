/**
 * What a graph that only reads will take (generate, chat, serve, eval), said before its weights are loaded, and in
 * which format they are: the most exact of which all fits; else the one that takes least, if what is not mapped from
 * files fits.
 */
import type { GraphMemory } from '../engine/memory.js';
import { UserError } from '../errors.js';
import type { WeightFormat } from '../model/weight-format.js';
import { freeMemory } from './free-memory.js';
import { FRAGMENTATION, NODE_BYTES, RUNTIME_BYTES, size } from './memory-plan.js';
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

/** What there is, in bytes. */
export interface ReadingRoom {
  /** What this process takes now, and what it may still take. */
  readonly processBytes: number;
  readonly free: number;
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
}

/**
 * E.g. "generating takes about 640 MB of memory (fp32 weights 420 MB, activations 24 MB, the process 196 MB) of 21.1 GB".
 * Throws UserError with the sizes, and the format that fits where there is one, when `weights` does not fit.
 */
export async function planReading(
  needs: ReadingNeeds,
  weights: WeightChoice,
  purpose: ReadingPurpose,
  { processBytes, free }: ReadingRoom = {
    processBytes: process.memoryUsage.rss(),
    free: freeMemory(),
  },
): Promise<ReadingPlan> {
  const room = Math.max(0, free - RUNTIME_BYTES);
  const own = processBytes + RUNTIME_BYTES;
  const open = weights === 'auto' ? needs.formats : [weights];
  const { taken, passedOver } = await firstThatFits(needs, open, room);
  if (taken === null) {
    const others = needs.formats.filter((format) => !open.includes(format));
    const { taken: other } = await firstThatFits(needs, others, room);
    throw refusal(passedOver, { purpose, room, own, other });
  }
  const { format, needed } = taken;
  const lines = [
    `${purpose.doing} takes about ${size(needed + own)} of memory (${partsOf(taken)}, the process ${size(own)}) of ${size(room + own)}`,
  ];
  const [first] = passedOver.filter((one) => one.format !== format);
  const reasons = [
    ...(first === undefined
      ? []
      : [
          `${first.format} would take ${size(first.needed + own)}, and ${size(room + own)} are free`,
        ]),
    ...(needed > room
      ? ['it is slow, as its weights are read from the disk again and again for want of memory']
      : []),
  ];
  if (reasons.length > 0) lines.push(`weights ${format}: ${reasons.join('; ')}`);
  return { format, sentence: lines.join('\n') };
}

async function firstThatFits(
  { graph }: ReadingNeeds,
  formats: readonly WeightFormat[],
  room: number,
): Promise<{ taken: Reading | null; passedOver: Reading[] }> {
  const passedOver: Reading[] = [];
  for (const format of formats) {
    const one = readingOf(format, await graph(format));
    if (one.needed <= room) return { taken: one, passedOver };
    passedOver.push(one);
  }
  const paged = passedOver.filter(({ anonymous }) => anonymous <= room);
  const [first, ...rest] = paged;
  if (first === undefined) return { taken: null, passedOver };
  return { taken: rest.reduce((a, b) => (b.needed <= a.needed ? b : a), first), passedOver };
}

function readingOf(format: WeightFormat, graph: GraphMemory): Reading {
  const weights = graph.weights + NODE_BYTES * graph.operations;
  const activations = FRAGMENTATION * graph.peak;
  const { evictable } = graph;
  const anonymous = weights + activations;
  return { format, weights, evictable, activations, anonymous, needed: anonymous + evictable };
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
    room,
    own,
    other,
  }: { purpose: ReadingPurpose; room: number; own: number; other: Reading | null },
): UserError {
  const least = tried.reduce((a, b) => (b.anonymous <= a.anonymous ? b : a));
  const slowly = other !== null && other.needed > room ? ', slowly' : '';
  const fitting =
    other === null
      ? ''
      : `--weights ${other.format} fits (${size(other.needed + own)} in all)${slowly}; or `;
  return new UserError(
    `the model does not fit into memory: ${doing} takes ${size(least.anonymous)} (${partsOf(least)}), but only ` +
      `${size(room)} are free: ${fitting}close other programs, ${remedy} or take a smaller model`,
  );
}
