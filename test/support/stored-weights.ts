/** Frozen matrices in files of every storage, as a packer would write them. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { weight, type Value, type WeightSource } from '../../node/engine/graph.js';
import type { WeightStorage } from '../../node/engine/storage.js';

/** How codes are made. */
export interface CodeOptions {
  /** The largest code of 8 bits, of either sign: 63 where sums of two products must fit into 16 bits. Default: 127. */
  readonly codeMax?: number;
  /** Codes of 4 bits that share a scale. Default: 32. */
  readonly block?: number;
}

/** A matrix in a file, and the numbers that its file stands for. */
export interface StoredMatrix {
  readonly source: WeightSource;
  readonly value: Value;
  /** Row-major. */
  readonly known: Float32Array;
}

/** A folder for files of weights, which is removed when the process ends. */
export function weightFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'murmurate-stored-'));
  process.on('exit', () => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

let files = 0;

/** Writes `data`, [rows, columns] row-major, rounded to what `storage` holds. */
export function storeMatrix(
  dir: string,
  storage: WeightStorage,
  [rows, columns]: readonly [number, number],
  data: Float32Array,
  { codeMax = 127, block = 32 }: CodeOptions = {},
): StoredMatrix {
  const file = join(dir, `w${files++}`);
  const at = { name: `w${files}`, shape: [rows, columns], file, offset: 8 } as const;
  const save = (bytes: Uint8Array): number => {
    writeFileSync(file, Buffer.concat([Buffer.alloc(8, 0xff), bytes]));
    return bytes.length;
  };
  if (storage === 'INT8' || storage === 'INT4') {
    const shared = storage === 'INT8' ? columns : block;
    const most = storage === 'INT8' ? codeMax : 7;
    const { codes, scales, known } = encode(data, columns, shared, most);
    const length = save(storage === 'INT8' ? new Uint8Array(codes.buffer) : nibbles(codes));
    const scaleFile = `${file}.scales`;
    writeFileSync(scaleFile, new Uint8Array(scales.buffer));
    const source: WeightSource = {
      ...{ ...at, storage, length },
      scales: { file: scaleFile, offset: 0, length: 4 * scales.length, block: shared },
    };
    return { source, value: weight(source), known };
  }
  const { bytes, known } = narrow(data, storage);
  const source: WeightSource = { ...at, storage, length: save(bytes) };
  return { source, value: weight(source), known };
}

function encode(
  data: Float32Array,
  columns: number,
  block: number,
  codeMax: number,
): { codes: Int8Array; scales: Float32Array; known: Float32Array } {
  const codes = new Int8Array(data.length);
  const known = new Float32Array(data.length);
  const scales: number[] = [];
  for (let row = 0; row < data.length; row += columns) {
    for (let start = 0; start < columns; start += block) {
      const [from, to] = [row + start, row + Math.min(columns, start + block)];
      const most = data.subarray(from, to).reduce((max, x) => Math.max(max, Math.abs(x)), 1e-30);
      const scale = Math.fround(most / codeMax);
      scales.push(scale);
      for (let i = from; i < to; i++) {
        codes[i] = Math.round(data[i]! / scale);
        known[i] = codes[i]! * scale;
      }
    }
  }
  return { codes, scales: Float32Array.from(scales), known };
}

/** Two codes a byte, the first in the low half. */
function nibbles(codes: Int8Array): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(codes.length / 2));
  for (const [i, code] of codes.entries()) bytes[i >>> 1]! |= (code & 15) << (4 * (i % 2));
  return bytes;
}

/** To the upper halves of float32, or to numbers of 11 bits that float16 has too. */
function narrow(
  data: Float32Array,
  storage: 'F32' | 'F16' | 'BF16',
): { bytes: Uint8Array; known: Float32Array } {
  const known = data.slice();
  if (storage === 'F32') return { bytes: new Uint8Array(known.buffer), known };
  const words = new Uint32Array(known.buffer);
  const halves = new Uint16Array(words.length);
  for (const [i, word] of words.entries()) {
    if (storage === 'BF16') {
      words[i] = word & 0xffff0000;
      halves[i] = word >>> 16;
    } else {
      const exponent = ((word >>> 23) & 0xff) - 112;
      if (exponent >= 31) throw new RangeError(`${data[i]} is too large for float16`);
      words[i] = exponent > 0 ? word & 0xffffe000 : 0;
      halves[i] =
        exponent > 0 ? ((word >>> 16) & 0x8000) | (exponent << 10) | ((word >>> 13) & 0x3ff) : 0;
    }
  }
  return { bytes: new Uint8Array(halves.buffer), known };
}
