/**
 * Kernels that ONNX Runtime's CUDA provider registers, for the operators that our graphs may have: by documentation
 * (docs/OperatorKernels.md of microsoft/onnxruntime at commit 001d12d2623f, rows of operator set 21 and of com.microsoft
 * version 1; package-lock.json has onnxruntime-node 1.30). Nothing here was run on CUDA.
 */

/** A tensor's element type, by its name in ONNX. */
export type ElementType =
  | 'float'
  | 'float16'
  | 'bfloat16'
  | 'double'
  | 'int4'
  | 'int8'
  | 'uint8'
  | 'int32'
  | 'int64'
  | 'bool';

/** What the inputs may be, place by place; the last one stands for all that follow. */
export type KernelInputs = readonly (readonly ElementType[])[];

const HALF: readonly ElementType[] = ['float', 'float16', 'double'];
const FLOAT: readonly ElementType[] = [...HALF, 'bfloat16'];
const NUMBER: readonly ElementType[] = [...FLOAT, 'int32', 'int64'];
const ANY: readonly ElementType[] = [...NUMBER, 'int8', 'uint8', 'bool'];
const INDEX: readonly ElementType[] = ['int32', 'int64'];
const SHAPE: readonly ElementType[] = ['int64'];
const CODE: readonly ElementType[] = ['int4', 'int8', 'uint8'];

/** "operator" or "com.microsoft/operator" -> its inputs. */
export const CUDA_KERNELS: Readonly<Record<string, KernelInputs>> = {
  Add: [NUMBER],
  And: [['bool']],
  Cast: [[...NUMBER, 'int8', 'uint8', 'bool']],
  Concat: [ANY],
  Cos: [HALF],
  DequantizeLinear: [CODE, ['float', 'float16'], CODE],
  Div: [NUMBER],
  Equal: [['bool', ...HALF, 'int32', 'int64']],
  Exp: [FLOAT],
  Expand: [ANY, SHAPE],
  Gather: [ANY, INDEX],
  GatherElements: [ANY, INDEX],
  Gelu: [FLOAT],
  Gemm: [FLOAT],
  Greater: [[...HALF, 'int32', 'int64']],
  GreaterOrEqual: [[...HALF, 'int32', 'int64']],
  Identity: [ANY],
  LayerNormalization: [FLOAT],
  Less: [[...HALF, 'int32', 'int64']],
  LessOrEqual: [[...HALF, 'int32', 'int64']],
  Log: [HALF],
  LogSoftmax: [HALF],
  MatMul: [FLOAT],
  Max: [NUMBER],
  Min: [NUMBER],
  Mul: [NUMBER],
  Neg: [[...FLOAT, 'int8']],
  Not: [['bool']],
  Or: [['bool']],
  Pad: [['bool', ...HALF], SHAPE, HALF],
  Pow: [NUMBER],
  QuantizeLinear: [['float', 'float16'], ['float', 'float16'], CODE],
  Reciprocal: [HALF],
  ReduceMax: [[...HALF, 'int32', 'int64'], SHAPE],
  ReduceMean: [[...HALF, 'int32'], SHAPE],
  ReduceMin: [[...HALF, 'int32', 'int64', 'int8', 'uint8'], SHAPE],
  ReduceSum: [[...FLOAT, 'int32', 'int64'], SHAPE],
  Reshape: [ANY, SHAPE],
  ScatterND: [ANY, SHAPE, ANY],
  Sigmoid: [FLOAT],
  SimplifiedLayerNormalization: [FLOAT],
  Sin: [HALF],
  Slice: [ANY, INDEX],
  Softmax: [FLOAT],
  Split: [ANY, SHAPE],
  Sqrt: [FLOAT],
  Squeeze: [ANY, SHAPE],
  Sub: [NUMBER],
  Tanh: [FLOAT],
  Transpose: [ANY],
  Unsqueeze: [ANY, SHAPE],
  Where: [['bool'], [...FLOAT, 'int32', 'int64', 'uint8']],
  'com.microsoft/DequantizeLinear': [['int8', 'uint8'], ['float16'], ['int8', 'uint8']],
  'com.microsoft/FusedMatMul': [FLOAT],
  'com.microsoft/GatherBlockQuantized': [
    ['int4', 'uint8'],
    INDEX,
    ['bfloat16', 'float', 'float16'],
    ['int4', 'uint8'],
  ],
  'com.microsoft/Gelu': [FLOAT],
  // transB = 0 is in the source of the CUDA kernel; the CPU's ignores it.
  'com.microsoft/MatMulBnb4': [
    ['bfloat16', 'float', 'float16'],
    ['uint8'],
    ['bfloat16', 'float', 'float16'],
  ],
  'com.microsoft/MatMulNBits': [
    ['bfloat16', 'float', 'float16'],
    ['uint8'],
    ['bfloat16', 'float', 'float16'],
    ['bfloat16', 'float', 'float16', 'uint8'],
  ],
  'com.microsoft/QuickGelu': [FLOAT],
  'com.microsoft/RotaryEmbedding': [
    ['bfloat16', 'float', 'float16'],
    SHAPE,
    ['bfloat16', 'float', 'float16'],
  ],
};
