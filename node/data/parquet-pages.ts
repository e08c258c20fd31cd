/**
 * Looks through the pages of a Parquet column before they are decoded: hyparquet takes what a page says of itself on
 * trust, so that a few damaged bytes could make it fill all memory. Source: the specification, apache/parquet-format.
 */
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { decompress as decompressZstd } from 'fzstd';
import { snappyUncompress, type CompressionCodec, type Compressors } from 'hyparquet';
import { ThriftWalk, type ThriftStruct } from './thrift.js';

/** Thrown for pages that cannot or must not be decoded; the message says why, and holds no data. */
export class ParquetPageError extends Error {
  override readonly name = 'ParquetPageError';
}

/** Values of one column in one row group: a million conversations of eight turns. */
export const VALUES_MAX = 1 << 23;
/** Bytes of one page, unpacked; writers aim at one MiB. */
export const PAGE_BYTES_MAX = 1 << 28;
/** Bytes that one packed byte may become, and what is allowed in any case: gzip reaches 1,032. */
const RATIO_MAX = 1100;
const SMALL_BYTES = 1 << 16;

/** Encodings by number. Others (of numbers, or with prefixes of the value before) are hardly used for text. */
const PLAIN = 0;
const PLAIN_DICTIONARY = 2;
const RLE = 3;
const DELTA_LENGTH = 6;
const RLE_DICTIONARY = 8;
const ENCODINGS = [PLAIN, PLAIN_DICTIONARY, RLE, DELTA_LENGTH, RLE_DICTIONARY];

/** How a page is unpacked; `length`: what it says that it becomes. The output never has more bytes. */
const UNPACK: Readonly<
  Partial<Record<CompressionCodec, (input: Uint8Array, length: number) => Uint8Array>>
> = {
  SNAPPY: (input, length) => {
    const output = new Uint8Array(length);
    snappyUncompress(input, output);
    return output;
  },
  GZIP: (input, length) => gunzipSync(input, { maxOutputLength: Math.max(1, length) }),
  BROTLI: (input, length) => brotliDecompressSync(input, { maxOutputLength: Math.max(1, length) }),
  ZSTD: (input, length) => decompressZstd(input, new Uint8Array(length)),
};
export const COMPRESSORS: Compressors = UNPACK;

/** What the schema and the footer say of a column. */
export interface ColumnShape {
  codec: CompressionCodec;
  /** Levels of nesting that can be repeated, and that can be missing. */
  repetitionMax: number;
  definitionMax: number;
}

/** Throws ParquetPageError, ThriftError or what unpacking throws. `bytes`: a whole column of a row group. */
export function checkPages(bytes: Uint8Array, column: ColumnShape): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const walk = new ThriftWalk(view);
  let values = 0;
  while (walk.offset < bytes.length - 1) {
    const page = new Page(walk.struct(), column);
    const end = walk.offset + page.packedBytes;
    if (end > bytes.length) throw new ParquetPageError('a page is cut short');
    values += page.values;
    if (values > VALUES_MAX)
      throw new ParquetPageError(`a column has more than ${VALUES_MAX} values in a row group`);
    page.check(bytes.subarray(walk.offset, end));
    walk.offset = end;
  }
}

class Page {
  readonly packedBytes: number;
  readonly unpackedBytes: number;
  readonly values: number;
  /** Of the three kinds of page exactly one. */
  readonly #first: ThriftStruct | undefined;
  readonly #dictionary: ThriftStruct | undefined;
  readonly #second: ThriftStruct | undefined;

  constructor(
    header: ThriftStruct,
    readonly column: ColumnShape,
  ) {
    const type = header.numbers.get(1);
    this.#first = type === 0 ? header.structs.get(5) : undefined;
    this.#dictionary = type === 2 ? header.structs.get(7) : undefined;
    this.#second = type === 3 ? header.structs.get(8) : undefined;
    const own = this.#first ?? this.#dictionary ?? this.#second;
    if (own === undefined) throw new ParquetPageError('a page is of an unknown kind');
    this.unpackedBytes = sizeOf(header, 2);
    this.packedBytes = sizeOf(header, 3);
    this.values = sizeOf(own, 1);
    const most =
      column.codec === 'UNCOMPRESSED'
        ? this.packedBytes
        : this.packedBytes * RATIO_MAX + SMALL_BYTES;
    if (this.unpackedBytes > Math.min(most, PAGE_BYTES_MAX)) {
      throw new ParquetPageError(`a page would have ${this.unpackedBytes} bytes`);
    }
  }

  check(packed: Uint8Array): void {
    if (this.#second !== undefined) this.#checkSecond(packed, this.#second);
    else if (this.#first !== undefined)
      this.#checkFirst(this.#unpack(packed, this.unpackedBytes), this.#first);
    // Even true and false take a bit each.
    else if (this.values > 8 * this.unpackedBytes)
      throw new ParquetPageError('a dictionary is cut short');
  }

  #unpack(packed: Uint8Array, length: number): Uint8Array {
    const { codec } = this.column;
    if (codec === 'UNCOMPRESSED' || length === 0) return packed;
    const unpack = UNPACK[codec];
    if (unpack === undefined) {
      throw new ParquetPageError(
        `its compression is ${codec}, which cannot be read; write it with snappy, zstd, gzip or none`,
      );
    }
    return unpack(packed, length);
  }

  #checkFirst(bytes: Uint8Array, header: ThriftStruct): void {
    const { repetitionMax, definitionMax } = this.column;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = 0;
    /** How many levels are the highest. */
    const levels = (max: number): number => {
      if (max === 0) return this.values;
      const runs = { from: at + 4, width: widthOf(max), count: this.values };
      const highest = countInRuns(view, runs, max);
      at += 4 + view.getUint32(at, true);
      return highest;
    };
    levels(repetitionMax);
    const present = levels(definitionMax);
    checkValues(view, at, encodingOf(header, 2), present);
  }

  #checkSecond(packed: Uint8Array, header: ThriftStruct): void {
    const { repetitionMax, definitionMax } = this.column;
    const nulls = sizeOf(header, 2);
    const [definitionBytes, repetitionBytes] = [sizeOf(header, 5), sizeOf(header, 6)];
    sizeOf(header, 3);
    const levelBytes = definitionBytes + repetitionBytes;
    if (nulls > this.values || levelBytes > Math.min(packed.length, this.unpackedBytes)) {
      throw new ParquetPageError('a page contradicts itself');
    }
    const levels = new DataView(packed.buffer, packed.byteOffset, levelBytes);
    const runs = { count: this.values };
    if (repetitionMax > 0) {
      countInRuns(levels, { ...runs, from: 0, width: widthOf(repetitionMax) }, -1);
    }
    if (definitionMax > 0) {
      countInRuns(levels, { ...runs, from: repetitionBytes, width: widthOf(definitionMax) }, -1);
    }
    const rest = packed.subarray(levelBytes);
    const isPacked = (header.numbers.get(7) ?? 1) !== 0;
    const values = isPacked ? this.#unpack(rest, this.unpackedBytes - levelBytes) : rest;
    const view = new DataView(values.buffer, values.byteOffset, values.byteLength);
    checkValues(view, 0, encodingOf(header, 4), this.values - nulls);
  }
}

/** Values in runs, of which only the runs can claim more than there are. */
function checkValues(view: DataView, at: number, encoding: number, count: number): void {
  if (count === 0) return;
  if (encoding === RLE) countInRuns(view, { from: at + 4, width: 1, count }, -1);
  if (encoding !== PLAIN_DICTIONARY && encoding !== RLE_DICTIONARY) return;
  const width = view.getUint8(at);
  if (width > 32) throw new ParquetPageError('a page contradicts itself');
  if (width > 0) countInRuns(view, { from: at + 1, width, count }, -1);
}

/**
 * How many of `count` numbers of `width` bits are `wanted`, in runs of one number and stretches of packed ones.
 * Throws ParquetPageError for a run of more than are left, RangeError at the end of the bytes.
 */
function countInRuns(
  view: DataView,
  { from, width, count }: { from: number; width: number; count: number },
  wanted: number,
): number {
  const bytes = Math.ceil(width / 8);
  let [at, seen, found] = [from, 0, 0];
  while (seen < count) {
    let [head, shift] = [0, 0];
    for (;;) {
      const byte = view.getUint8(at++);
      head |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
      shift += 7;
      if (shift > 28) throw new ParquetPageError('a run has no end');
    }
    const size = head >>> 1;
    if ((head & 1) === 1) {
      if (size * width > view.byteLength - at + width)
        throw new ParquetPageError('a run is cut short');
      const stop = Math.min(8 * size, count - seen);
      for (let i = 0; wanted >= 0 && i < stop; i++)
        if (bitsAt(view, at, i * width, width) === wanted) found++;
      at += size * width;
      seen += stop;
      continue;
    }
    if (size > count - seen) throw new ParquetPageError('a run has more values than its page');
    let value = 0;
    for (let i = 0; i < bytes; i++) value |= view.getUint8(at++) << (8 * i);
    if (value === wanted) found += size;
    seen += size;
  }
  return found;
}

function bitsAt(view: DataView, at: number, bit: number, width: number): number {
  let value = 0;
  for (let i = 0; i < width; i++) {
    const byte = at + ((bit + i) >> 3);
    const isSet = byte < view.byteLength && ((view.getUint8(byte) >> ((bit + i) & 7)) & 1) === 1;
    if (isSet) value |= 1 << i;
  }
  return value;
}

function widthOf(max: number): number {
  return 32 - Math.clz32(max);
}

function sizeOf(struct: ThriftStruct, field: number): number {
  const size = struct.numbers.get(field) ?? -1;
  if (size >= 0 && Number.isSafeInteger(size)) return size;
  throw new ParquetPageError('a page contradicts itself');
}

function encodingOf(struct: ThriftStruct, field: number): number {
  const encoding = struct.numbers.get(field) ?? -1;
  if (ENCODINGS.includes(encoding)) return encoding;
  throw new ParquetPageError(
    'its encoding cannot be read; write it with plain or dictionary encoding',
  );
}
