import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gradients } from '../../../node/engine/autodiff.js';
import type { CompiledGraph, TensorData } from '../../../node/engine/executor.js';
import { input, type Value } from '../../../node/engine/graph.js';
import { mul, reshape, sum } from '../../../node/engine/ops/index.js';
import { ortExecutor } from '../../../node/engine/ort.js';
import { writeOnnx } from '../../../node/engine/onnx/writer.js';
import { openOrtGraph } from '../../../node/engine/ort-graph.js';
import { attention, queryBlocks, sightOf, type Sight } from '../../../node/model/attention.js';
import { Prng } from '../../../protocol/prng.js';
import { total } from '../../compliance/tensors.js';

const B = 2;
const SHAPE = { heads: 4, keyValueHeads: 2, headDim: 4 };
/** Query heads of one key/value head. */
const GROUP = 2;
const WIDTH = { q: 16, k: 8, v: 8 } as const;
const BOUND = 2e-6;
/** Half the distance of a central difference, and the bound of what it gives. */
const STEP = 1e-2;
const SLOPE_BOUND = 1e-3;

type Name = keyof typeof WIDTH;
type Feeds = Record<Name | 'projection', Float32Array>;

/** Two texts in a row, the first of which ends within the second block of queries. */
function segmentsOf(T: number): Int32Array {
  return Int32Array.from({ length: B * T }, (_, i) => (i % T < T / 2 + 3 ? 0 : 1));
}

function drawFeeds(T: number): Feeds {
  const random = new Prng(new Uint8Array(32), `attention/${T}`);
  const draw = (width: number): Float32Array =>
    Float32Array.from({ length: B * T * width }, () => 2 * random.nextFloat() - 1);
  return { q: draw(16), k: draw(8), v: draw(8), projection: draw(16) };
}

/** Attention row by row, in double precision: what a row does not see is not looked at. */
function plainAttention({ q, k, v }: Feeds, T: number, window: number): number[] {
  const { heads, keyValueHeads, headDim } = SHAPE;
  const segments = segmentsOf(T);
  return Array.from({ length: B * T * heads }, (_, i) => {
    const [row, head] = [Math.floor(i / heads), i % heads];
    const own = Math.floor((head * keyValueHeads) / heads);
    const t = row % T;
    const seen = Array.from({ length: t + 1 }, (_, s) => row - t + s).filter(
      (one) => row - one < window && segments[one] === segments[row],
    );
    const at = (one: number, d: number): number => (one * keyValueHeads + own) * headDim + d;
    const weights = seen.map((one) =>
      Math.exp(total(headDim, (d) => q[i * headDim + d]! * k[at(one, d)]!) / Math.sqrt(headDim)),
    );
    const whole = total(weights.length, (n) => weights[n]!);
    return Array.from({ length: headDim }, (_, d) =>
      total(seen.length, (n) => (weights[n]! / whole) * v[at(seen[n]!, d)]!),
    );
  }).flat();
}

function attentionGraph(T: number, window: number | null): { y: Value; operands: Value[] } {
  const operands = Object.entries(WIDTH).map(([name, width]) =>
    input(name, 'float32', [B * T, width]),
  );
  const [q, k, v] = operands as [Value, Value, Value];
  const segments = input('segments', 'int32', [B, T]);
  const blocks = queryBlocks({ tokens: segments, segments, positions: segments }, GROUP, window);
  const sight = { kind: 'blocks', blocks } as const;
  return { y: attention({ q, k, v, sight, cache: undefined }, SHAPE), operands };
}

/** Sum of the products of `values` and the projection. */
function projected(values: readonly number[], { projection }: Feeds): number {
  return total(values.length, (i) => values[i]! * projection[i]!);
}

describe('attention in blocks of queries', () => {
  it('has several blocks where sequences are long, and each sees no key after it', () => {
    for (const [T, count] of [
      [16, 1],
      [70, 2],
      [130, 4],
      [512, 4],
    ] as const) {
      const segments = input('segments', 'int32', [B, T]);
      const blocks = queryBlocks({ tokens: segments, segments, positions: segments }, GROUP);
      assert.equal(blocks.length, count);
      assert.deepEqual(
        blocks.map(({ from, mask }) => [mask.shape[2], mask.shape[3], from]),
        blocks.map(({ from, to }, i) => [GROUP * (to - from), to, blocks[i - 1]?.to ?? 0]),
      );
      assert.equal(blocks.at(-1)?.to, T);
    }
  });

  for (const [T, window] of [
    [70, null],
    [130, null],
    [130, 9],
    [130, 50],
  ] as const) {
    it(`is attention over whole sequences of ${T} with window ${window}, and so are its gradients`, async () => {
      const { y, operands } = attentionGraph(T, window);
      const projection = input('projection', 'float32', y.shape);
      const loss = sum(reshape(mul(y, projection), [y.shape[0]! * y.shape[1]!]), [0]);
      const [q, k, v] = gradients(loss, operands) as [Value, Value, Value];
      const graph = await ortExecutor({ threads: 1 }).compile({ outputs: { y, q, k, v } });
      const feeds = drawFeeds(T);
      const results = await graph.run({ ...feeds, segments: segmentsOf(T) });
      await graph.dispose();
      const expected = plainAttention(feeds, T, window ?? T);
      for (const [i, actual] of results['y']!.entries()) {
        assert.ok(Math.abs(actual - expected[i]!) <= BOUND, `[${i}] is ${actual}`);
      }
      for (const [name, width] of Object.entries(WIDTH) as [Name, number][]) {
        // The first and last token of the sequence, those around the edges of blocks, and some between.
        for (const token of [0, 32, 33, 34, 35, 36, 65, 66, T - 1, T + 34, 2 * T - 1]) {
          const place = token * width + (token % width);
          const loss = (step: number): number => {
            const moved = feeds[name].slice();
            moved[place]! += step;
            return projected(plainAttention({ ...feeds, [name]: moved }, T, window ?? T), feeds);
          };
          const slope = (loss(STEP) - loss(-STEP)) / (2 * STEP);
          assert.ok(
            Math.abs(results[name]![place]! - slope) <= SLOPE_BOUND,
            `d ${name}[${place}] is ${results[name]![place]}, but differences give ${slope}`,
          );
        }
      }
    });
  }
});

/** Texts of random lengths in each row, and for each token how many of its text come before it. */
function packedRows(T: number): { segments: Int32Array; positions: Int32Array } {
  const random = new Prng(new Uint8Array(32), `texts/${T}`);
  const [segments, positions] = [new Int32Array(B * T), new Int32Array(B * T)];
  for (let i = 1; i < B * T; i++) {
    const isNew = i % T === 0 || random.nextBelow(150) === 0;
    segments[i] = segments[i - 1]! + Number(isNew);
    positions[i] = isNew ? 0 : positions[i - 1]! + 1;
  }
  return { segments, positions };
}

/** Attention and its gradients, of one kind of sight. */
function withGradients(T: number, sight: Sight): Record<string, Value> {
  const operands = Object.entries(WIDTH).map(([name, width]) =>
    input(name, 'float32', [B * T, width]),
  );
  const [q, k, v] = operands as [Value, Value, Value];
  const y = attention({ q, k, v, sight, cache: undefined }, SHAPE);
  const projection = input('projection', 'float32', y.shape);
  const loss = sum(reshape(mul(y, projection), [y.shape[0]! * y.shape[1]!]), [0]);
  const [dq, dk, dv] = gradients(loss, operands) as [Value, Value, Value];
  return { y, dq, dk, dv };
}

/** As a device computes that has no Loop. */
function withoutLoops(outputs: Record<string, Value>): Promise<CompiledGraph> {
  const { bytes, inputs } = writeOnnx({ outputs }, () => assert.fail('no weights'), {
    standard: true,
    loops: false,
    sharesWeights: false,
  });
  return openOrtGraph({
    ...{ bytes, inputs, outputs: { full: new Map(Object.entries(outputs)), brief: null } },
    options: { executionProviders: ['cpu'], intraOpNumThreads: 1 },
  });
}

describe('attention over long sequences', () => {
  for (const [T, window] of [
    [512, null],
    [515, 70],
    [643, 9],
  ] as const) {
    it(`and its gradients are those of kept probabilities: ${T} tokens with window ${window}`, async () => {
      const [segments, positions] = ['segments', 'positions'].map((name) =>
        input(name, 'int32', [B, T]),
      ) as [Value, Value];
      const inputs = { tokens: segments, segments, positions };
      const sight = sightOf(inputs, GROUP, window);
      assert.equal(sight.kind, 'positions');
      const blocks = queryBlocks(inputs, GROUP, window);
      const [kept, blocked] = [
        withGradients(T, { kind: 'blocks', blocks }),
        withGradients(T, sight),
      ];
      const executor = ortExecutor({ threads: 1 });
      const graphs = [
        await executor.compile({ outputs: kept }),
        await executor.compile({ outputs: blocked }),
        await withoutLoops(blocked),
      ];
      const feeds: Record<string, TensorData> = { ...drawFeeds(T), ...packedRows(T) };
      const results = await Promise.all(
        graphs.map(async (graph) => {
          const own = [...graph.inputs.keys()].map((name) => [name, feeds[name]!] as const);
          return graph.run(Object.fromEntries(own));
        }),
      );
      for (const graph of graphs) await graph.dispose();
      const [expected, ...others] = results as [Record<string, TensorData>, ...typeof results];
      for (const name of Object.keys(kept)) {
        const norm = Math.hypot(...expected[name]!);
        assert.ok(norm > 1, `${name} has norm ${norm}`);
        for (const other of others) {
          const off = Math.hypot(...expected[name]!.map((value, i) => value - other[name]![i]!));
          assert.ok(off < 1e-6 * norm, `${name} is off by ${off} of ${norm}`);
        }
      }
    });
  }
});
