/**
 * Products with a frozen matrix that stays as its file holds it, in 16, 8 or 4 bits: float32 is made of a piece of it
 * where that is read, in each direction and each run, and kept for neither. See onnx/stored.ts.
 */
import { apply, type TensorType, type Value, type WeightSource } from '../graph.js';
import { isCodes } from '../storage.js';
import { demand, demandFloat, type OnnxEmitter, type Operation } from '../operation.js';
import { floatRows } from '../onnx/stored.js';
import { matmulOperation } from './matmul.js';

/** How a frozen matrix is read. */
export type FrozenMatmulAttributes = {
  /** It is given as [N, K]. */
  readonly transB: boolean;
};

/** Bytes of the most that is made of a matrix at once: two such pieces are there at the same time. Larger ones are no faster. */
const PIECE_BYTES = 2 ** 26;

/** x op(w) in float32, whatever the storage of w. */
export const frozenMatmulOperation: Operation<FrozenMatmulAttributes> = {
  name: 'frozenMatmul',
  storedOperands: [1],
  type: (inputs, { transB }) => frozenProductType('frozenMatmul', inputs, transB),
  gradient: ({ inputs: [, weight], attributes: { transB }, upstream }) => [
    apply(frozenMatmulOperation, [upstream, weight!], { transB: !transB }),
    null,
  ],
  onnx({ emit, names: [x], inputs, attributes: { transB }, outputName }) {
    const weight = storedWeight(inputs[1] as Value);
    const output = { output: outputName };
    const product = (left: string, right: string, options = {}): string =>
      emit.node('FusedMatMul', [left, right], {
        domain: 'com.microsoft',
        attributes: { transA: { int: 0 }, transB: { int: transB ? 1 : 0 }, alpha: { float: 1 } },
        rank: 2,
        ...options,
      });
    const pieces = piecesOf(weight);
    const inner = transB ? 1 : 0;
    if (pieces.length === 1) {
      product(x!, floatRows(emit, weight, pieces[0]!, inner), output);
    } else if (transB) {
      const parts = pieces.map((piece) => product(x!, floatRows(emit, weight, piece, inner)));
      emit.node('Concat', parts, { ...output, attributes: { axis: { int: 1 } } });
    } else {
      let sum: string | null = null;
      for (const [from, to] of pieces) {
        const left = columns(emit, x!, from, to);
        const right = floatRows(emit, weight, [from, to], inner);
        const isLast = to === weight.shape[0];
        if (sum === null) sum = product(left, right);
        else sum = emit.node('Gemm', [left, right, sum], isLast ? output : {});
      }
    }
  },
  tfjs: ({ tf, inputs: [x, weight], attributes: { transB } }) =>
    tf.matMul(x!, weight!, false, transB),
};

/** Rows of a frozen matrix by index, which are made float32 alone. */
export const frozenRowsOperation: Operation<Readonly<Record<string, never>>> = {
  name: 'frozenRows',
  storedOperands: [0],
  type(inputs) {
    const [table, indices] = inputs as [Value, Value];
    demand(
      isStored(table) && table.source.weight.storage !== 'INT4' && indices.dtype === 'int32',
      'frozenRows',
      inputs,
      'needs a matrix that is read from a file, of more than 4 bits, and int32 indices',
    );
    return { dtype: 'float32', shape: [...indices.shape, table.shape[1]!] };
  },
  gradient: () => [null, null],
  onnx({ emit, names: [, indices], inputs, output, outputName }) {
    const weight = storedWeight(inputs[0] as Value);
    const isShared = emit.sharesPieces && piecesOf(weight).length > 1;
    if (isShared || (isCodes(weight.storage) && !emit.gathersCodes)) {
      rowsByPieces(emit, weight, indices!, output.shape, outputName);
      return;
    }
    const { elements, scales } = emit.stored(weight, 0, weight.shape[0]!);
    const gather = (table: string, options = {}): string =>
      emit.node('Gather', [table, indices!], { attributes: { axis: { int: 0 } }, ...options });
    if (weight.storage === 'F32') {
      gather(elements, { output: outputName });
      return;
    }
    const attributes = { to: { int: FLOAT } };
    const rows = gather(elements);
    if (scales === null) {
      emit.node('Cast', [rows], { output: outputName, attributes });
      return;
    }
    const last = emit.int64([output.shape.length - 1]);
    const perRow = emit.node('Unsqueeze', [gather(scales), last]);
    const codes = emit.node('Cast', [rows], { attributes });
    emit.node('Mul', [codes, perRow], { output: outputName });
  },
  tfjs: ({ tf, inputs: [table, indices] }) => tf.gather(table!, indices as never),
};

const FLOAT_BYTES = 4;
/** TensorProto.DataType. */
const [FLOAT, INT32] = [1, 6];

/**
 * Rows by index, piece by piece of the matrix: where codes can't be gathered, as float32 is made of a piece at a time; and
 * where a device is to hold the pieces that products read, and no second copy in one large buffer.
 */
function rowsByPieces(
  emit: OnnxEmitter,
  weight: WeightSource,
  indices: string,
  shape: readonly number[],
  outputName: string,
): void {
  const number = (value: number): string =>
    emit.node('Cast', [emit.float(value)], { attributes: { to: { int: INT32 } } });
  const gather = (table: string, places: string, options = {}): string =>
    emit.node('Gather', [table, places], { attributes: { axis: { int: 0 } }, ...options });
  const rowsIn = (piece: [number, number], places: string, options = {}): string => {
    if (isCodes(weight.storage)) return gather(floatRows(emit, weight, piece, 1), places, options);
    const { elements } = emit.stored(weight, ...piece, { inner: 1 });
    if (weight.storage === 'F32') return gather(elements, places, options);
    const attributes = { to: { int: FLOAT } };
    return emit.node('Cast', [gather(elements, places)], { ...options, attributes });
  };
  const pieces = piecesOf(weight);
  if (pieces.length === 1) {
    rowsIn(pieces[0]!, indices, { output: outputName });
    return;
  }
  let rows = emit.node('Expand', [emit.float(0), emit.int64(shape)]);
  for (const [from, to] of pieces) {
    const bounds = [
      emit.node('GreaterOrEqual', [indices, number(from)]),
      emit.node('Less', [indices, number(to)]),
    ];
    const isHere = emit.node('And', bounds);
    const local = emit.node('Sub', [indices, number(from)]);
    const places = emit.node('Where', [isHere, local, number(0)]);
    const some = rowsIn([from, to], places);
    const mask = emit.node('Unsqueeze', [isHere, emit.int64([shape.length - 1])]);
    const options = to === weight.shape[0] ? { output: outputName } : {};
    rows = emit.node('Where', [mask, some, rows], options);
  }
}

/** A value whose elements a file holds. */
export type StoredValue = Value & {
  readonly source: { readonly kind: 'weight'; readonly weight: WeightSource };
};

/** Whether it is a matrix that is read from a file, not computed. */
export function isStored(value: Value): value is StoredValue {
  return value.source.kind === 'weight' && value.shape.length === 2;
}

/** The source of an operand that `type` has let pass. */
export function storedWeight(value: Value): WeightSource {
  return (value as StoredValue).source.weight;
}

/** The type of x op(weight). Throws ShapeError for a weight that is not read from a file. */
export function frozenProductType(
  name: string,
  inputs: readonly Value[],
  transB: boolean,
): TensorType {
  const [x, weight] = inputs as [Value, Value];
  demandFloat(name, inputs);
  demand(
    x.shape.length === 2 && isStored(weight),
    name,
    inputs,
    'needs a matrix and a matrix that is read from a file, not computed',
  );
  return matmulOperation.type([x, weight], { transA: false, transB, alpha: 1 });
}

/** Rows, first to last, of each piece of a matrix of which so many bytes an element are made at once. */
export function piecesOf(
  { shape, storage }: WeightSource,
  elementBytes: number = FLOAT_BYTES,
): [from: number, to: number][] {
  const [rows, columns] = shape as [number, number];
  const isWhole = storage === 'INT4' && columns % 2 === 1; // its rows do not begin with a byte
  const bytes = rows * columns * elementBytes;
  const count = isWhole ? 1 : Math.min(rows, Math.ceil(bytes / PIECE_BYTES));
  const each = Math.ceil(rows / count);
  return Array.from({ length: Math.ceil(rows / each) }, (_, i) => [
    i * each,
    Math.min(rows, (i + 1) * each),
  ]);
}

/** Columns `from` to `to` of a matrix. */
export function columns(emit: OnnxEmitter, matrix: string, from: number, to: number): string {
  const range = [[from], [to], [1]].map((one) => emit.int64(one));
  return emit.node('Slice', [matrix, ...range], { rank: 2 });
}

/** table: [V, K], of a file, indices: [...] int32 in 0 to V - 1 -> [..., K] float32. */
export function frozenRows(table: Value, indices: Value): Value {
  return apply(frozenRowsOperation, [table, indices], {});
}
