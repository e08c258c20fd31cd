/**
 * Random weights for a model shape, of a scale at which losses and gradients are finite and of the size that a
 * trained model has: what leads back into the residual stream is divided by sqrt(2 x layers), as in GPT-2.
 */
import { Prng } from '../protocol/prng.js';
import type { StreamedTensor } from '../node/model/safetensors.js';
import {
  INITIALIZER_RANGE,
  type ModelShape,
  type ShapedTensor,
} from '../node/doctor/model-shapes.js';

/** Values that are drawn from: a 16-bit number chooses one. */
const TABLE_LENGTH = 2 ** 16;
/** Values of one piece, 4 MiB as bf16. */
const PIECE_LENGTH = 2 ** 21;
const BF16_ONE = 0x3f80;

/** Layers whose output is added to the residual stream. */
const RESIDUAL = /\.(?:o_proj|down_proj)\.weight$/;

/** `tensors` with bf16 values that follow from `seed` and the name of each tensor. */
export function randomTensors(
  tensors: readonly ShapedTensor[],
  { layers }: Pick<ModelShape, 'layers'>,
  seed: Uint8Array,
): StreamedTensor[] {
  const plain = normalTable(INITIALIZER_RANGE, seed);
  const residual = normalTable(INITIALIZER_RANGE / Math.sqrt(2 * layers), seed);
  return tensors.map(({ name, shape, kind }) => ({
    ...{ name, shape, dtype: 'BF16' },
    pieces: () => {
      const length = shape.reduce((product, n) => product * n, 1);
      if (kind === 'norm') return [bytesOf(new Uint16Array(length).fill(BF16_ONE))];
      const table = RESIDUAL.test(name) ? residual : plain;
      return randomPieces(length, table, new Prng(seed, name));
    },
  }));
}

/** Normally distributed values as bf16: [TABLE_LENGTH]. */
function normalTable(deviation: number, seed: Uint8Array): Uint16Array {
  const random = new Prng(seed, 'normal');
  return Uint16Array.from({ length: TABLE_LENGTH }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - random.nextFloat()));
    return toBf16(deviation * radius * Math.cos(2 * Math.PI * random.nextFloat()));
  });
}

const [asFloat, asBits] = ((): [Float32Array, Uint32Array] => {
  const float = new Float32Array(1);
  return [float, new Uint32Array(float.buffer)];
})();

function toBf16(value: number): number {
  asFloat[0] = value;
  const bits = asBits[0] ?? 0;
  // Round to nearest, ties to even.
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

function* randomPieces(length: number, table: Uint16Array, random: Prng): Generator<Uint8Array> {
  // Marsaglia's xorshift32: a billion values would take Prng a quarter of an hour.
  let state = random.nextUint32() || 1;
  for (let done = 0; done < length; done += PIECE_LENGTH) {
    const values = new Uint16Array(Math.min(PIECE_LENGTH, length - done));
    for (let i = 0; i < values.length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      values[i] = table[state >>> 16] ?? 0;
    }
    yield bytesOf(values);
  }
}

function bytesOf(values: Uint16Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
