/** The packer in WebAssembly (kernels/pack.ts), and which packer this machine runs. */
import { instantiate } from '../../../protocol/webassembly.js';
import type { FloatStorage } from '../../engine/storage.js';
import { JavascriptPacker } from './javascript-packer.js';
import { PACK_WASM } from './kernels/pack.generated.js';
import type { InputSlot, Packer } from './packer.js';

interface Address {
  readonly value: number;
}

/** What kernels/pack.ts exports. */
interface Exports {
  memory: { buffer: ArrayBuffer };
  INPUT_BYTES: Address;
  INPUT: Address;
  CODES: Address;
  SCALES: Address;
  SCALES_MAX: Address;
  int8(source: number, slot: number, rows: number, width: number, largestCode: number): number;
  int4(source: number, slot: number, rows: number, width: number, block: number): number;
  bfloat16(slot: number, rows: number, width: number): number;
}

/** As kernels/pack.ts numbers them. */
const SOURCES: Readonly<Record<FloatStorage, number>> = { F32: 0, BF16: 1, F16: 2 };

/** Files are read into its memory and written from there. */
class WasmPacker implements Packer {
  readonly name = 'webassembly';
  readonly inputs: Packer['inputs'];
  readonly codes: Uint8Array;
  readonly scales: Uint8Array;
  readonly #exports: Exports;

  constructor(exports: Exports) {
    this.#exports = exports;
    const { buffer } = exports.memory;
    const { INPUT, INPUT_BYTES, CODES, SCALES, SCALES_MAX } = exports;
    const regionBytes = INPUT_BYTES.value;
    this.inputs = [
      new Uint8Array(buffer, INPUT.value, regionBytes),
      new Uint8Array(buffer, INPUT.value + regionBytes, regionBytes),
    ];
    this.codes = new Uint8Array(buffer, CODES.value, regionBytes / 2);
    this.scales = new Uint8Array(buffer, SCALES.value, 4 * SCALES_MAX.value);
  }

  int8(
    storage: FloatStorage,
    slot: InputSlot,
    rows: number,
    width: number,
    largestCode: number,
  ): number {
    return this.#exports.int8(SOURCES[storage], slot, rows, width, largestCode);
  }

  int4(storage: FloatStorage, slot: InputSlot, rows: number, width: number, block: number): number {
    return this.#exports.int4(SOURCES[storage], slot, rows, width, block);
  }

  bfloat16(slot: InputSlot, rows: number, width: number): number {
    return this.#exports.bfloat16(slot, rows, width);
  }
}

/** Null where WebAssembly is missing or has no SIMD. */
export function webassemblyPacker(): Packer | null {
  const exports = instantiate(PACK_WASM);
  return exports === null ? null : new WasmPacker(exports as Exports);
}

/** The fastest packer that this machine runs, with memory of its own, some 10 MiB. */
export function openPacker(): Packer {
  return webassemblyPacker() ?? new JavascriptPacker();
}
