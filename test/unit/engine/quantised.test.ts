import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gradients } from '../../../node/engine/autodiff.js';
import { constant, type Value } from '../../../node/engine/graph.js';
import {
  matmul,
  matmulWithQuantisedGradient,
  mul,
  quantisedMatmul,
  sum,
} from '../../../node/engine/ops/index.js';
import { ortExecutor } from '../../../node/engine/ort.js';
import { largestCode } from '../../../node/engine/overflow-trial.js';
import { Prng } from '../../../protocol/prng.js';
import { narrowCpu } from './narrow-cpu.js';

const [M, K, N] = [24, 48, 40];

function random(name: string, rows: number, columns: number): Value {
  const prng = new Prng(new Uint8Array(32), name);
  const data = Float32Array.from({ length: rows * columns }, () => 2 * prng.nextFloat() - 1);
  return constant(data, [rows, columns]);
}

async function evaluate(...values: Value[]): Promise<number[][]> {
  const outputs = Object.fromEntries(values.map((value, i) => [`y${i}`, value]));
  const graph = await ortExecutor({ threads: 1 }).compile({ outputs });
  try {
    const results = await graph.run({});
    return values.map((_, i) => [...results[`y${i}`]!]);
  } finally {
    await graph.dispose();
  }
}

/** |a - b| / |b|. */
function distance(a: readonly number[], b: readonly number[]): number {
  const difference = a.map((value, i) => value - b[i]!);
  return Math.hypot(...difference) / Math.hypot(...b);
}

for (const transB of [false, true]) {
  describe(`a quantised product, transB ${transB}`, () => {
    const x = random('x', M, K);
    const weight = transB ? random('w', N, K) : random('w', K, N);
    const upstream = random('upstream', M, N);
    const gradientOf = (y: Value): (Value | null)[] =>
      gradients(sum(mul(y, upstream), [0, 1]), [x]);

    it('is near the exact one, and not the same', async () => {
      const [quantised, exact] = await evaluate(
        quantisedMatmul(x, weight, { transB, codeMax: 63 }),
        matmul(x, weight, { transB }),
      );
      const error = distance(quantised!, exact!);
      assert.ok(error > 1e-3 && error < 0.02, `${error}`);
    });

    it('has the quantised product with the weight the other way round for its gradient', async () => {
      const [gradient] = gradientOf(quantisedMatmul(x, weight, { transB, codeMax: 63 }));
      const [exact] = gradientOf(matmul(x, weight, { transB }));
      const [actual, expected, unrounded] = await evaluate(
        gradient!,
        quantisedMatmul(upstream, weight, { transB: !transB, codeMax: 63 }),
        exact!,
      );
      assert.deepEqual(actual, expected);
      const error = distance(actual!, unrounded!);
      assert.ok(error > 1e-3 && error < 0.02, `${error}`);
    });

    it('is exact where only its gradient is quantised, and that gradient the same', async () => {
      const attributes = { transB, codeMax: 63 } as const;
      const y = matmulWithQuantisedGradient(x, weight, attributes);
      const [gradient] = gradientOf(y);
      const [quantised] = gradientOf(quantisedMatmul(x, weight, attributes));
      const [actual, exact, its, expected] = await evaluate(
        y,
        matmul(x, weight, { transB }),
        gradient!,
        quantised!,
      );
      assert.deepEqual(actual, exact);
      assert.deepEqual(its, expected);
    });

    it('keeps a small row beside a large one, and rows of zeros', async () => {
      const scales = constant(
        Float32Array.from({ length: M }, (_, m) => (m === 0 ? 1e4 : m === 1 ? 0 : 1e-4)),
        [M, 1],
      );
      const rows = mul(x, scales);
      const [quantised, exact] = await evaluate(
        quantisedMatmul(rows, weight, { transB, codeMax: 63 }),
        matmul(rows, weight, { transB }),
      );
      for (let m = 0; m < M; m++) {
        const [a, b] = [quantised, exact].map((y) => y!.slice(m * N, (m + 1) * N));
        if (m === 1) assert.deepEqual(new Set(a), new Set([0]));
        else assert.ok(distance(a!, b!) < 0.03, `row ${m}: ${distance(a!, b!)}`);
      }
    });
  });
}

describe('largestCode()', () => {
  it('is 127, or as small as it must be where sums are cut at 16 bits', async () => {
    assert.equal(await largestCode(narrowCpu()), 63);
    const here = await largestCode(ortExecutor({ threads: 1 }));
    const [x, weight] = [constant(new Float32Array(M * K).fill(1), [M, K]), random('w', K, N)];
    const [quantised, exact] = await evaluate(
      quantisedMatmul(x, weight, { transB: false, codeMax: here }),
      matmul(x, weight),
    );
    const error = distance(quantised!, exact!);
    assert.ok(error < 0.02, `codes up to ${here} are off by ${error}`);
  });
});
