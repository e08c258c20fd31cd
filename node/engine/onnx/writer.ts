/**
 * Writes a graph as an ONNX model (https://onnx.ai/onnx/repo-docs/IR.html): nodes in topological order,
 * small constants inside, weights as external data that point into the model files where they lie.
 */
import { ExecutorError } from '../errors.js';
import { readAsFloats, splitRuns, type Program } from '../executor.js';
import {
  constant,
  topologicalOrder,
  type Shape,
  type TensorType,
  type Value,
  weightRows,
  type WeightSource,
} from '../graph.js';
import type {
  OnnxAttribute,
  OnnxEmitter,
  OnnxFloats,
  OnnxLoop,
  OnnxNodeOptions,
  OnnxStep,
  StoredOptions,
  StoredRows,
} from '../operation.js';
import { dequantise, scalesShape } from './stored.js';
import {
  GraphProto,
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
const STORAGE_TYPE = { F32: 1, F16: 10, BF16: 16, INT8: 3, INT4: 22 } as const;
/** TensorProto.DataLocation. */
const EXTERNAL = 1;
/** AttributeProto.AttributeType. */
const ATTRIBUTE_TYPE = { float: 1, int: 2, string: 3, graph: 5, ints: 7 } as const;

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

/** The input [] bool that says whether a run is a brief one; only a model with brief outputs has it. */
export const BRIEF_INPUT = 'brief';

/** What depends on where the model is run. */
export interface WriteOptions {
  /** Without nodes that only some providers of ONNX Runtime have kernels for: see standard.ts. */
  readonly standard: boolean;
  /** With Loops: not every provider has one, and some hand what goes through it to the CPU. */
  readonly loops: boolean;
  /**
   * With each frozen matrix once, for all products with it: a device copies every initializer, however often the file is
   * mapped. ONNX Runtime must then not merge equal nodes, or what one direction makes of it is kept for the other.
   */
  readonly sharesWeights: boolean;
}

/**
 * `locate` says by what path ONNX Runtime shall read a file of weights (relative to the folder it is given). With
 * `brief` outputs there is one node If, whose branches hold what the two kinds of run do not share. Throws
 * ExecutorError when two inputs have one name.
 */
export function writeOnnx(
  { outputs, brief }: Pick<Program, 'outputs' | 'brief'>,
  locate: (file: string) => string,
  options: WriteOptions = { standard: false, loops: true, sharesWeights: false },
): OnnxModel {
  const results = [...Object.values(outputs), ...Object.values(brief ?? {})];
  const writer = new Writer(locate, options, readAsFloats(topologicalOrder(results), results));
  if (brief === undefined) {
    for (const value of topologicalOrder(Object.values(outputs))) writer.add(value);
    for (const [name, value] of Object.entries(outputs)) writer.output(name, value);
  } else {
    const { shared, full, short } = splitRuns(outputs, brief);
    for (const value of shared) writer.add(value);
    writer.choose(outputs, [
      { values: short, results: { ...absent(outputs), ...brief } },
      { values: full, results: outputs },
    ]);
  }
  return { bytes: writer.encode(), inputs: writer.inputs };
}

/** Stands for the outputs that a brief run has not. */
function absent(outputs: Program['outputs']): Record<string, Value> {
  const nothing = ({ dtype, shape }: Value): Value =>
    constant(
      dtype === 'int32' ? new Int32Array(1) : new Float32Array(1),
      shape.map(() => 1),
    );
  return Object.fromEntries(Object.entries(outputs).map(([name, value]) => [name, nothing(value)]));
}

/** What belongs to one graph: the model's own, or that of a branch. */
interface Scope {
  readonly nodes: NodeProto[];
  /** Those that are written first. */
  readonly early: NodeProto[];
  readonly initializers: TensorProto[];
  readonly outputs: ValueInfoProto[];
  readonly constants: Map<string, string>;
}

function newScope(): Scope {
  return { nodes: [], early: [], initializers: [], outputs: [], constants: new Map() };
}

/** One branch: the values to write into it, and what it returns in the order of the outputs. */
interface Branch {
  readonly values: readonly Value[];
  readonly results: Readonly<Record<string, Value>>;
}

class Writer implements OnnxEmitter {
  readonly gathersCodes = true;
  readonly sharesPieces: boolean;
  readonly inputs = new Map<string, TensorType>();
  private readonly root = newScope();
  private scope = this.root;
  /** Initializers that a run could override: what is made of those is not made once and for all. */
  private readonly overridable: ValueInfoProto[] = [];
  /** Rows of frozen matrices that are written already; null where each product has its own. */
  private readonly sharedRows: Map<string, StoredRows> | null;
  private readonly names = new Map<Value, string>();
  private readonly ranks = new Map<string, number>();
  /** Where operations put their nodes. */
  private readonly emitter: OnnxEmitter;
  private fresh = 0;
  private isChoosing = false;

  constructor(
    private readonly locate: (file: string) => string,
    { standard, loops, sharesWeights }: WriteOptions,
    private readonly readAsFloats: ReadonlySet<Value>,
  ) {
    this.sharedRows = sharesWeights ? new Map() : null;
    this.sharesPieces = sharesWeights;
    const emitter = standard ? standardOperators(this, (name) => this.ranks.get(name)!) : this;
    this.emitter = {
      gathersCodes: emitter.gathersCodes,
      sharesPieces: sharesWeights,
      node: emitter.node.bind(emitter),
      int64: emitter.int64.bind(emitter),
      float: emitter.float.bind(emitter),
      stored: emitter.stored.bind(emitter),
      ...(loops ? { loop: this.loop.bind(this) } : {}),
    };
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
      if (this.readAsFloats.has(value)) this.names.set(value, this.weight(source.weight));
    } else {
      const { operation, inputs, attributes } = source;
      const name = this.name(operation.name);
      this.names.set(value, name);
      operation.onnx({
        emit: this.emitter,
        names: inputs.map((one) => this.names.get(one) ?? ''),
        inputs,
        attributes,
        output: value,
        outputName: name,
      });
    }
    const name = this.names.get(value);
    if (name !== undefined) this.ranks.set(name, value.shape.length);
  }

  /** Copies the value to the graph output `name`: one value may be several outputs, or an input. */
  output(name: string, value: Value): void {
    this.result(outputName(name), value);
  }

  /** The outputs of the model: what `brief` returns in a brief run, else what `full` does. */
  choose(outputs: Program['outputs'], [brief, full]: readonly [Branch, Branch]): void {
    const names = Object.keys(outputs);
    const { nodes, outputs: declared } = this.scope;
    const branches = {
      then_branch: this.branch(brief, names),
      else_branch: this.branch(full, names),
    };
    nodes.push({
      name: 'If',
      opType: 'If',
      input: [BRIEF_INPUT],
      output: names.map(outputName),
      attribute: Object.entries(branches).map(([name, graph]) => attribute(name, { graph })),
      domain: '',
    });
    this.isChoosing = true;
    for (const [name, { dtype, shape }] of Object.entries(outputs)) {
      declared.push(valueInfo(outputName(name), { dtype, shape: shape.map(() => null) }));
    }
  }

  /** The encoded graph of a branch. */
  private branch({ values, results }: Branch, names: readonly string[]): Uint8Array {
    const outer = this.scope;
    this.scope = newScope();
    for (const value of values) this.add(value);
    for (const name of names) {
      const value = results[name]!;
      if (!this.names.has(value)) this.add(value);
      this.result(this.name(`result/${name}`), value);
    }
    const graph = this.encodeScope('branch', []);
    this.scope = outer;
    return graph;
  }

  private encodeScope(stem: string, inputs: ValueInfoProto[]): Uint8Array {
    const { nodes, early, initializers, outputs } = this.scope;
    return GraphProto.encode({
      name: this.name(stem),
      node: [...early, ...nodes],
      initializer: initializers,
      input: inputs,
      output: outputs,
    });
  }

  private result(name: string, value: Value): void {
    this.node('Identity', [this.names.get(value)!], { output: name });
    this.scope.outputs.push(valueInfo(name, value));
  }

  node(opType: string, inputs: readonly string[], options: OnnxNodeOptions = {}): string {
    const output = options.output ?? this.name(opType);
    if (options.rank !== undefined) this.ranks.set(output, options.rank);
    const { nodes, early } = this.scope;
    (options.isEarly === true ? early : nodes).push({
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
    const { nodes, early, initializers, outputs } = this.scope;
    const inputs = [...this.inputs].map(([name, type]) => valueInfo(inputName(name), type));
    inputs.push(...this.overridable);
    if (this.isChoosing) inputs.push(valueInfo(BRIEF_INPUT, { dtype: 'bool', shape: [] }));
    return ModelProto.encode({
      irVersion: IR_VERSION,
      producerName: 'murmurate',
      opsetImport: [
        { domain: '', version: OPERATOR_SET },
        { domain: 'com.microsoft', version: 1n },
      ],
      graph: {
        name: 'graph',
        node: [...early, ...nodes],
        initializer: initializers,
        input: inputs,
        output: outputs,
      },
    });
  }

  private name(stem: string): string {
    return `${stem}_${this.fresh++}`;
  }

  private shared(key: string, make: () => string): string {
    const { constants } = this.scope;
    const name = constants.get(key) ?? make();
    constants.set(key, name);
    return name;
  }

  loop(
    count: number,
    state: readonly OnnxFloats[],
    body: (step: string, state: readonly string[]) => OnnxStep,
  ): OnnxLoop {
    const outer = this.scope;
    this.scope = newScope();
    const [step, goesOn] = [this.name('step'), this.name('goesOn')];
    const carried = state.map(({ shape }) => ({ name: this.name('state'), shape }));
    const result = body(
      step,
      carried.map(({ name }) => name),
    );
    const next = carried.map(({ shape }, i) => ({ name: result.state[i]!, shape }));
    const inputs = [
      valueInfo(step, { dtype: 'int64', shape: [] }),
      valueInfo(goesOn, { dtype: 'bool', shape: [] }),
      ...carried.map(floatInfo),
    ];
    const still = this.node('Identity', [goesOn]);
    this.scope.outputs.push(
      valueInfo(still, { dtype: 'bool', shape: [] }),
      ...[...next, result.row].map(floatInfo),
    );
    const graph = this.encodeScope('body', inputs);
    this.scope = outer;
    const outputs = [...state.map(() => this.name('state')), this.name('rows')];
    this.scope.nodes.push({
      name: outputs.at(-1)!,
      opType: 'Loop',
      input: [this.steps(count), this.always(), ...state.map(({ name }) => name)],
      output: outputs,
      attribute: [attribute('body', { graph })],
      domain: '',
    });
    return { state: outputs.slice(0, -1), rows: outputs.at(-1)! };
  }

  private steps(count: number): string {
    return this.shared(`steps ${count}`, () => {
      const raw = new Uint8Array(BigInt64Array.of(BigInt(count)).buffer);
      return this.initializer([], DATA_TYPE.int64, raw);
    });
  }

  private always(): string {
    return this.shared('true', () => this.initializer([], DATA_TYPE.bool, Uint8Array.of(1)));
  }

  private initializer(shape: Shape, dataType: number, raw: Uint8Array): string {
    const name = this.name('constant');
    // protons wants bytes over an ArrayBuffer, which a typed array of the caller need not be.
    this.scope.initializers.push({
      ...tensor(name, shape, dataType),
      rawData: Uint8Array.from(raw),
    });
    return name;
  }

  /** The weight as float32, whatever its file holds. */
  private weight(weight: WeightSource): string {
    const { storage, scales } = weight;
    const elements = this.elements(this.scope, weight);
    if (storage === 'F32') return elements;
    if (scales !== undefined) {
      return dequantise(this, weight, { elements, scales: this.scales(this.scope, weight) });
    }
    return this.node('Cast', [elements], { attributes: { to: { int: DATA_TYPE.float32 } } });
  }

  stored(
    weight: WeightSource,
    from: number,
    to: number,
    { inner, isFixed = false }: StoredOptions = {},
  ): StoredRows {
    const key = [weight.file, weight.offset, from, to].join('\n');
    const known = this.sharedRows?.get(key);
    if (known !== undefined) return known;
    const rows = weightRows(weight, from, to);
    const elements = this.elements(this.root, rows);
    if (!isFixed) {
      // What products in both directions read has both lengths.
      const hidden = this.sharedRows === null ? inner : undefined;
      const dim = rows.shape.map((length, axis) => ({
        dimValue: BigInt(axis === hidden ? 0 : length),
      }));
      const type = { tensorType: { elemType: STORAGE_TYPE[weight.storage], shape: { dim } } };
      this.overridable.push({ name: elements, type });
    }
    const scales = rows.scales === undefined ? null : this.scales(this.root, rows);
    this.sharedRows?.set(key, { elements, scales });
    return { elements, scales };
  }

  private elements(scope: Scope, weight: WeightSource): string {
    const { name, shape, storage } = weight;
    return this.external(scope, name, STORAGE_TYPE[storage], shape, weight);
  }

  private scales(scope: Scope, weight: WeightSource): string {
    const name = `${weight.name}/scales`;
    return this.external(scope, name, DATA_TYPE.float32, scalesShape(weight), weight.scales!);
  }

  /** Bytes of a file as a tensor. */
  private external(
    scope: Scope,
    name: string,
    dataType: number,
    shape: Shape,
    bytes: FileBytes,
  ): string {
    const tensorName = this.name(`weight/${name}`);
    this.ranks.set(tensorName, shape.length);
    scope.initializers.push({
      ...tensor(tensorName, shape, dataType),
      dataLocation: EXTERNAL,
      externalData: [
        { key: 'location', value: this.locate(bytes.file) },
        { key: 'offset', value: String(bytes.offset) },
        { key: 'length', value: String(bytes.length) },
      ],
    });
    return tensorName;
  }
}

/** Where a tensor lies on disk. */
type FileBytes = Pick<WeightSource, 'file' | 'offset' | 'length'>;

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

/** null stands for a length that is not the same in every run: in ONNX, one of which nothing is written. */
function valueInfo(
  name: string,
  type: { dtype: keyof typeof DATA_TYPE; shape: readonly (number | null)[] },
): ValueInfoProto {
  const dim = type.shape.map((length) => ({ dimValue: BigInt(length ?? 0) }));
  return { name, type: { tensorType: { elemType: DATA_TYPE[type.dtype], shape: { dim } } } };
}

function floatInfo({ name, shape }: OnnxFloats): ValueInfoProto {
  return valueInfo(name, { dtype: 'float32', shape });
}

function attribute(
  name: string,
  value: OnnxAttribute | { readonly graph: Uint8Array },
): AttributeProto {
  const none = new Uint8Array(0);
  const empty = { name, f: 0, i: 0n, s: none, g: none, floats: [], ints: [] };
  if ('graph' in value) {
    // protons wants bytes over an ArrayBuffer, as below.
    return { ...empty, type: ATTRIBUTE_TYPE.graph, g: Uint8Array.from(value.graph) };
  }
  if ('int' in value) return { ...empty, type: ATTRIBUTE_TYPE.int, i: BigInt(value.int) };
  if ('float' in value) return { ...empty, type: ATTRIBUTE_TYPE.float, f: value.float };
  if ('ints' in value) return { ...empty, type: ATTRIBUTE_TYPE.ints, ints: value.ints.map(BigInt) };
  return { ...empty, type: ATTRIBUTE_TYPE.string, s: new TextEncoder().encode(value.string) };
}
