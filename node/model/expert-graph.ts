/**
 * Several adapters on one base in one graph: each token goes through the base once for each expert, as rows of one
 * batch, so that the frozen weights come from memory once for all of them. Their low-rank terms lie side by side, as one
 * adapter of the ranks together, with a mask that leaves each row the ranks of its own expert.
 */
import type { CompiledGraph, Program } from '../engine/executor.js';
import { constant, input, type Value } from '../engine/graph.js';
import { gather, logSoftmax, reshape, softcap } from '../engine/ops/index.js';
import { adapterLayout } from '../../protocol/adapter.js';
import { KeyValueCache } from './cache.js';
import { decoderOf } from './families.js';
import { frozenProduct } from './frozen-product.js';
import { arithmeticOf, checkModel, loadGraph } from './load.js';
import {
  adapted,
  constantAdapter,
  lowRankParts,
  sliceAdapter,
  type AdapterShape,
  type AdapterValues,
} from './lora-graph.js';
import type { NextTokenGraphOptions } from './next-token-model.js';

/** Of the adapters side by side, where they are fed. */
export const EXPERTS_INPUT = 'experts';

const OUTPUT_LAYER = 'lm_head';

export interface ExpertGraphOptions extends NextTokenGraphOptions {
  /** K, 2 or more. */
  readonly experts: number;
  /** The adapters, [adapterSize] float32 each, for good; absent where they are fed. */
  readonly thetas?: readonly Float32Array[];
}

/** Compiled; see expertProgram. */
export interface ExpertGraph {
  readonly graph: CompiledGraph;
  /** Of the cache. */
  readonly rows: Readonly<Record<string, Value>>;
}

/** Throws as openNextTokenModel. */
export async function openExpertGraph(options: ExpertGraphOptions): Promise<ExpertGraph> {
  const { program, rows } = await buildExperts(options);
  return { graph: await loadGraph(options.executor, program), rows };
}

/** The graph before it is compiled, to see what it takes. Throws UserError as that does. */
export async function expertProgram(options: ExpertGraphOptions): Promise<Program> {
  return (await buildExperts(options)).program;
}

/** K adapters of one shape as one: A above A, B beside B. thetas: [adapterSize] float32 each -> [K adapterSize]. */
export function sideBySide(
  adapter: Pick<AdapterShape, 'rank' | 'modules'>,
  thetas: readonly Float32Array[],
): Float32Array {
  const K = thetas.length;
  const { rank } = adapter;
  const joined = adapterLayout({ ...adapter, rank: K * rank });
  const theta = new Float32Array(joined.size);
  for (const [i, { factor, shape, offset, length }] of adapterLayout(adapter).tensors.entries()) {
    const start = joined.tensors[i]!.offset;
    for (const [k, own] of thetas.entries()) {
      if (factor === 'A') {
        theta.set(own.subarray(offset, offset + length), start + k * length);
        continue;
      }
      for (let row = 0; row < shape[0]; row++) {
        const from = offset + row * rank;
        theta.set(own.subarray(from, from + rank), start + (row * K + k) * rank);
      }
    }
  }
  return theta;
}

/**
 * Inputs: tokens and positions [K, chunk] int32, the same in all rows; `ends`: [K] int32, the rows of the last token for
 * each expert among the K chunk; with a chunk above 1 `picks`: [K chunk] int32, which log-probability of each row is
 * asked for, counted through [K chunk, V]; the cache. Outputs: `next`: [K, V] float32, log-probabilities after the last
 * token; `picked`: [K chunk] float32; the rows of the cache.
 */
async function buildExperts(
  options: ExpertGraphOptions,
): Promise<{ program: Program; rows: Readonly<Record<string, Value>> }> {
  const { config, weights, capacity, chunk, experts: K } = options;
  checkModel(options, capacity);
  const cache = new KeyValueCache(capacity, input('held', 'int32', [1]));
  const tokens = input('tokens', 'int32', [K, chunk]);
  const positions = input('positions', 'int32', [K, chunk]);
  const segments = constant(new Int32Array(K * chunk), [K, chunk]);
  const arithmetic = await arithmeticOf(options);
  const values = maskedAdapter(options);
  const inner = new Map(values.factors);
  // Merged into the table it would need a table for each expert.
  inner.delete(OUTPUT_LAYER);
  const inputs = { tokens, positions, segments, cache };
  const {
    hidden, // [K chunk, C]
    table,
    logitCap = null,
  } = decoderOf(config).build(weights, { ...values, factors: inner }, inputs, arithmetic);
  const lora = values.factors.get(OUTPUT_LAYER);
  const [low = null] = lowRankParts(hidden, [lora]);
  const plain = frozenProduct(hidden, table, true, true, arithmetic);
  const free = adapted(hidden, plain, lora, low);
  const logs = logSoftmax(logitCap === null ? free : softcap(free, logitCap)); // [K chunk, V]
  const outputs = { next: gather(logs, input('ends', 'int32', [K])), ...cache.rows };
  const picked = chunk === 1 ? {} : { picked: picks(logs) };
  const program = { outputs: { ...outputs, ...picked }, plainWeights: arithmetic.isMapped };
  return { program, rows: cache.rows };
}

/** logs: [N, V] -> one of each row: [N] float32. */
function picks(logs: Value): Value {
  const [N, V] = logs.shape as [number, number];
  return reshape(gather(reshape(logs, [N * V, 1]), input('picks', 'int32', [N])), [N]);
}

function maskedAdapter({ adapter, experts: K, chunk, thetas }: ExpertGraphOptions): AdapterValues {
  const { rank, alpha, modules } = adapter;
  const joined = { rank: K * rank, alpha: K * alpha, modules };
  const { size } = adapterLayout(joined);
  const values =
    thetas === undefined
      ? sliceAdapter(input(EXPERTS_INPUT, 'float32', [size]), joined)
      : constantAdapter(sideBySide(adapter, thetas), joined);
  const own = new Float32Array(K * chunk * K * rank);
  for (let row = 0; row < K * chunk; row++) {
    const start = row * K * rank + Math.floor(row / chunk) * rank;
    own.fill(1, start, start + rank);
  }
  const mask = constant(own, [K * chunk, K * rank]);
  const factors = [...values.factors].map(([name, factor]) => [name, { ...factor, mask }] as const);
  return { ...values, factors: new Map(factors) };
}
