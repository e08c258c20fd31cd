/**
 * Attention over packed sequences, with grouped queries (Ainslie et al. 2023) without copies. Of short sequences the
 * probabilities are kept for the backward pass; of long ones they are computed again, block by block.
 */
import { constant, scalar, type Value } from '../engine/graph.js';
import {
  add,
  causalAttention,
  concat,
  equal,
  matmul,
  reshape,
  select,
  slice,
  softcap,
  softmax,
  transpose,
} from '../engine/ops/index.js';
import { MASKED } from '../engine/ops/causal-attention-plan.js';
import type { KeyValueCache } from './cache.js';
import type { ModelInputs } from './family.js';

/** What one attention layer reads. */
export interface AttentionInputs {
  readonly q: Value;
  readonly k: Value;
  readonly v: Value;
  readonly sight: Sight;
  readonly cache: KeyValueCache | undefined;
}

/** Heads of one attention layer. */
export interface AttentionShape {
  /** Query heads, a multiple of keyValueHeads. */
  readonly heads: number;
  readonly keyValueHeads: number;
  /** D: features of one head. */
  readonly headDim: number;
  /** Scores are divided by its square root; null or absent: by that of D. */
  readonly scoreScalar?: number | null;
  /** Scores are bounded by softcap; null or absent: they are not. */
  readonly scoreCap?: number | null;
}

/** Which keys the tokens of a graph see: the same in all layers with one window. */
export type Sight =
  | { readonly kind: 'blocks'; readonly blocks: readonly QueryBlock[] }
  | {
      readonly kind: 'positions';
      /** [B, T] int32: how many tokens before it belong to the text of each. */
      readonly positions: Value;
      readonly window: number | null;
    };

/** Tokens whose queries see a range of keys together, so that what lies outside of it is not computed. */
export interface QueryBlock {
  /** The tokens from `from` to below `to`. */
  readonly from: number;
  readonly to: number;
  /** The first key that one of them sees; the last is that of `to` - 1. */
  readonly first: number;
  /** [B, 1, group (to - from), keys] float32: 0 where a token may see a key, else MASKED; for each head of a group in turn. */
  readonly mask: Value;
}

/** More blocks were no faster, and took more memory: see docs/ENGINE.md. */
const BLOCKS_MAX = 4;
const BLOCK_TOKENS_MIN = 32;
/** From here on keeping probabilities is no faster than computing them again: see docs/ENGINE.md. */
const LONG_TOKENS = 512;

/**
 * What tokens see: themselves and earlier tokens of their text. `group`: query heads of one key/value head. With
 * `window` a token sees that many at most, itself the last.
 */
export function sightOf(inputs: ModelInputs, group: number, window: number | null = null): Sight {
  const { positions, cache } = inputs;
  if (cache === undefined && positions.shape[1]! >= LONG_TOKENS) {
    return { kind: 'positions', positions, window };
  }
  return { kind: 'blocks', blocks: queryBlocks(inputs, group, window) };
}

/**
 * The T tokens in blocks, none of whose keys lies behind the last token of the block. With a cache there is one,
 * and the places of the cache come before its keys. `group`: query heads of one key/value head. With `window` a token
 * sees that many at most, itself the last.
 */
export function queryBlocks(
  { segments, positions, cache }: ModelInputs,
  group: number,
  window: number | null = null,
): QueryBlock[] {
  const [, T] = segments.shape as [number, number];
  const count = Math.max(1, Math.min(BLOCKS_MAX, Math.floor(T / BLOCK_TOKENS_MIN)));
  const length = cache === undefined ? Math.ceil(T / count) : T;
  return Array.from({ length: Math.ceil(T / length) }, (_, i) => {
    const [from, to] = [i * length, Math.min(T, (i + 1) * length)];
    const first = window === null ? 0 : Math.max(0, from + 1 - window);
    const own = ownMask(segments, { from, to, first }, window);
    const one = cache === undefined ? own : concat([cache.mask(positions, window), own], 3);
    const mask = group === 1 ? one : concat(new Array<Value>(group).fill(one), 2);
    return { from, to, first, mask };
  });
}

/** The mask of a block for one head, over the keys of `segments`: [B, T] int32 -> [B, 1, to - from, keys]. */
function ownMask(
  segments: Value,
  { from, to, first }: Omit<QueryBlock, 'mask'>,
  window: number | null,
): Value {
  const [rows, columns, B] = [to - from, to - first, segments.shape[0]!];
  const causal = new Float32Array(rows * columns).fill(MASKED);
  for (let t = from; t < to; t++) {
    const start = (t - from) * columns;
    const seen = window === null ? 0 : Math.max(0, t + 1 - window);
    causal.fill(0, start + seen - first, start + t + 1 - first);
  }
  const same = equal(
    reshape(range(segments, 1, from, to), [B, 1, rows, 1]),
    reshape(range(segments, 1, first, to), [B, 1, 1, columns]),
  );
  return select(same, constant(causal, [rows, columns]), scalar(MASKED));
}

/**
 * q: B T heads D, k and v: B T keyValueHeads D elements, token by token, head by head
 * -> softmax(q k^T / sqrt scoreScalar + mask) v: [B T, heads D] float32.
 * Layers take their keys and values of earlier tokens out of the cache in turn.
 */
export function attention(
  { q, k, v, sight, cache }: AttentionInputs,
  shape: AttentionShape,
): Value {
  return sight.kind === 'blocks'
    ? keptAttention({ q, k, v, cache }, sight.blocks, shape)
    : blockedAttention({ q, k, v }, sight, shape);
}

/** Nothing as large as the square of the tokens is kept. */
function blockedAttention(
  { q, k, v }: Pick<AttentionInputs, 'q' | 'k' | 'v'>,
  { positions, window }: Extract<Sight, { kind: 'positions' }>,
  { heads, keyValueHeads, headDim, scoreScalar, scoreCap }: AttentionShape,
): Value {
  const [B, T] = positions.shape as [number, number];
  const perRow = (y: Value, count: number): Value => reshape(y, [B, T, count * headDim]);
  const operands = [perRow(q, heads), perRow(k, keyValueHeads), perRow(v, keyValueHeads)] as const;
  const alpha = 1 / Math.sqrt(scoreScalar ?? headDim);
  const context = causalAttention(operands, positions, {
    ...{ heads, keyValueHeads, alpha },
    window: window ?? 0,
    cap: scoreCap ?? 0,
  });
  return reshape(context, [B * T, heads * headDim]);
}

function keptAttention(
  { q, k, v, cache }: Omit<AttentionInputs, 'sight'>,
  blocks: readonly QueryBlock[],
  { heads, keyValueHeads, headDim, scoreScalar, scoreCap = null }: AttentionShape,
): Value {
  const B = blocks[0]!.mask.shape[0]!;
  const T = blocks.at(-1)!.to;
  // Query heads of one key/value head lie side by side, so keys and values need no copies.
  const group = heads / keyValueHeads;
  const perToken = reshape(q, [B, T, keyValueHeads, group, headDim]);
  const perHead = (y: Value): Value =>
    transpose(reshape(y, [B, T, keyValueHeads, headDim]), [0, 2, 1, 3]); // [B, KV, T, D]
  const own = { keys: perHead(k), values: perHead(v) };
  const { keys, values } = cache?.extend(own) ?? own; // [B, KV, S, D]
  const alpha = 1 / Math.sqrt(scoreScalar ?? headDim);
  const attended = blocks.map(({ from, to, first, mask }) => {
    const [rows, columns] = [to - from, mask.shape[3]!];
    const queries = reshape(transpose(range(perToken, 1, from, to), [0, 2, 3, 1, 4]), [
      ...[B, keyValueHeads, group * rows, headDim],
    ]);
    const seen = (y: Value): Value => range(y, 2, first, first + columns);
    const free = matmul(queries, seen(keys), { transB: true, alpha });
    const scores = scoreCap === null ? free : softcap(free, scoreCap);
    const context = matmul(softmax(add(scores, mask)), seen(values));
    const perQuery = reshape(context, [B, keyValueHeads, group, rows, headDim]);
    return transpose(perQuery, [0, 3, 1, 2, 4]); // [B, rows, KV, G, D]
  });
  const context = attended.length === 1 ? attended[0]! : concat(attended, 1);
  return reshape(context, [B * T, heads * headDim]);
}

/** As slice; all of an axis is the value itself. */
function range(value: Value, axis: number, start: number, end: number): Value {
  return start === 0 && end === value.shape[axis] ? value : slice(value, axis, start, end);
}
