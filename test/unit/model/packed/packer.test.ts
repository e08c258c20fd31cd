import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { encodeFloats } from '../../../../node/model/encode-floats.js';
import { decodeFloats, STORAGE_BYTES, type FloatStorage } from '../../../../node/engine/storage.js';
import { JavascriptPacker } from '../../../../node/model/packed/javascript-packer.js';
import { CODES_BYTES, INPUT_BYTES, SCALES_MAX } from '../../../../node/model/packed/packer.js';
import type { InputSlot, Packer } from '../../../../node/model/packed/packer.js';
import { openPacker, webassemblyPacker } from '../../../../node/model/packed/wasm-packer.js';
import { compileKernel, PACK } from '../../../support/compile-kernels.js';

const wasm = webassemblyPacker();
assert.ok(wasm, 'this machine has no WebAssembly with SIMD');
const javascript = new JavascriptPacker();
const packers: readonly Packer[] = [wasm, javascript];

const storages = fc.constantFrom<FloatStorage>('F32', 'BF16', 'F16');
const slots = fc.constantFrom<InputSlot>(0, 1);
const PATTERNS = ['any bits', 'weights', 'denormals', 'zeros'] as const;

/** Bytes of `count` values: any bits, likely weights, numbers around the smallest, or zeros of both signs. */
function fill(
  bytes: Uint8Array,
  storage: FloatStorage,
  pattern: (typeof PATTERNS)[number],
  seed: number,
): void {
  let state = seed >>> 0 || 1;
  const next = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const width = STORAGE_BYTES[storage];
  const words = new Float32Array(1);
  for (let at = 0; at < bytes.length; at += width) {
    let bits = next();
    if (pattern === 'weights') {
      words[0] = ((bits & 0xffff) - 0x8000) * 2 ** -20;
      const encoded = encodeFloats(words, storage);
      assert.ok(encoded);
      bytes.set(encoded, at);
      continue;
    }
    const sign = width === 4 ? 0x80000000 : 0x8000;
    if (pattern === 'zeros') bits &= sign;
    if (pattern === 'denormals')
      bits &= sign | (storage === 'F32' ? 0x0fffffff : storage === 'F16' ? 0x07ff : 0x01ff);
    if (width === 4) view.setUint32(at, bits, true);
    else view.setUint16(at, bits & 0xffff, true);
  }
}

const matrices = fc.record({
  storage: storages,
  slot: slots,
  rows: fc.integer({ min: 1, max: 9 }),
  width: fc.oneof(fc.integer({ min: 1, max: 90 }), fc.constantFrom(128, 576, 1000)),
  pattern: fc.constantFrom(...PATTERNS),
  seed: fc.integer(),
});

/** What both packers make of the same bytes; the codes and scales beyond what they write are not looked at. */
function both(
  {
    storage,
    slot,
    rows,
    width,
    pattern,
    seed,
  }: typeof matrices extends fc.Arbitrary<infer M> ? M : never,
  pack: (packer: Packer) => { bad: number; codes: number; scales: number },
): { bad: number; codes: Uint8Array; scales: Float32Array; values: Float32Array } {
  const bytes = new Uint8Array(rows * width * STORAGE_BYTES[storage]);
  fill(bytes, storage, pattern, seed);
  const [a, b] = packers.map((packer) => {
    packer.inputs[slot].set(bytes);
    packer.codes.fill(0x55, 0, 2 * rows * width);
    const { bad, codes, scales } = pack(packer);
    const made = Uint8Array.from(packer.scales.subarray(0, 4 * scales));
    return { bad, codes: packer.codes.slice(0, codes), scales: new Float32Array(made.buffer) };
  });
  assert.ok(a && b);
  assert.equal(a.bad, b.bad);
  // A row that is refused ends the call.
  if (a.bad === -1) assert.deepEqual(a, b);
  return { ...a, values: decodeFloats(bytes, storage) };
}

describe('the packer in WebAssembly', () => {
  it('is what this machine runs, and what its source compiles to', async () => {
    const root = path.resolve(import.meta.dirname, '../../../..');
    const home = path.basename(root) === 'dist' ? path.dirname(root) : root;
    const committed = readFileSync(path.join(home, PACK.generated), 'utf8');
    assert.ok((await compileKernel(home, PACK)) === committed, 'run npm run generate:kernels');
    assert.equal(openPacker().name, 'webassembly');
  });

  it('has the memory that is promised', () => {
    for (const { inputs, codes, scales } of packers) {
      assert.deepEqual(
        inputs.map(({ length }) => length),
        [INPUT_BYTES, INPUT_BYTES],
      );
      assert.equal(codes.length, CODES_BYTES);
      assert.equal(scales.length, 4 * SCALES_MAX);
    }
  });

  it('gives the bytes of JavaScript as int8, and refuses the same rows', () => {
    fc.assert(
      fc.property(matrices, fc.constantFrom(127, 63), (matrix, largestCode) => {
        const { storage, slot, rows, width } = matrix;
        const { bad, codes, scales, values } = both(matrix, (packer) => ({
          bad: packer.int8(storage, slot, rows, width, largestCode),
          codes: rows * width,
          scales: rows,
        }));
        if (bad !== -1) return;
        const signed = new Int8Array(codes.buffer);
        for (let i = 0; i < values.length; i++) {
          const scale = scales[Math.floor(i / width)]!;
          assert.ok(Math.abs(signed[i]!) <= largestCode);
          // Half a step at most, but for the rounding of the scale, and what is too small for one.
          const bound = Math.max(scale * 0.50001, largestCode * 2 ** -126);
          assert.ok(Math.abs(signed[i]! * scale - values[i]!) <= bound);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('gives the bytes of JavaScript as int4, and refuses the same rows', () => {
    fc.assert(
      fc.property(matrices, fc.constantFrom(32, 64), (given, block) => {
        const matrix = { ...given, width: given.width + (given.width % 2) };
        const { storage, slot, rows, width } = matrix;
        const blocks = Math.ceil(width / block);
        const { bad, codes, scales, values } = both(matrix, (packer) => ({
          bad: packer.int4(storage, slot, rows, width, block),
          codes: (rows * width) / 2,
          scales: rows * blocks,
        }));
        if (bad !== -1) return;
        for (let i = 0; i < values.length; i++) {
          const row = Math.floor(i / width);
          const scale = scales[row * blocks + Math.floor((i - row * width) / block)]!;
          const half = i % 2 === 0 ? codes[i >> 1]! & 15 : codes[i >> 1]! >> 4;
          const code = half > 7 ? half - 16 : half;
          // The largest size is exact; of the other sign there is one step less.
          const bound = Math.max(Math.abs(scale), 8 * 2 ** -126);
          assert.ok(Math.abs(code * scale - values[i]!) <= bound);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('gives the bytes of JavaScript as bfloat16, and refuses the same rows', () => {
    fc.assert(
      fc.property(matrices, (given) => {
        const matrix = { ...given, storage: 'F32' as const };
        const { slot, rows, width } = matrix;
        const { bad, codes, values } = both(matrix, (packer) => ({
          bad: packer.bfloat16(slot, rows, width),
          codes: 2 * rows * width,
          scales: 0,
        }));
        if (bad === -1) assert.deepEqual(codes, encodeFloats(values, 'BF16'));
      }),
      { numRuns: 300 },
    );
  });
});

describe('a packer', () => {
  for (const packer of packers) {
    it(`in ${packer.name} names the row that holds NaN or infinity, wherever it is`, () => {
      for (const storage of ['F32', 'BF16', 'F16'] as const) {
        for (const bad of [NaN, Infinity, -Infinity]) {
          for (const place of [0, 7, 18, 36]) {
            const bytes = new DataView(packer.inputs[0].buffer, packer.inputs[0].byteOffset);
            packer.inputs[0].fill(0, 0, 4 * 3 * 37);
            const at = (2 * 38 + place) * STORAGE_BYTES[storage];
            const bits = Number.isNaN(bad) ? 1 : 0;
            if (storage === 'F32') bytes.setFloat32(at, bad, true);
            else if (storage === 'BF16')
              bytes.setUint16(at, (bad < 0 ? 0xff80 : 0x7f80) + bits, true);
            else bytes.setUint16(at, (bad < 0 ? 0xfc00 : 0x7c00) + bits, true);
            assert.equal(packer.int8(storage, 0, 3, 38, 127), 2);
            assert.equal(packer.int4(storage, 0, 3, 38, 32), 2);
            if (storage === 'F32') assert.equal(packer.bfloat16(0, 3, 38), 2);
          }
        }
      }
    });

    it(`in ${packer.name} packs the longest row`, () => {
      const width = INPUT_BYTES / 4;
      packer.inputs[1].fill(0);
      new DataView(packer.inputs[1].buffer, packer.inputs[1].byteOffset).setFloat32(
        INPUT_BYTES - 4,
        -2,
        true,
      );
      assert.equal(packer.int8('F32', 1, 1, width, 127), -1);
      assert.equal(packer.codes[width - 1], 0x81);
      assert.equal(packer.int4('F32', 1, 1, width, 32), -1);
      assert.equal(packer.codes[width / 2 - 1], 0x80);
      assert.equal(packer.bfloat16(1, 1, width), -1);
      assert.deepEqual([...packer.codes.subarray(CODES_BYTES - 2)], [0, 0xc0]);
    });
  }
});
