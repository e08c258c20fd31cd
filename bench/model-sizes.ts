/**
 * What training well-known models takes by format of the frozen weights, predicted from their configs alone by the
 * code that plans memory: LoRA r = 16 on all linear layers, one sequence at a time in low memory. The table of
 * docs/MODELS.md.   npm run bench:models
 */
import { configOf, MODEL_SHAPES, weightsOf, type ModelShape } from '../node/doctor/model-shapes.js';
import { needsOf } from '../node/doctor/computing.js';
import { loraModules } from '../node/model/lora.js';
import { WEIGHT_FORMATS, type WeightFormat } from '../node/model/weight-format.js';
import { needed, size } from '../node/train/memory-plan.js';
import { planMemory } from '../node/train/memory.js';
import { testRun } from '../test/support/runs.js';

const SEQUENCES = [512, 2048];
const RANK = 16;

async function describe(name: string, shape: ModelShape): Promise<string> {
  const config = configOf(shape, name);
  const model = { config, weights: weightsOf(config, shape) };
  const modules = loraModules(config, ['all-linear']);
  const adapter = {
    rank: RANK,
    alpha: 2 * RANK,
    seed: new Uint8Array(32),
    targetModules: [],
    modules,
  };
  const taken = async (weights: WeightFormat, sequenceLength: number): Promise<string> => {
    const training = { ...testRun().manifest.training, batchSize: 1, sequenceLength };
    const needs = await needsOf({ model, adapter, training, options: { threads: 1 } });
    const plan = await planMemory(
      needs,
      { most: 1, memory: 'low', weights },
      { processBytes: process.memoryUsage.rss(), free: Infinity, refuse: false },
    );
    return size(needed(plan) + plan.process);
  };
  const bytes = [...model.weights.values()].reduce((sum, { length }) => sum + length, 0);
  const cells = [name, size(bytes)];
  for (const format of WEIGHT_FORMATS) {
    const sizes = [];
    for (const tokens of SEQUENCES) sizes.push(await taken(format, tokens));
    cells.push(sizes.join(', '));
  }
  return `| ${cells.join(' | ')} |`;
}

console.log(`| model | files (bf16) | ${WEIGHT_FORMATS.join(' | ')} |`);
console.log(`|---|---|${WEIGHT_FORMATS.map(() => '---|').join('')}`);
for (const [name, shape] of MODEL_SHAPES) console.log(await describe(name, shape));
