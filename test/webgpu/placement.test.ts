/** No node of a training graph is left to the CPU on WebGPU: each would cost two copies and a wait. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { input } from '../../node/engine/graph.js';
import { frozenMatmul } from '../../node/engine/ops/index.js';
import { storeMatrix, weightFolder } from '../support/stored-weights.js';
import { readModelConfig } from '../../node/model/config.js';
import { openLanguageModel, type GraphName } from '../../node/model/language-model.js';
import { loraModules } from '../../node/model/lora.js';
import type { MemoryMode } from '../../node/model/memory-mode.js';
import type { TokenBatch } from '../../node/model/token-batch.js';
import { openWeights } from '../../node/model/weight-index.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../../node/version.js';
import { initialAdapter } from '../../protocol/adapter.js';
import { leftToCpu, nodesOn, placementOf, type Placement } from '../support/placement.js';
import { referenceCase } from '../unit/model/fixtures.js';

const SHAPE = { batchSize: 2, sequenceLength: 16 };

/** One graph of a model. */
interface Case {
  readonly dir: string;
  readonly graph: GraphName;
  readonly memory: MemoryMode;
  /** As LanguageModelOptions. */
  readonly trainedMost?: number;
}

/** Where the nodes of a case ran, those of the graph of the loss alone among them. */
async function placementOfModel({ dir, graph, ...options }: Case): Promise<Placement> {
  const path = join(dir, 'config.json');
  const config = readModelConfig(readFileSync(path), path);
  const weights = await openWeights(dir);
  const targets = ['all-linear'];
  const modules = loraModules(config, targets);
  const adapter = { rank: 4, alpha: 8, seed: new Uint8Array(32), targetModules: targets, modules };
  const count = SHAPE.batchSize * SHAPE.sequenceLength;
  const some = (factor: number): Int32Array =>
    Int32Array.from({ length: count }, (_, i) => (i * factor + 5) % config.vocabSize);
  const batch: TokenBatch = {
    tokens: some(37),
    targets: some(41),
    segments: new Int32Array(count),
  };
  return placementOf({ threads: 1, device: 'webgpu' }, async (executor) => {
    const model = await openLanguageModel({
      ...{ config, weights, adapter, executor, ...SHAPE, ...options },
      ...(graph === 'examples' && { examples: SHAPE }),
    });
    const theta = initialAdapter(adapter);
    if (graph === 'gradient') await model.gradient(batch, theta);
    if (graph === 'examples') await model.exampleGradients(batch, theta);
    await model.loss(batch, theta);
    await model.dispose();
  });
}

const base = EMBEDDED_MODEL_DIRECTORY;
const of = (name: Parameters<typeof referenceCase>[0]): string => join(referenceCase(name), 'base');

const CASES: Readonly<Record<string, Case>> = {
  'the gradient': { dir: base, graph: 'gradient', memory: 'normal' },
  'the gradient in low memory': { dir: base, graph: 'gradient', memory: 'low' },
  'the gradient of a few trained tokens': {
    ...{ dir: base, graph: 'gradient', memory: 'low', trainedMost: 8 },
  },
  'the gradients of examples': { dir: base, graph: 'examples', memory: 'normal' },
  'learned positions and LayerNorm (gpt2)': {
    ...{ dir: of('gpt2'), graph: 'gradient', memory: 'low' },
  },
  'windows and norms of q and k (gemma3)': {
    ...{ dir: of('gemma3'), graph: 'gradient', memory: 'low' },
  },
  'fused projections and partial rotation (phi3)': {
    ...{ dir: of('phi3-longrope'), graph: 'gradient', memory: 'low' },
  },
  'biases (qwen2)': { dir: of('qwen2'), graph: 'gradient', memory: 'low' },
};

describe('on WebGPU no node is left to the CPU', () => {
  for (const [what, one] of Object.entries(CASES)) {
    it(what, async (t) => {
      const placement = await placementOfModel(one);
      const nodes = nodesOn(placement, 'WebGpuExecutionProvider');
      t.diagnostic(`${nodes} nodes on the device`);
      assert.ok(nodes > 300, `only ${nodes} nodes ran on the device`);
      assert.equal(leftToCpu(placement), '');
    });
  }

  it('and one that is left would be seen', async () => {
    const data = new Float32Array(32).fill(1);
    const { value } = storeMatrix(weightFolder(), 'INT8', [4, 8], data);
    const x = input('x', 'float32', [4, 8]);
    const placement = await placementOf({ threads: 1, device: 'webgpu' }, async (executor) => {
      const y = frozenMatmul(x, value, { transB: true, terms: 1 });
      const graph = await executor.compile({ outputs: { y } });
      await graph.run({ x: data });
      await graph.dispose();
    });
    assert.match(leftToCpu(placement), /MatMulIntegerToFloat/);
  });
});
