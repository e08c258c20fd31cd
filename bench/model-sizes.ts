/**
 * What training well-known models takes, predicted from their configs alone by the code that plans memory:
 * LoRA r = 8 on all linear layers, the default batch of 8 x 128 tokens. The table of docs/MODELS.md.
 * npm run bench:models
 */
import { graphMemory } from '../node/engine/memory.js';
import { openExecutor } from '../node/engine/open-executor.js';
import type { ModelConfig } from '../node/model/config.js';
import { openLanguageModel } from '../node/model/language-model.js';
import { loraModules } from '../node/model/lora.js';
import type { MemoryMode } from '../node/model/memory-mode.js';
import type { TensorEntry, WeightIndex } from '../node/model/safetensors.js';
import { needed, size, type MemoryNeeds } from '../node/train/memory-plan.js';
import { planMemory } from '../node/train/memory.js';
import { adapterLayout } from '../protocol/adapter.js';
import { configOf, namedShape, tensorsOf, type ModelShape } from './model-shapes.js';

const BATCH = { batchSize: 8, sequenceLength: 128 };
/** Bytes of a weight in a file of such a model: bf16. */
const WEIGHT_BYTES = 2;

const MODELS = [
  ...['SmolLM2-135M', 'SmolLM2-360M', 'Qwen2.5-0.5B', 'Qwen3-0.6B'],
  ...['Llama-3.2-1B', 'Qwen2.5-1.5B'],
];

/** The weights of a shape, as an index of files that nobody reads. */
function weightsOf(config: ModelConfig, shape: ModelShape): WeightIndex {
  return new Map(
    tensorsOf(config, shape).map(({ name, shape: sizes }): [string, TensorEntry] => {
      const length = sizes.reduce((product, n) => product * n, WEIGHT_BYTES);
      return [name, { name, dtype: 'BF16', shape: sizes, file: '', offset: 0, length }];
    }),
  );
}

async function describe(name: string): Promise<string> {
  const shape = namedShape(name);
  const config = configOf(shape, name);
  const weights = weightsOf(config, shape);
  const modules = loraModules(config, ['all-linear']);
  const adapter = { rank: 8, alpha: 16, seed: new Uint8Array(32), targetModules: [], modules };
  const executor = await openExecutor({ device: 'cpu', threads: 1 });
  const graphs: MemoryNeeds['graphs'] = async ({ microBatch, format: _format, ...shape }) => {
    const options = { config, weights, adapter, executor, ...shape, batchSize: microBatch };
    return [graphMemory((await openLanguageModel(options)).program('gradient'))];
  };
  const { size: adapterSize } = adapterLayout(adapter);
  const formats = ['fp32'] as const;
  const needs = {
    ...BATCH,
    fastest: 8,
    replications: [],
    adapterSize,
    formats,
    isHalf: true,
    graphs,
  };
  const machine = { processBytes: process.memoryUsage.rss(), free: Infinity, refuse: false };
  const taken = async (most: number, memory: MemoryMode): Promise<string> => {
    const plan = await planMemory(needs, { most, memory, weights: 'fp32' }, machine);
    return size(needed(plan) + plan.process);
  };
  const plans = [await taken(2, 'fast'), await taken(2, 'normal'), await taken(1, 'low')];
  const bytes = [...weights.values()].reduce((sum, { length }) => sum + length, 0);
  const millions = (bytes / WEIGHT_BYTES / 1e6).toFixed(1);
  return `| ${[name, `${millions} M`, size(bytes), ...plans].join(' | ')} |`;
}

console.log('| model | weights | files (bf16) | fast | normal | low |');
console.log('|---|---|---|---|---|---|');
for (const name of MODELS) console.log(await describe(name));
