/**
 * Walks Thrift's compact protocol, in which Parquet writes its footer and page headers, without building anything:
 * a length there that is larger than what follows would make a decoder take memory for it.
 * Source: the protocol's specification, thrift-compact-protocol.md of Apache Thrift.
 */

/** Structs in structs and lists in lists: a Parquet footer has seven. */
const DEPTH_MAX = 16;
/** Bytes of a 64-bit number in base 128. */
const VARINT_BYTES_MAX = 10;

/** Thrown for bytes that are no such struct. */
export class ThriftError extends Error {
  override readonly name = 'ThriftError';
}

/** The whole numbers of a struct by field number, and the structs in it. */
export interface ThriftStruct {
  numbers: Map<number, number>;
  structs: Map<number, ThriftStruct>;
}

/** Reads structs one after another. */
export class ThriftWalk {
  /** Values met, over all structs. */
  values = 0;

  /** `offset`: where the next struct begins. */
  constructor(
    readonly view: DataView,
    public offset = 0,
  ) {}

  /** Throws ThriftError: cut short, nested too deeply, a length beyond the end, or a kind that Parquet has not. */
  struct(depth = 0): ThriftStruct {
    if (depth > DEPTH_MAX) throw new ThriftError('nested too deeply');
    const found: ThriftStruct = { numbers: new Map(), structs: new Map() };
    let field = 0;
    for (;;) {
      const head = this.#byte();
      const kind = head & 0x0f;
      if (kind === 0) return found;
      field = head >> 4 === 0 ? this.#zigzag() : field + (head >> 4);
      if (kind === 12) found.structs.set(field, this.struct(depth + 1));
      else if (kind === 1 || kind === 2) found.numbers.set(field, kind === 1 ? 1 : 0);
      else {
        const number = this.#value(kind, depth + 1);
        if (number !== null) found.numbers.set(field, number);
      }
    }
  }

  /** The number, or null for what is none. */
  #value(kind: number, depth: number): number | null {
    this.values++;
    switch (kind) {
      case 1:
      case 2:
      case 3:
        return this.#byte();
      case 4:
      case 5:
      case 6:
        return this.#zigzag();
      case 7:
        this.#skip(8);
        return null;
      case 8:
        this.#skip(this.#varint());
        return null;
      case 9:
        this.#list(depth);
        return null;
      case 12:
        this.struct(depth);
        return null;
      default:
        throw new ThriftError('of a kind that is not used');
    }
  }

  #list(depth: number): void {
    if (depth > DEPTH_MAX) throw new ThriftError('nested too deeply');
    const head = this.#byte();
    const size = head >> 4 === 15 ? this.#varint() : head >> 4;
    // Each entry takes a byte at least.
    if (size > this.view.byteLength - this.offset) throw new ThriftError('a list beyond the end');
    for (let i = 0; i < size; i++) this.#value(head & 0x0f, depth + 1);
  }

  #byte(): number {
    if (this.offset >= this.view.byteLength) throw new ThriftError('cut short');
    return this.view.getUint8(this.offset++);
  }

  #skip(bytes: number): void {
    if (bytes > this.view.byteLength - this.offset)
      throw new ThriftError('a length beyond the end');
    this.offset += bytes;
  }

  /** Exact up to 2^53; beyond, too large for anything that it could be all the same. */
  #varint(): number {
    let [value, unit] = [0, 1];
    for (let i = 0; i < VARINT_BYTES_MAX; i++) {
      const byte = this.#byte();
      value += (byte & 0x7f) * unit;
      if (byte < 0x80) return value;
      unit *= 128;
    }
    throw new ThriftError('a number without end');
  }

  #zigzag(): number {
    const value = this.#varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }
}
