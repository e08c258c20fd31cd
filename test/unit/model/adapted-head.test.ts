import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { graphMemory, type GraphMemory } from '../../../node/engine/memory.js';
import { ortExecutor } from '../../../node/engine/ort.js';
import { readModelConfig } from '../../../node/model/config.js';
import { openLanguageModel } from '../../../node/model/language-model.js';
import { loraModules } from '../../../node/model/lora.js';
import type { WeightFormat } from '../../../node/model/weight-format.js';
import { openWeights } from '../../../node/model/weight-index.js';
import { plannedWeights } from '../../../node/train/weight-formats.js';
import { referenceCase } from './fixtures.js';

const dir = join(referenceCase('llama-untied-bias'), 'base');

describe('an adapter on the output layer', () => {
  it('costs its table in float32, and another with the adapter in it, which the prediction counts', async () => {
    const path = join(dir, 'config.json');
    const config = readModelConfig(readFileSync(path), path);
    const model = { config, weights: await openWeights(dir) };
    const table = 4 * config.vocabSize * config.hiddenSize;
    const memoryOf = async (format: WeightFormat, targets: string[]): Promise<GraphMemory> => {
      const modules = loraModules(config, targets);
      const adapter = { rank: 2, alpha: 4, modules };
      const opened = await openLanguageModel({
        ...{ config, adapter, executor: ortExecutor({ threads: 1 }), weightFormat: format },
        ...{ weights: plannedWeights(model, format), batchSize: 1, sequenceLength: 8 },
        memory: 'low',
      });
      return graphMemory(opened.program('gradient'));
    };
    for (const format of ['bf16', 'int8', 'int4'] as const) {
      const usual = await memoryOf(format, ['all-linear']);
      const adapted = await memoryOf(format, ['all-linear', 'lm_head']);
      assert.equal(adapted.weights - usual.weights, table, format);
      assert.ok(adapted.peak - usual.peak > table, format);
      assert.ok(adapted.largest >= table, format);
    }
  });
});
