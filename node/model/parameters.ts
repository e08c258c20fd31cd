/** The parameters of a model inside a graph: weights by name, linear layers with their adapter. */
import { weight, type Value, type WeightSource } from '../engine/graph.js';
import { add } from '../engine/ops/index.js';
import { UserError } from '../errors.js';
import type { LinearLayer } from './family.js';
import { frozenProduct, rowsOf, type Arithmetic } from './frozen-product.js';
import { adapted, lowRankParts, mergedWeight, type AdapterValues } from './lora-graph.js';
import type { TensorEntry, WeightIndex } from './safetensors.js';

/** Frozen weights and the adapter over them. */
export class Parameters {
  private readonly layers: ReadonlyMap<string, LinearLayer>;

  /** `used`: takes in the entry of each weight that is read. */
  constructor(
    private readonly weights: WeightIndex,
    private readonly adapter: AdapterValues,
    layers: readonly LinearLayer[],
    private readonly arithmetic: Arithmetic,
    private readonly used = new Set<TensorEntry>(),
  ) {
    this.layers = new Map(layers.map((layer) => [layer.name, layer]));
  }

  /** The same with the weights under other names. */
  renamed(rename: (name: string) => string): Parameters {
    const weights = new Map([...this.weights].map(([name, entry]) => [rename(name), entry]));
    return new Parameters(
      weights,
      this.adapter,
      [...this.layers.values()],
      this.arithmetic,
      this.used,
    );
  }

  /** Whether the model files hold `name`. */
  has(name: string): boolean {
    return this.weights.has(name);
  }

  /** float32 [shape]. Throws UserError when missing, mis-shaped or of another dtype. */
  weight(name: string, shape: readonly number[]): Value {
    const source = weight(findWeight(this.weights, name, shape));
    this.used.add(this.weights.get(name)!);
    return source;
  }

  /** x: [N, in] float32 -> [N, out]: the layer `name` with bias and adapter. */
  linear(name: string, x: Value): Value {
    return this.linears([name], x)[0]!;
  }

  /** The same of several layers that read the same x. */
  linears(names: readonly string[], x: Value): Value[] {
    const loras = names.map((name) => this.adapter.factors.get(name));
    const lows = lowRankParts(x, loras);
    return names.map((name, i) => {
      const layer = this.layer(name);
      const weight = this.layerWeight(layer);
      const isTurned = layer.transposed && !this.isPacked(name);
      const product = frozenProduct(x, weight, !isTurned, layer.isSensitive, this.arithmetic);
      const y = adapted(x, product, loras[i], lows[i]!);
      return layer.bias ? add(y, this.weight(`${name}.bias`, [layer.outFeatures])) : y;
    });
  }

  /** table: [V, C], indices: [...] int32 -> the rows of these tokens or positions: [..., C] float32. */
  rows(table: Value, indices: Value): Value {
    return rowsOf(table, indices, this.arithmetic);
  }

  /** The weight of the output layer `name`, adapter merged: [V, C] float32. */
  outputTable(name: string): Value {
    return mergedWeight(this.layerWeight(this.layer(name)), this.adapter.factors.get(name));
  }

  /** The same of an output layer that is the embedding: codes of it where there are any. */
  tiedTable(name: string, embedding: Value): Value {
    return this.isPacked(name) ? this.weight(`${name}.weight`, embedding.shape) : embedding;
  }

  private layer(name: string): LinearLayer {
    const layer = this.layers.get(name);
    if (layer === undefined) throw new RangeError(`the model has no linear layer ${name}`);
    return layer;
  }

  /** Codes are of rows, one for each output feature, whichever way the model's own files hold the weight. */
  private isPacked(name: string): boolean {
    return this.weights.get(`${name}.weight`)?.scales !== undefined;
  }

  private layerWeight({ name, inFeatures, outFeatures, transposed }: LinearLayer): Value {
    const isTurned = transposed && !this.isPacked(name);
    const shape = isTurned ? [inFeatures, outFeatures] : [outFeatures, inFeatures];
    return this.weight(`${name}.weight`, shape);
  }
}

/** The weight `name` as a leaf of the graph. Throws UserError when it is not what the config promises. */
export function findWeight(
  weights: WeightIndex,
  name: string,
  shape: readonly number[],
): WeightSource {
  const entry = weights.get(name);
  const expected = `[${shape.join(', ')}]`;
  if (entry === undefined) {
    throw new UserError(
      `the model has no weight ${name}, which its config expects with shape ${expected}: get the model again`,
    );
  }
  const { dtype, file, offset, length, scales } = entry;
  if (entry.shape.length !== shape.length || entry.shape.some((n, axis) => n !== shape[axis])) {
    throw new UserError(
      `weight ${name} in ${file} has shape [${entry.shape.join(', ')}], but the model's config expects ${expected}: config.json and the weights are of different models`,
    );
  }
  if ((dtype === 'I8' || dtype === 'I4') && scales !== undefined) {
    const storage = dtype === 'I8' ? 'INT8' : 'INT4';
    return { name, shape, storage, file, offset, length, scales };
  }
  if (entry.quantised !== undefined) {
    throw new UserError(
      `weight ${name} in ${file} is quantised (${entry.quantised.what}), and is computed with as a copy only: choose --weights int8, int4 or bf16`,
    );
  }
  if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') {
    throw new UserError(
      `weight ${name} in ${file} is of type ${dtype}, but only F32, F16 and BF16 can be loaded: convert the model`,
    );
  }
  return { name, shape, storage: dtype, file, offset, length };
}
