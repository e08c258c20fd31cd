import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { adapterSha256, initialAdapter } from '../../../protocol/adapter.js';
import { EpochFold } from '../../../protocol/epoch-fold.js';
import { Fold } from '../../../protocol/fold.js';
import { STEP_MAX } from '../../../protocol/grid.js';
import { javascriptKernel, TILE_COORDINATES, type Kernel } from '../../../protocol/kernel.js';
import { UpdateLog } from '../../../protocol/log.js';
import type { Run } from '../../../protocol/manifest.js';
import { Prng } from '../../../protocol/prng.js';
import {
  emptyBody,
  isWellFormed,
  quantisedBytes,
  type Quantised,
} from '../../../protocol/quantise.js';
import { takeSlice } from '../../../protocol/residual.js';
import { Slicer, type Slice } from '../../../protocol/slice.js';
import { fastestKernel, webassemblyKernel } from '../../../protocol/wasm-kernel.js';
import { compileKernel, ROWS } from '../../support/compile-kernels.js';
import { adapterSize, testIdentity, testRun, testUpdate } from '../../support/runs.js';

/** Node of every supported version has SIMD: without it these tests would test nothing. */
const wasm = webassemblyKernel() ?? assert.fail('WebAssembly with SIMD');

function bytesOf(values: Float64Array): Buffer {
  return Buffer.from(Float64Array.from(values).buffer);
}

function sliceOf(coordinates: number, blockSize: number, bits: Slice['bits']): Slice {
  const count = Math.ceil(coordinates / blockSize);
  return { blocks: Uint32Array.from({ length: count }, (_, i) => i), blockSize, bits, coordinates };
}

/** Any bytes that a receiver takes: scales over the whole range of binary16, denormals and 0 too. */
function rowOf(slice: Slice, random: Prng): Quantised {
  const size = quantisedBytes(slice);
  const body = emptyBody(slice);
  const halves = Array.from(
    { length: size.scales / 2 },
    () => [random.nextBelow(0x7c00), random.nextBelow(0x400), 0, 0x7bff, 1][random.nextBelow(5)]!,
  );
  for (const [i, half] of halves.entries())
    [body.scales[2 * i], body.scales[2 * i + 1]] = [half & 0xff, half >>> 8];
  for (let i = 0; i < slice.coordinates; i++) {
    const position = i * slice.bits;
    const code = random.nextBelow(slice.bits === 4 ? 15 : 1 << slice.bits);
    body.codes[position >>> 3]! |= code << (position & 7);
  }
  assert.ok(isWellFormed(body, slice));
  return body;
}

const shapes = fc.record({
  bits: fc.constantFrom<Slice['bits']>(1, 2, 4),
  blockSize: fc.constantFrom(8, 24, 64, 1000, 4096),
  coordinates: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 3000, max: 9000 })),
  seed: fc.integer(),
});

/** Each tile of the slice: its first block and length. */
function* tilesOf({ blockSize, coordinates }: Slice): Generator<[number, number]> {
  const most = Math.floor(TILE_COORDINATES / blockSize) * blockSize;
  for (let start = 0; start < coordinates; start += most)
    yield [start / blockSize, Math.min(most, coordinates - start)];
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

  it('sums rows to the bits of JavaScript: any width, block size, number of rows and factor', () => {
    fc.assert(
      fc.property(
        shapes,
        fc.constantFrom(1, 2, 7, 31, 32, 33, 70),
        fc.constantFrom(2 ** 32, 2 ** 32 / 3, 2 ** 12, 1e30, 0),
        (shape, count, factor) => {
          const slice = sliceOf(shape.coordinates, shape.blockSize, shape.bits);
          const random = prng(shape.seed);
          const rows = Array.from({ length: count }, () => ({
            quantised: rowOf(slice, random),
            factor: [1, random.nextFloat(), 1e-12 * random.nextFloat()][random.nextBelow(3)]!,
          }));
          for (const [block, length] of tilesOf(slice)) {
            const expected = javascriptKernel.steps(rows, slice, block, length, factor).slice();
            const actual = wasm.steps(rows, slice, block, length, factor);
            assert.deepEqual(bytesOf(actual), bytesOf(expected));
            assert.ok(expected.every((v) => Number.isInteger(v) && Math.abs(v) <= STEP_MAX));
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('rounds ties to even and clamps like JavaScript', () => {
    const slice = sliceOf(8, 8, 4);
    // Levels -7 to 0 of scale 1, and 0 to 7.
    for (const codes of [
      Uint8Array.of(0x10, 0x32, 0x54, 0x76),
      Uint8Array.of(0x87, 0xa9, 0xcb, 0xed),
    ]) {
      const rows = [{ quantised: { scales: Uint8Array.of(0, 0x3c), codes }, factor: 1 }];
      for (const factor of [0.5, 1.5, 0.25, STEP_MAX / 7, STEP_MAX / 7 + 1, STEP_MAX, 1e200]) {
        const expected = javascriptKernel.steps(rows, slice, 0, 8, factor).slice();
        assert.deepEqual(bytesOf(wasm.steps(rows, slice, 0, 8, factor)), bytesOf(expected));
        if (factor === STEP_MAX) assert.equal(Math.max(...expected.map(Math.abs)), STEP_MAX);
      }
    }
  });

  it('decodes to the bits of JavaScript, -0 included', () => {
    fc.assert(
      fc.property(shapes, ({ bits, blockSize, coordinates, seed }) => {
        const slice = sliceOf(coordinates, blockSize, bits);
        const row = rowOf(slice, prng(seed));
        const [expected, actual] = [new Float64Array(coordinates), new Float64Array(coordinates)];
        javascriptKernel.decode(row, slice, 0, expected);
        wasm.decode(row, slice, 0, actual);
        assert.deepEqual(bytesOf(actual), bytesOf(expected));
      }),
      { numRuns: 60 },
    );
  });

  it('encodes to the bytes of JavaScript, and leaves the same residual and random state', () => {
    fc.assert(
      fc.property(
        shapes,
        fc.constantFrom(1e-300, 1e-9, 1e-3, 1, 1e3, 1e6, 1e300),
        ({ bits, blockSize, coordinates, seed }, size) => {
          const slice = sliceOf(coordinates, blockSize, bits);
          const random = prng(seed);
          const values = Float64Array.from({ length: coordinates }, () => {
            const kind = random.nextBelow(40);
            return kind === 0 ? 0 : kind === 1 ? -0 : size * (random.nextFloat() - 0.4);
          });
          const take = (kernel: Kernel): object => {
            const [residual, stream] = [values.slice(), prng(seed + 1)];
            const body = takeSlice(residual, slice, stream, kernel);
            return { residual: bytesOf(residual), ...body, next: stream.nextUint32() };
          };
          assert.deepEqual(take(wasm), take(javascriptKernel));
        },
      ),
      { numRuns: 100 },
    );
  });

  it('refuses what is not finite, like JavaScript', () => {
    for (const kernel of [wasm, javascriptKernel])
      for (const bits of [1, 2, 4] as const)
        for (const bad of [NaN, Infinity, -Infinity]) {
          const values = new Float64Array(5000).fill(1);
          values[4999] = bad;
          const slice = sliceOf(5000, 64, bits);
          assert.throws(
            () => takeSlice(values, slice, prng(0), kernel),
            new RangeError(`cannot quantise ${bad}`),
          );
        }
  });

  it('takes and folds slices with gaps to the same bits, in the mean and the robust one', () => {
    const adapter = {
      ...testRun().manifest.adapter,
      modules: [{ name: 'up_proj', inFeatures: 6001, outFeatures: 5000 }],
    };
    const members = [0, 1, 2, 3, 4].map((i) => ({ peerId: testIdentity(i).peerId, weight: 1 + i }));
    for (const mode of ['mean', 'robust'] as const) {
      const run: Run = testRun((m) => ({
        ...m,
        adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
        compression: {
          ...m.compression,
          phases: [
            { fromEpoch: 0, slices: 2, bits: 1 },
            { fromEpoch: 2, slices: 3, bits: 2 },
            { fromEpoch: 5, slices: 1, bits: 4 },
          ],
        },
        fold: { ...m.fold, mode, trimFraction: mode === 'robust' ? 0.25 : 0 },
        membership: {
          mode: 'allowlist',
          members: members.map((one) => (mode === 'robust' ? { ...one, weight: 1 } : one)),
        },
      }));
      const log = new UpdateLog();
      for (const epoch of [0, 1, 2, 3, 4, 5])
        for (let i = 0; i < 5; i++)
          log.insert(testUpdate(run, testIdentity(i), epoch, { size: 1 + i }));
      const sumOf = (kernel: Kernel): Buffer => {
        const fold = new Fold(run, new EpochFold(run, new Slicer(run), kernel));
        fold.compute(log);
        return bytesOf(fold.sum());
      };
      assert.deepEqual(sumOf(wasm), sumOf(javascriptKernel));
      for (const epoch of [0, 3, 5]) {
        const slice = new Slicer(run).slice(epoch);
        const random = prng(epoch);
        const values = Float64Array.from(
          { length: adapterSize(run) },
          () => random.nextFloat() - 0.5,
        );
        const [a, b] = [values.slice(), values.slice()];
        const taken = takeSlice(a, slice, prng(1), wasm);
        assert.deepEqual(taken, takeSlice(b, slice, prng(1), javascriptKernel));
        assert.deepEqual(bytesOf(a), bytesOf(b));
      }
    }
  });
});
