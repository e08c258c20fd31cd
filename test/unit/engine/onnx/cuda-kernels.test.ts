/**
 * By documentation, CUDA has a kernel for every node that our graphs give it, whatever the weights are stored as. It
 * cannot be run here: this only shows that no node is known to be left to the CPU.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { Executor } from '../../../../node/engine/executor.js';
import { ModelProto, type GraphProto, type NodeProto } from '../../../../node/engine/onnx/onnx.js';
import { writeOnnx } from '../../../../node/engine/onnx/writer.js';
import { readModelConfig } from '../../../../node/model/config.js';
import { openLanguageModel } from '../../../../node/model/language-model.js';
import { loraModules } from '../../../../node/model/lora.js';
import type { TensorEntry, WeightIndex } from '../../../../node/model/safetensors.js';
import { openWeights } from '../../../../node/model/weight-index.js';
import { referenceCase, type ReferenceCaseName } from '../../model/fixtures.js';
import { CUDA_KERNELS, type ElementType } from './cuda-kernels.js';

/** TensorProto.DataType. */
const TYPE_NAMES: Readonly<Record<number, ElementType>> = {
  ...{ 1: 'float', 2: 'uint8', 3: 'int8', 6: 'int32', 7: 'int64' },
  ...{ 9: 'bool', 10: 'float16', 11: 'double', 16: 'bfloat16', 22: 'int4' },
};

const STORAGES = ['F32', 'F16', 'BF16', 'I8', 'I4'] as const;
type Storage = (typeof STORAGES)[number];
const BITS: Readonly<Record<Storage, number>> = { F32: 32, F16: 16, BF16: 16, I8: 8, I4: 4 };
const BLOCK = 32;

/** The index of a model whose weights lie otherwise; a graph is written without reading them. */
function stored(weights: WeightIndex, storage: Storage): WeightIndex {
  return new Map([...weights].map(([name, entry]) => [name, storedEntry(entry, storage)]));
}

function storedEntry(entry: TensorEntry, storage: Storage): TensorEntry {
  const isCodes = storage === 'I8' || storage === 'I4';
  const [rows = 1, columns = 1, ...rest] = entry.shape;
  // Of codes there are the linear layers alone: no embeddings, norms or biases.
  const isLinear = rest.length === 0 && /(proj|fc|c_attn|c_proj)\.weight$/.test(entry.name);
  if (isCodes && !isLinear) return entry;
  const elements = entry.shape.reduce((product, n) => product * n, 1);
  const plain = { ...entry, dtype: storage, length: (elements * BITS[storage]) / 8 };
  if (!isCodes) return plain;
  const block = storage === 'I8' ? columns : Math.min(BLOCK, columns);
  const length = 4 * rows * Math.ceil(columns / block);
  return { ...plain, scales: { file: entry.file, offset: 0, length, block } };
}

const nothing: Executor = {
  device: 'none',
  compile: () => Promise.reject(new Error('nothing is compiled here')),
};

/** What CUDA is given to train a model: the graph of the gradient, and that of the loss. */
async function graphsOf(
  name: ReferenceCaseName,
  storage: Storage,
  sequenceLength = 16,
): Promise<GraphProto[]> {
  const dir = join(referenceCase(name), 'base');
  const path = join(dir, 'config.json');
  const own = readModelConfig(readFileSync(path), path);
  const config = { ...own, maxPositions: Math.max(own.maxPositions, sequenceLength) };
  const adapter = { rank: 4, alpha: 8, modules: loraModules(config, ['all-linear']) };
  const weights = stored(await openWeights(dir), storage);
  const shape = { batchSize: 2, sequenceLength };
  const options = { config, weights, adapter, executor: nothing, ...shape };
  const model = await openLanguageModel({ ...options, memory: 'low', trainedMost: 8 });
  const { outputs, brief = {} } = model.program('gradient');
  return [outputs, brief].map((wanted) => {
    const program = { outputs: wanted };
    const { bytes } = writeOnnx(program, () => 'weights', {
      standard: false,
      loops: false,
      sharesWeights: true,
    });
    const { graph } = ModelProto.decode(bytes);
    return graph ?? assert.fail('no graph was written');
  });
}

function typeName(dataType: number | undefined): ElementType {
  return TYPE_NAMES[dataType ?? 0] ?? assert.fail(`element type ${dataType} has no name here`);
}

/** The type of a node's (first) output. */
function outputType({ opType, attribute }: NodeProto, inputs: ElementType[]): ElementType {
  const of = (name: string): number => Number(attribute.find((one) => one.name === name)?.i ?? 0);
  if (opType === 'Cast') return typeName(of('to'));
  if (opType === 'QuantizeLinear') return inputs[2] ?? typeName(of('output_dtype'));
  if (['DequantizeLinear', 'Where'].includes(opType)) return inputs[1]!;
  if (/^(Equal|Greater|Less|And|Or|Not)/.test(opType)) return 'bool';
  return inputs[0]!;
}

/** What CUDA has no kernel for: "Pad of bfloat16, int64". */
function withoutKernel({ node, initializer, input }: GraphProto): string[] {
  const types = new Map<string, ElementType>();
  for (const { name, dataType } of initializer) types.set(name, typeName(dataType));
  for (const { name, type } of input) types.set(name, typeName(type?.tensorType?.elemType));
  const missing = new Set<string>();
  for (const one of node) {
    const inputs = one.input.map((name) => types.get(name) ?? assert.fail(`${name} has no type`));
    types.set(one.output[0]!, outputType(one, inputs));
    const operator = one.domain === '' ? one.opType : `${one.domain}/${one.opType}`;
    const kernel = CUDA_KERNELS[operator];
    const fits = inputs.every((type, i) => (kernel?.[i] ?? kernel?.at(-1))?.includes(type));
    if (kernel === undefined || !fits) missing.add(`${operator} of ${inputs.join(', ')}`);
  }
  return [...missing];
}

describe('by documentation, CUDA has a kernel for every node', () => {
  for (const storage of STORAGES) {
    it(`of weights stored as ${storage}`, async () => {
      const names = ['llama-gqa-tied', 'qwen2', 'qwen3-window', 'phi3-longrope', 'gemma3'] as const;
      for (const name of names) {
        for (const graph of await graphsOf(name, storage)) {
          const operators = new Set(graph.node.map(({ opType }) => opType));
          assert.equal(operators.has('DequantizeLinear'), storage === 'I8' || storage === 'I4');
          assert.deepEqual(withoutKernel(graph), [], name);
        }
      }
    });
  }

  it('of learned positions, LayerNorm and GELU', async () => {
    for (const graph of await graphsOf('gpt2', 'F16')) assert.deepEqual(withoutKernel(graph), []);
  });

  it('of attention over long sequences', async () => {
    for (const graph of await graphsOf('qwen3-window', 'BF16', 600)) {
      assert.ok(graph.node.some(({ opType }) => opType === 'Less'));
      assert.deepEqual(withoutKernel(graph), []);
    }
  });

  it('and one without is seen', () => {
    const graph = (opType: string, domain: string): GraphProto => ({
      name: 'graph',
      node: [{ name: 'y', opType, domain, input: ['x'], output: ['y'], attribute: [] }],
      initializer: [],
      input: [{ name: 'x', type: { tensorType: { elemType: 22, shape: { dim: [] } } } }],
      output: [],
    });
    assert.deepEqual(withoutKernel(graph('Softmax', '')), ['Softmax of int4']);
    assert.deepEqual(withoutKernel(graph('MatMulIntegerToFloat', 'com.microsoft')), [
      'com.microsoft/MatMulIntegerToFloat of int4',
    ]);
  });
});
