/** Compliance cases of products with frozen matrices, of every storage, in both directions. */
import { apply, constant, input, type Value } from '../../node/engine/graph.js';
import * as ops from '../../node/engine/ops/index.js';
import { codesMatmulOperation, rowMagnitudesOperation } from '../../node/engine/ops/codes.js';
import { Prng } from '../../protocol/prng.js';
import { storeMatrix, weightFolder, type StoredMatrix } from '../support/stored-weights.js';
import { centred, fixed, positive, quantised, whole, type OperationCase } from './operands.js';
import { Plain, total } from './tensors.js';

const [M, N, K] = [3, 5, 44];
const dir = weightFolder();

/** [N, K]; codes of 8 bits up to 63, whose sums any CPU gets right. */
function stored(storage: Parameters<typeof storeMatrix>[1]): StoredMatrix {
  const random = new Prng(new Uint8Array(32), storage);
  const data = Float32Array.from({ length: N * K }, () => 2 * random.nextFloat() - 1);
  return storeMatrix(dir, storage, [N, K], data, { codeMax: 63 });
}

const MATRICES = (['F32', 'F16', 'BF16', 'INT8', 'INT4'] as const).map(
  (storage) => [storage, stored(storage)] as const,
);
const CODES = MATRICES.filter(([storage]) => storage === 'INT8' || storage === 'INT4');

export function frozenCases(): OperationCase[] {
  const inFloats = [true, false].flatMap((transB) =>
    MATRICES.map(([storage, { value, known }]): OperationCase => ({
      operation: 'frozenMatmul',
      what: `${storage}, transB ${transB}`,
      inputs: [centred(M, transB ? K : N)],
      build: ([x]) => ops.frozenMatmul(x!, value, { transB }),
      expected: ([x]) => product(rowsOf(x!), known, transB),
    })),
  );
  const inIntegers = [true, false].flatMap((transB) =>
    CODES.flatMap(([storage, { value, known, source }]) =>
      ([1, 2] as const).flatMap((terms) =>
        [false, true].map((isPositive): OperationCase => ({
          operation: 'codesMatmul',
          what: `${storage}, transB ${transB}, ${terms} of 8 bits, ${isPositive ? 'no' : 'a'} sign`,
          inputs: [fixed((isPositive ? positive : centred)(M, transB ? K : N))],
          // One step of the second term, of 255 x 254, where float32 rounds the other way.
          ...(terms === 2 ? { tolerance: 1e-4 } : {}),
          build: ([x]) => ops.frozenMatmul(x!, value, { transB, terms, isPositive }),
          expected: ([x]) => {
            const scales = rowScales(storage, known, source.scales!.block);
            const codes = known.map((w, i) => Math.round(w / scales[Math.floor(i / K)]!));
            const worth = codes.map((code, i) =>
              transB ? code * scales[Math.floor(i / K)]! : code,
            );
            const rows = rowsOf(x!).map((row) => {
              const scaled = transB ? row : row.map((one, n) => one * scales[n]!);
              return quantised(scaled, isPositive ? 255 : 127, terms === 2);
            });
            return product(rows, worth, transB);
          },
        })),
      ),
    ),
  );
  const rows = MATRICES.filter(([storage]) => storage !== 'INT4').map(
    ([storage, { value, known }]): OperationCase => ({
      operation: 'frozenRows',
      what: `${storage}, some rows twice`,
      inputs: [whole(N, 2, 4)],
      build: ([i]) => ops.frozenRows(value, i!),
      expected: ([i]) => Plain.from([2, 4, K], (a, b, k) => known[i!.at(a, b) * K + k]!),
    }),
  );
  const losses = MATRICES.filter(([storage]) => storage !== 'INT4').map(
    ([storage, { value, known }]): OperationCase => ({
      operation: 'linearCrossEntropy',
      what: `table of ${storage}`,
      inputs: [centred(6, K), whole(N, 6)],
      build: ([hidden, targets]) =>
        ops.linearCrossEntropy(hidden!, value, targets!, { isFrozen: true }),
      expected: ([hidden, targets]) => {
        const logits = product(rowsOf(hidden!), known, true);
        const exps = (n: number): number => total(N, (v) => Math.exp(logits.at(n, v)));
        return Plain.from([6], (n) => Math.log(exps(n)) - logits.at(n, targets!.at(n)));
      },
    }),
  );
  const magnitudes: OperationCase = {
    operation: 'rowMagnitudes',
    what: 'of both signs',
    inputs: [fixed(centred(M, K))],
    build: ([x]) => apply(rowMagnitudesOperation, [x!], {}),
    expected: ([x]) => Plain.from([M], (m) => Math.max(...rowsOf(x!)[m]!.map(Math.abs))),
  };
  return [...inFloats, ...inIntegers, ...rows, ...losses, magnitudes];
}

function rowsOf(x: Plain): number[][] {
  const [rows, columns] = x.shape as [number, number];
  return Array.from({ length: rows }, (_, m) =>
    Array.from({ length: columns }, (_, k) => x.at(m, k)),
  );
}

/** What a code of 8 bits is worth in each row. */
function rowScales(storage: string, known: Float32Array, block: number): number[] {
  return Array.from({ length: N }, (_, n) => {
    const row = [...known.subarray(n * K, (n + 1) * K)].map(Math.abs);
    if (storage === 'INT8') return Math.fround(Math.max(...row) / 63);
    const blocks = [row.slice(0, block), row.slice(block)].map((part) => Math.max(...part) / 7);
    return Math.max(...blocks) / 16;
  });
}

/** x op(w), w: [N, K]. */
function product(x: number[][], w: Float32Array, transB: boolean): Plain {
  return transB
    ? Plain.from([x.length, N], (m, n) => total(K, (k) => x[m]![k]! * w[n * K + k]!))
    : Plain.from([x.length, K], (m, k) => total(N, (n) => x[m]![n]! * w[n * K + k]!));
}

/** Builds that must throw ShapeError, by operation. */
export function frozenRefusals(
  f32: (...shape: number[]) => Value,
  i32: (...shape: number[]) => Value,
): Record<string, (() => Value)[]> {
  const known = Object.fromEntries(MATRICES.map(([storage, { value }]) => [storage, value]));
  const codes = known['INT8']!;
  const scales = constant(new Float32Array(N), [N]);
  const integers = (...inputs: Value[]): Value =>
    apply(codesMatmulOperation, inputs, { transB: true });
  return {
    frozenMatmul: [
      () => ops.frozenMatmul(f32(2, N), codes, { transB: true }),
      () => ops.frozenMatmul(f32(2, K), codes, { transB: false }),
      () => ops.frozenMatmul(f32(2, 2, K), codes, { transB: true }),
      () => ops.frozenMatmul(i32(2, K), codes, { transB: true }),
      () => ops.frozenMatmul(f32(2, K), f32(N, K), { transB: true }),
      () => ops.frozenMatmul(f32(2, K), ops.exp(codes), { transB: true }),
    ],
    frozenRows: [
      () => ops.frozenRows(known['INT4']!, i32(2)),
      () => ops.frozenRows(codes, f32(2)),
      () => ops.frozenRows(input('table', 'float32', [N, K]), i32(2)),
    ],
    codesMatmul: [
      () => integers(f32(2, K), known['BF16']!, scales),
      () => integers(f32(2, N), codes, scales),
      () => integers(f32(2, K), codes, f32(K)),
      () => integers(f32(2, K), codes, scales, f32(3, K)),
    ],
    rowMagnitudes: [
      () => apply(rowMagnitudesOperation, [i32(2, 3)], {}),
      () => apply(rowMagnitudesOperation, [f32(2)], {}),
    ],
  };
}
