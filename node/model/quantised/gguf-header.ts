/**
 * The header of a GGUF file (versions 2 and 3, the layout of ggml's docs/gguf.md): where its tensors lie. A file is foreign
 * bytes: every count and size is held to the file.
 */
import { UserError } from '../../errors.js';
import { openFile, readFully } from './parts.js';

export interface GgufTensor {
  readonly name: string;
  /** ggml's number of its type. */
  readonly type: number;
  /** The outermost first, as elsewhere here. */
  readonly shape: readonly number[];
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly length: number;
}

export interface GgufHeader {
  /** llama.cpp's name of the kind of model. */
  readonly architecture: string;
  readonly tensors: readonly GgufTensor[];
}

/** ggml's types whose layout is known here: values and bytes of a block. */
const BLOCKS: Readonly<Record<number, readonly [values: number, bytes: number]>> = {
  0: [1, 4],
  1: [1, 2],
  2: [32, 18],
  8: [32, 34],
  14: [256, 210],
  30: [1, 2],
};
/** Names of its types, for errors. */
const TYPE_NAMES: readonly (string | undefined)[] = [
  ...['F32', 'F16', 'Q4_0', 'Q4_1', undefined, undefined, 'Q5_0', 'Q5_1', 'Q8_0', 'Q8_1'],
  ...['Q2_K', 'Q3_K', 'Q4_K', 'Q5_K', 'Q6_K', 'Q8_K', 'IQ2_XXS', 'IQ2_XS', 'IQ3_XXS', 'IQ1_S'],
  ...['IQ4_NL', 'IQ3_S', 'IQ2_S', 'IQ4_XS', 'I8', 'I16', 'I32', 'I64', 'F64', 'IQ1_M', 'BF16'],
];

/** Read at first, and at most: the largest vocabularies take 20 MB. */
const HEADER_BYTES = 1 << 20;
const HEADER_BYTES_MAX = 1 << 27;
const COUNT_MAX = 100_000;
const NAME_BYTES_MAX = 1024;
const RANK_MAX = 4;
/** Lists in lists. */
const DEPTH_MAX = 4;
const DEFAULT_ALIGNMENT = 32;
const ALIGNMENT_MAX = 1 << 20;

/** Bytes of a metadata value by its type; 8 is a string, 9 a list. */
const VALUE_BYTES: Readonly<Record<number, number>> = {
  ...{ 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1 },
  ...{ 10: 8, 11: 8, 12: 8 },
};
const [UINT32, STRING, LIST] = [4, 8, 9];

/** "Q4_K", or a number for what came later. */
export function ggufTypeName(type: number): string {
  return TYPE_NAMES[type] ?? `type ${type}`;
}

/** Throws UserError for a file that is damaged, cut short, or has tensors of types with another layout. */
export async function readGgufHeader(file: string): Promise<GgufHeader> {
  const handle = await openFile(file);
  try {
    const { size } = await handle.stat();
    for (let wanted = HEADER_BYTES; ; wanted *= 4) {
      const bytes = new Uint8Array(Math.min(wanted, HEADER_BYTES_MAX, size));
      await readFully(handle, file, bytes, 0);
      try {
        return new Parser(file, bytes, size).parse();
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        if (bytes.length === size) throw damaged(file, 'is cut short');
        if (bytes.length === HEADER_BYTES_MAX) {
          throw damaged(file, `has a header of more than ${HEADER_BYTES_MAX} bytes`);
        }
      }
    }
  } finally {
    await handle.close();
  }
}

function damaged(file: string, what: string): UserError {
  return new UserError(`${file} ${what}: it is no GGUF file, or it is damaged; get it again`);
}

/** Reading beyond the bytes throws RangeError, as a DataView does. */
class Parser {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  #at = 0;
  #architecture = '';
  #alignment = DEFAULT_ALIGNMENT;

  constructor(
    private readonly file: string,
    bytes: Uint8Array<ArrayBuffer>,
    private readonly fileBytes: number,
  ) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
  }

  parse(): GgufHeader {
    if (this.#view.getUint32(0, true) !== 0x46554747)
      throw damaged(this.file, 'does not begin with GGUF');
    const version = this.#view.getUint32(4, true);
    if (version !== 2 && version !== 3) {
      throw new UserError(
        `${this.file} is GGUF of version ${version}; versions 2 and 3 are read: convert it again with llama.cpp`,
      );
    }
    this.#at = 8;
    const tensorCount = this.#count(COUNT_MAX, 'tensors');
    const valueCount = this.#count(COUNT_MAX, 'metadata values');
    for (let i = 0; i < valueCount; i++) this.#metadata();
    const found = Array.from({ length: tensorCount }, () => this.#tensor());
    const start = Math.ceil(this.#at / this.#alignment) * this.#alignment;
    const tensors = found.map((tensor) => this.#placed(tensor, start));
    if (new Set(tensors.map(({ name }) => name)).size < tensors.length) {
      throw damaged(this.file, 'has two tensors of one name');
    }
    return { architecture: this.#architecture, tensors };
  }

  #metadata(): void {
    const key = this.#string(NAME_BYTES_MAX);
    const type = this.#uint32();
    if (key === 'general.architecture' && type === STRING) {
      this.#architecture = this.#string(NAME_BYTES_MAX);
    } else if (key === 'general.alignment' && type === UINT32) {
      this.#alignment = this.#uint32();
      if (this.#alignment >= 1 && this.#alignment <= ALIGNMENT_MAX) return;
      throw damaged(this.file, `is aligned to ${this.#alignment} bytes`);
    } else this.#skip(type, 0);
  }

  #skip(type: number, depth: number): void {
    if (type === STRING) {
      this.#advance(this.#uint64());
    } else if (type === LIST && depth < DEPTH_MAX) {
      const of = this.#uint32();
      const count = this.#uint64();
      const each = VALUE_BYTES[of];
      if (each !== undefined) this.#advance(count * each);
      // An element takes 8 bytes at least, so that the file bounds the loop.
      else for (let i = 0; i < count; i++) this.#skip(of, depth + 1);
    } else {
      const bytes = VALUE_BYTES[type];
      if (bytes === undefined)
        throw damaged(this.file, `has a metadata value of the unknown type ${type}`);
      this.#advance(bytes);
    }
  }

  #tensor(): Omit<GgufTensor, 'length'> {
    const name = this.#string(NAME_BYTES_MAX);
    const rank = this.#uint32();
    if (rank > RANK_MAX) throw damaged(this.file, `has a tensor of ${rank} dimensions`);
    // The innermost comes first.
    const shape = Array.from({ length: rank }, () => this.#uint64()).reverse();
    return { name, shape, type: this.#uint32(), offset: this.#uint64() };
  }

  #placed({ name, type, shape, offset }: Omit<GgufTensor, 'length'>, start: number): GgufTensor {
    const block = BLOCKS[type];
    if (block === undefined) {
      throw new UserError(
        `${this.file}: the weight ${name} is ${ggufTypeName(type)}, which is not read; take the model as Q8_0, Q4_0, F16 or BF16 ` +
          '(llama-quantize --allow-requantize OLD.gguf NEW.gguf Q8_0 makes one), or its safetensors',
      );
    }
    const count = shape.reduce((product, n) => product * n, 1);
    const length = (count / block[0]) * block[1];
    const isWhole = (shape.at(-1) ?? 1) % block[0] === 0 && count > 0;
    const end = start + offset + length;
    if (!isWhole || offset % this.#alignment !== 0 || !(end <= this.fileBytes)) {
      throw damaged(
        this.file,
        `has the tensor ${name} of ${ggufTypeName(type)} [${shape.join(', ')}] at byte ${start + offset} of ${this.fileBytes}, where it cannot be`,
      );
    }
    return { name, type, shape, offset: start + offset, length };
  }

  #count(most: number, what: string): number {
    const count = this.#uint64();
    if (count <= most) return count;
    throw damaged(this.file, `claims ${count} ${what}`);
  }

  #string(bytesMax: number): string {
    const length = this.#uint64();
    if (length > bytesMax) throw damaged(this.file, `has a name of ${length} bytes`);
    const start = this.#at;
    this.#advance(length);
    return new TextDecoder().decode(this.#bytes.subarray(start, this.#at));
  }

  #uint32(): number {
    const value = this.#view.getUint32(this.#at, true);
    this.#at += 4;
    return value;
  }

  #uint64(): number {
    const value = Number(this.#view.getBigUint64(this.#at, true));
    this.#at += 8;
    return value;
  }

  #advance(bytes: number): void {
    this.#at += bytes;
    if (this.#at > this.#bytes.length) throw new RangeError('beyond the bytes');
  }
}
