import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { adapterSha256, initialAdapter } from '../../../protocol/adapter.js';
import { EpochFold } from '../../../protocol/epoch-fold.js';
import { Fold } from '../../../protocol/fold.js';
import { STEP_MAX } from '../../../protocol/grid.js';
import { javascriptKernel, type Kernel } from '../../../protocol/kernel.js';
import { UpdateLog } from '../../../protocol/log.js';
import { CODECS, type Run } from '../../../protocol/manifest.js';
import { Prng } from '../../../protocol/prng.js';
import { emptyBody, hasFiniteScales, type Quantised } from '../../../protocol/quantise.js';
import { takeUpdate } from '../../../protocol/residual.js';
import {
  BLOCK_COORDINATES,
  RowFormats,
  TILE_BLOCKS,
  TILE_COORDINATES,
  type RowFormat,
} from '../../../protocol/row-format.js';
import { fastestKernel, webassemblyKernel } from '../../../protocol/wasm-kernel.js';
import { compileKernel, ROWS } from '../../support/compile-kernels.js';
import { rowFormat } from '../../support/row-format.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';

/** Node of every supported version has SIMD: without it these tests would test nothing. */
const wasm = webassemblyKernel() ?? assert.fail('WebAssembly with SIMD');

function bytesOf(values: Float64Array): Buffer {
  return Buffer.from(Float64Array.from(values).buffer);
}

/** Any bytes that a receiver takes: scales over the whole range of binary16, denormals and 0 too. */
function rowOf(format: RowFormat, random: Prng): Quantised {
  const body = emptyBody(format);
  for (let block = 0; block < body.scales.length / 2; block++) {
    const kinds = [random.nextBelow(0x7c00), random.nextBelow(0x400), 0, 0x7bff, 1];
    const half = kinds[random.nextBelow(kinds.length)]!;
    [body.scales[2 * block], body.scales[2 * block + 1]] = [half & 0xff, half >>> 8];
  }
  for (let i = 0; i < body.codes.length; i++) body.codes[i] = random.nextBelow(256);
  assert.ok(hasFiniteScales(body, format));
  return body;
}

const shapes = fc.record({
  codec: fc.constantFrom(...CODECS),
  coordinates: fc.oneof(fc.integer({ min: 1, max: 800 }), fc.integer({ min: 3000, max: 9000 })),
  seed: fc.integer(),
});

/** Each tile of a row: its first block and length. */
function* tilesOf({ coordinates }: RowFormat): Generator<[number, number]> {
  for (let start = 0; start < coordinates; start += TILE_COORDINATES)
    yield [start / BLOCK_COORDINATES, Math.min(TILE_COORDINATES, coordinates - start)];
}

function prng(seed: number): Prng {
  return new Prng(Uint8Array.of(seed, seed >> 8, seed >> 16, seed >> 24), 'kernel');
}

describe('the kernel in WebAssembly', () => {
  it('is what this machine runs, and what its source compiles to', async () => {
    const root = path.resolve(import.meta.dirname, '../../..');
    const home = path.basename(root) === 'dist' ? path.dirname(root) : root;
    const committed = readFileSync(path.join(home, ROWS.generated), 'utf8');
    const now = await compileKernel(home, ROWS);
    assert.ok(now === committed, 'run npm run generate:kernels');
    assert.equal(fastestKernel(), wasm);
  });

  it('gives way to JavaScript where WebAssembly is missing or has no SIMD', async () => {
    const real: unknown = Reflect.get(globalThis, 'WebAssembly');
    for (const [i, instead] of [undefined, { validate: () => false }].entries()) {
      Reflect.set(globalThis, 'WebAssembly', instead);
      try {
        // A query makes it a module of its own, which has not looked yet.
        const url = new URL(`../../../protocol/wasm-kernel.js?${i}`, import.meta.url).href;
        const fresh = (await import(url)) as { fastestKernel: () => Kernel };
        assert.equal(fresh.fastestKernel(), javascriptKernel);
      } finally {
        Reflect.set(globalThis, 'WebAssembly', real);
      }
    }
  });

  it('sums rows to the bits of JavaScript: any length, number of rows and factor', () => {
    fc.assert(
      fc.property(
        shapes,
        fc.constantFrom(1, 2, 7, 31, 32, 33, 70),
        fc.constantFrom(2 ** 32, 2 ** 32 / 3, 2 ** 12, 1e30, 0),
        (shape, count, factor) => {
          const format = rowFormat(shape.coordinates, shape.seed & 255, shape.codec);
          const random = prng(shape.seed);
          const rows = Array.from({ length: count }, () => ({
            quantised: rowOf(format, random),
            factor: [1, random.nextFloat(), 1e-12 * random.nextFloat()][random.nextBelow(3)]!,
          }));
          for (const [block, length] of tilesOf(format)) {
            const expected = javascriptKernel.steps(rows, format, block, length, factor).slice();
            const actual = wasm.steps(rows, format, block, length, factor);
            assert.deepEqual(bytesOf(actual), bytesOf(expected));
            assert.ok(expected.every((v) => Number.isInteger(v) && Math.abs(v) <= STEP_MAX));
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('multiplies rows to the bits of JavaScript, tile after tile', () => {
    fc.assert(
      fc.property(
        shapes,
        fc.constantFrom(1, 3, 32),
        fc.constantFrom(1, 2, 40),
        (shape, columns, count) => {
          const format = rowFormat(shape.coordinates);
          const random = prng(shape.seed);
          const draw = (rows: number): Quantised[] =>
            Array.from({ length: rows }, () => rowOf(format, random));
          const [rows, others] = [draw(count), draw(columns)];
          const sumsOf = (kernel: Kernel): Float64Array => {
            const sums = new Float64Array(count * columns);
            for (const [block] of tilesOf(format)) {
              const end = Math.min(block + TILE_BLOCKS, format.blocks);
              kernel.addProducts(rows, others, format, block, end, sums);
            }
            return sums;
          };
          assert.deepEqual(bytesOf(sumsOf(wasm)), bytesOf(sumsOf(javascriptKernel)));
        },
      ),
      { numRuns: 40 },
    );
    const format = rowFormat(256);
    const many = Array.from({ length: 33 }, () => emptyBody(format));
    const sums = new Float64Array(33 * 33);
    assert.throws(() => wasm.addProducts(many, many, format, 0, 1, sums), RangeError);
  });

  it('rounds ties to even and clamps like JavaScript', () => {
    const format = rowFormat(256);
    // All of a row is in its first coordinate, which is 16 scales then.
    const rows = [
      { quantised: { ...emptyBody(format), scales: Uint8Array.of(0, 0x3c) }, factor: 1 },
    ];
    for (const factor of [1 / 32, 3 / 32, 1 / 64, STEP_MAX / 16, STEP_MAX / 15, STEP_MAX, 1e200]) {
      const expected = javascriptKernel.steps(rows, format, 0, 256, factor).slice();
      assert.deepEqual(bytesOf(wasm.steps(rows, format, 0, 256, factor)), bytesOf(expected));
      const first = Math.min(STEP_MAX, 16 * factor);
      const even = first === 0.5 ? 0 : first === 1.5 ? 2 : first === 0.25 ? 0 : Math.round(first);
      assert.equal(Math.abs(expected[0]!), even);
    }
  });

  it('decodes to the bits of JavaScript, -0 included', () => {
    fc.assert(
      fc.property(shapes, ({ coordinates, seed, codec }) => {
        const format = rowFormat(coordinates, seed & 255, codec);
        const row = rowOf(format, prng(seed));
        const [expected, actual] = [new Float64Array(coordinates), new Float64Array(coordinates)];
        javascriptKernel.decode(row, format, 0, expected);
        wasm.decode(row, format, 0, actual);
        assert.deepEqual(bytesOf(actual), bytesOf(expected));
      }),
      { numRuns: 60 },
    );
  });

  it('gives the squared length of JavaScript, tile by tile', () => {
    fc.assert(
      fc.property(shapes, ({ coordinates, seed, codec }) => {
        const format = rowFormat(coordinates, seed & 255, codec);
        const row = rowOf(format, prng(seed));
        for (let from = 0; from < format.blocks; from += 16) {
          const to = Math.min(from + 16, format.blocks);
          const [expected, actual] = [javascriptKernel, wasm].map((kernel) =>
            kernel.addSquares(row, format, from, to, 0.1),
          );
          assert.equal(actual, expected);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('encodes to the bytes of JavaScript, and leaves the same residual', () => {
    fc.assert(
      fc.property(
        shapes,
        fc.constantFrom(1e-300, 1e-9, 1e-3, 1, 1e3, 1e6, 1e300),
        ({ coordinates, seed, codec }, size) => {
          const format = rowFormat(coordinates, seed & 255, codec);
          const random = prng(seed);
          const values = Float64Array.from({ length: coordinates }, () => {
            const kind = random.nextBelow(40);
            return kind === 0 ? 0 : kind === 1 ? -0 : size * (random.nextFloat() - 0.4);
          });
          const take = (kernel: Kernel): object => {
            const residual = values.slice();
            const body = takeUpdate(residual, format, kernel);
            return { residual: bytesOf(residual), ...body };
          };
          assert.deepEqual(take(wasm), take(javascriptKernel));
        },
      ),
      { numRuns: 100 },
    );
  });

  it('refuses what is not finite, like JavaScript', () => {
    for (const kernel of [wasm, javascriptKernel])
      for (const codec of CODECS)
        for (const bad of [NaN, Infinity, -Infinity]) {
          const values = new Float64Array(5000).fill(1);
          values[4999] = bad;
          assert.throws(
            () => takeUpdate(values, rowFormat(5000, 0, codec), kernel),
            new RangeError('cannot quantise values that are not finite'),
          );
        }
  });

  it('takes and folds whole runs to the same bits, in the mean, the filtered and the robust one', () => {
    const adapter = {
      ...testRun().manifest.adapter,
      modules: [{ name: 'up_proj', inFeatures: 6001, outFeatures: 5000 }],
    };
    const members = [0, 1, 2, 3, 4].map((i) => ({ peerId: testIdentity(i).peerId, weight: 1 + i }));
    const kinds = (['mean', 'filtered', 'robust'] as const).flatMap((mode) =>
      CODECS.map((codec) => ({ mode, codec })),
    );
    for (const { mode, codec } of kinds) {
      const run: Run = testRun((m) => ({
        ...m,
        adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
        compression: { codec },
        fold: { ...m.fold, mode, trimFraction: mode === 'robust' ? 0.25 : 0 },
        membership: {
          mode: 'allowlist',
          members: members.map((one) => (mode === 'robust' ? { ...one, weight: 1 } : one)),
        },
      }));
      const log = new UpdateLog();
      for (const epoch of [0, 1, 2])
        for (let i = 0; i < 5; i++)
          log.insert(testUpdate(run, testIdentity(i), epoch, { size: 1 + i }));
      const sumOf = (kernel: Kernel): Buffer => {
        const fold = new Fold(run, new EpochFold(run, new RowFormats(run), kernel));
        fold.compute(log);
        return bytesOf(fold.sum());
      };
      assert.deepEqual(sumOf(wasm), sumOf(javascriptKernel));
    }
  });
});
