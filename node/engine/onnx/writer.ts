/**
 * Writes a graph as an ONNX model (https://onnx.ai/onnx/repo-docs/IR.html): nodes in topological order,
 * small constants inside, weights as external data that point into the model files where they lie.
 */
import { ExecutorError } from '../errors.js';
import {
  topologicalOrder,
  type DType,
  type Shape,
  type TensorType,
  type Value,
  type WeightSource,
} from '../graph.js';
import type { OnnxAttribute, OnnxEmitter, OnnxNodeOptions } from '../operation.js';
import {
  ModelProto,
  type AttributeProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from './onnx.js';
import { standardOperators } from './standard.js';

/** IR version 10 goes with operator set 21; ONNX Runtime reads both since 1.18. */
const IR_VERSION = 10n;
const OPERATOR_SET = 21n;

/** TensorProto.DataType. */
const DATA_TYPE = { float32: 1, int32: 6, int64: 7, bool: 9 } as const;
const STORAGE_TYPE = { F32: 1, F16: 10, BF16: 16 } as const;
/** TensorProto.DataLocation. */
const EXTERNAL = 1;
/** AttributeProto.AttributeType. */
const ATTRIBUTE_TYPE = { float: 1, int: 2, string: 3, ints: 7 } as const;

/** A graph in ONNX. */
export interface OnnxModel {
  /** The encoded ModelProto. */
  readonly bytes: Uint8Array;
  /** The inputs that must be fed, by name. */
  readonly inputs: ReadonlyMap<string, TensorType>;
}

/** ONNX has one name space for all tensors: what the model calls the input or output `name`. */
export const inputName = (name: string): string => `input/${name}`;
export const outputName = (name: string): string => `output/${name}`;

/** What depends on where the model is run. */
export interface WriteOptions {
  /** Without nodes that only some providers of ONNX Runtime have kernels for: see standard.ts. */
  readonly standard: boolean;
}

/**
 * `locate` says what path ONNX Runtime shall read a weight from (relative to the folder it is given).
 * Throws ExecutorError when two inputs have one name.
 */
export function writeOnnx(
  outputs: Readonly<Record<string, Value>>,
  locate: (weight: WeightSource) => string,
  options: WriteOptions = { standard: false },
): OnnxModel {
  const writer = new Writer(locate, options);
  for (const value of topologicalOrder(Object.values(outputs))) writer.add(value);
  for (const [name, value] of Object.entries(outputs)) writer.output(name, value);
  return { bytes: writer.encode(), inputs: writer.inputs };
}

class Writer implements OnnxEmitter {
  readonly inputs = new Map<string, TensorType>();
  private readonly nodes: NodeProto[] = [];
  private readonly initializers: TensorProto[] = [];
  private readonly outputs: ValueInfoProto[] = [];
  private readonly names = new Map<Value, string>();
  private readonly constants = new Map<string, string>();
  private readonly ranks = new Map<string, number>();
  /** Where operations put their nodes. */
  private readonly emitter: OnnxEmitter;
  private fresh = 0;

  constructor(
    private readonly locate: (weight: WeightSource) => string,
    { standard }: WriteOptions,
  ) {
    this.emitter = standard ? standardOperators(this, (name) => this.ranks.get(name)!) : this;
  }

  add(value: Value): void {
    const { source } = value;
    if (source.kind === 'input') {
      const known = this.inputs.get(source.name);
      if (known !== undefined) throw new ExecutorError(`two inputs are called "${source.name}"`);
      this.inputs.set(source.name, value);
      this.names.set(value, inputName(source.name));
    } else if (source.kind === 'constant') {
      const { buffer, byteOffset, byteLength } = source.data;
      const raw = new Uint8Array(buffer, byteOffset, byteLength);
      this.names.set(value, this.initializer(value.shape, DATA_TYPE[value.dtype], raw));
    } else if (source.kind === 'weight') {
      this.names.set(value, this.weight(source.weight));
    } else {
      const { operation, inputs, attributes } = source;
      const name = this.name(operation.name);
      this.names.set(value, name);
      operation.onnx({
        emit: this.emitter,
        names: inputs.map((one) => this.names.get(one)!),
        inputs,
        attributes,
        output: value,
        outputName: name,
      });
    }
    this.ranks.set(this.names.get(value)!, value.shape.length);
  }

  /** Copies the value to the graph output `name`: one value may be several outputs, or an input. */
  output(name: string, value: Value): void {
    const own = outputName(name);
    this.node('Identity', [this.names.get(value)!], { output: own });
    this.outputs.push(valueInfo(own, value));
  }

  node(opType: string, inputs: readonly string[], options: OnnxNodeOptions = {}): string {
    const output = options.output ?? this.name(opType);
    this.nodes.push({
      name: output,
      opType,
      input: [...inputs],
      output: [output],
      attribute: Object.entries(options.attributes ?? {}).map(([name, value]) =>
        attribute(name, value),
      ),
      domain: options.domain ?? '',
    });
    return output;
  }

  int64(values: readonly number[]): string {
    return this.shared(`int64 ${values.join(' ')}`, () => {
      const raw = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
      return this.initializer([values.length], DATA_TYPE.int64, raw);
    });
  }

  float(value: number): string {
    return this.shared(`float ${value}`, () =>
      this.initializer([], DATA_TYPE.float32, new Uint8Array(Float32Array.of(value).buffer)),
    );
  }

  encode(): Uint8Array {
    return ModelProto.encode({
      irVersion: IR_VERSION,
      producerName: 'murmurate',
      opsetImport: [
        { domain: '', version: OPERATOR_SET },
        { domain: 'com.microsoft', version: 1n },
      ],
      graph: {
        name: 'graph',
        node: this.nodes,
        initializer: this.initializers,
        input: [...this.inputs].map(([name, type]) => valueInfo(inputName(name), type)),
        output: this.outputs,
      },
    });
  }

  private name(stem: string): string {
    return `${stem}_${this.fresh++}`;
  }

  private shared(key: string, make: () => string): string {
    const name = this.constants.get(key) ?? make();
    this.constants.set(key, name);
    return name;
  }

  private initializer(shape: Shape, dataType: number, raw: Uint8Array): string {
    const name = this.name('constant');
    // protons wants bytes over an ArrayBuffer, which a typed array of the caller need not be.
    this.initializers.push({ ...tensor(name, shape, dataType), rawData: Uint8Array.from(raw) });
    return name;
  }

  private weight(weight: WeightSource): string {
    const tensorName = this.name(`weight/${weight.name}`);
    this.initializers.push({
      ...tensor(tensorName, weight.shape, STORAGE_TYPE[weight.storage]),
      dataLocation: EXTERNAL,
      externalData: [
        { key: 'location', value: this.locate(weight) },
        { key: 'offset', value: String(weight.offset) },
        { key: 'length', value: String(weight.length) },
      ],
    });
    if (weight.storage === 'F32') return tensorName;
    return this.node('Cast', [tensorName], { attributes: { to: { int: DATA_TYPE.float32 } } });
  }
}

function tensor(name: string, shape: Shape, dataType: number): TensorProto {
  return {
    name,
    dataType,
    dims: shape.map(BigInt),
    rawData: new Uint8Array(0),
    externalData: [],
    dataLocation: 0,
  };
}

function valueInfo(name: string, type: { dtype: DType; shape: Shape }): ValueInfoProto {
  const dim = type.shape.map((dimension) => ({ dimValue: BigInt(dimension) }));
  return { name, type: { tensorType: { elemType: DATA_TYPE[type.dtype], shape: { dim } } } };
}

function attribute(name: string, value: OnnxAttribute): AttributeProto {
  const empty = { name, f: 0, i: 0n, s: new Uint8Array(0), floats: [], ints: [] };
  if ('int' in value) return { ...empty, type: ATTRIBUTE_TYPE.int, i: BigInt(value.int) };
  if ('float' in value) return { ...empty, type: ATTRIBUTE_TYPE.float, f: value.float };
  if ('ints' in value) return { ...empty, type: ATTRIBUTE_TYPE.ints, ints: value.ints.map(BigInt) };
  return { ...empty, type: ATTRIBUTE_TYPE.string, s: new TextEncoder().encode(value.string) };
}
