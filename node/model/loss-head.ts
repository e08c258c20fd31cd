/** The loss of a model's last hidden state, at once or over chunks of tokens, and where its gradient begins. */
import { after, gradients } from '../engine/autodiff.js';
import { scalar, type Value } from '../engine/graph.js';
import { add, concat, div, maximum, reshape, slice, sum } from '../engine/ops/index.js';
import type { CrossEntropyAttributes } from '../engine/ops/loss.js';
import { tokenLosses, trainedOf } from './token-losses.js';

/**
 * Tokens of one chunk, at least: the whole table is read for each chunk, and one of 16 bits is converted, which takes as
 * long as the products of about 40 tokens. Where the table is small, as many more as CHUNK_BYTES of logits have.
 */
const CHUNK_TOKENS = 256;
const CHUNK_BYTES = 32 * 2 ** 20;

/** Tokens whose logits exist at once, of a vocabulary of V. */
export function chunkTokens(V: number): number {
  return Math.max(CHUNK_TOKENS, Math.floor(CHUNK_BYTES / (4 * V)));
}

/** hidden: [N, C], table: [V, C] float32, targets: int32 of N elements. */
export interface LossInputs {
  readonly hidden: Value;
  readonly table: Value;
  readonly targets: Value;
  /** How the table is multiplied with, and what becomes of the logits. Default: it is float32, and nothing. */
  readonly product?: CrossEntropyAttributes;
}

/** What a batch loses: the mean over its trained tokens, [] float32, and each token's nats, 0 where untrained: [N] float32. */
export interface Losses {
  readonly loss: Value;
  readonly nats: Value;
}

/** With all logits at once. */
export function meanLoss(inputs: LossInputs): Losses {
  return chunkedLoss(inputs, inputs.hidden.shape[0]);
}

/** With the logits of `most` tokens at a time. Default: chunkTokens. */
export function chunkedLoss(inputs: LossInputs, most?: number): Losses {
  const parts = chunksOf(inputs, most).map((one) => total(inputs, one));
  const [first] = parts;
  return {
    loss: parts.map(({ loss }) => loss).reduce(add),
    nats:
      parts.length === 1
        ? first!.nats
        : concat(
            parts.map(({ nats }) => nats),
            0,
          ),
  };
}

/** The same, and d loss / d hidden and d loss / d table: each chunk's, before the next one begins. */
export function chunkedLossAndGradient(
  inputs: LossInputs,
  most?: number,
): Losses & {
  hidden: Value;
  table: Value;
} {
  const parts: (Losses & { hidden: Value; table: Value })[] = [];
  for (const one of chunksOf(inputs, most)) {
    const before = parts.at(-1);
    const rows = before === undefined ? one.hidden : after(one.hidden, before.hidden, before.loss);
    const { loss, nats } = total(inputs, { ...one, hidden: rows });
    const [hidden, table] = gradients(loss, [rows, inputs.table]) as [Value, Value];
    parts.push({ loss, nats, hidden, table });
  }
  const sumOf = (name: 'loss' | 'table'): Value => parts.map((part) => part[name]).reduce(add);
  const all = (name: 'nats' | 'hidden'): Value =>
    concat(
      parts.map((part) => part[name]),
      0,
    );
  return {
    ...{ loss: sumOf('loss'), nats: all('nats') },
    ...{ table: sumOf('table'), hidden: all('hidden') },
  };
}

/** Some rows: hidden [n, C], targets [n]. */
interface Chunk {
  readonly hidden: Value;
  readonly targets: Value;
}

function chunk({ hidden, targets }: LossInputs, from: number, to: number): Chunk {
  const N = hidden.shape[0]!;
  const flat = reshape(targets, [N]);
  if (to - from === N) return { hidden, targets: flat };
  return { hidden: slice(hidden, 0, from, to), targets: slice(flat, 0, from, to) };
}

function chunksOf(inputs: LossInputs, most = chunkTokens(inputs.table.shape[0]!)): Chunk[] {
  const N = inputs.hidden.shape[0]!;
  const rows = Math.ceil(N / Math.ceil(N / most));
  return Array.from({ length: Math.ceil(N / rows) }, (_, i) =>
    chunk(inputs, i * rows, Math.min(N, (i + 1) * rows)),
  );
}

/** `loss`: nats of a chunk's trained tokens, divided by the number of all trained tokens. */
function total({ table, targets: all, product }: LossInputs, { hidden, targets }: Chunk): Losses {
  const { nats } = tokenLosses(hidden, table, targets, product); // [n]
  const flat = reshape(all, [all.shape.reduce((product, length) => product * length, 1)]);
  return { loss: div(sum(nats, [0]), maximum(sum(trainedOf(flat), [0]), scalar(1))), nats };
}
