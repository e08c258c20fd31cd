import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Executor } from '../../../node/engine/executor.js';
import { topologicalOrder } from '../../../node/engine/graph.js';
import { openTfjsExecutor } from '../../../node/engine/tfjs/open.js';
import { decoderOf } from '../../../node/model/families.js';
import { openLanguageModel } from '../../../node/model/language-model.js';
import { narrowCpu } from '../engine/narrow-cpu.js';
import type { ReferenceCaseName } from './fixtures.js';
import { nextTokens, openCase, randomTokens, T } from './small-case.js';

describe('int8', () => {
  for (const name of ['llama-gqa-tied', 'qwen3', 'gemma3', 'phi3', 'gpt2'] as const) {
    it(`computes nearly the loss and gradient of fp32, in other numbers: ${name}`, async () => {
      const { options, model, theta } = await openCase(name, ['all-linear']);
      const quantised = await openLanguageModel({ ...options, precision: 'int8' });
      try {
        assert.equal(quantised.describe(), 'cpu (1 thread), int8');
        const tokens = randomTokens(2 * T, model.config.vocabSize);
        const segments = new Int32Array(2 * T);
        const batch = { tokens, targets: nextTokens(tokens), segments };
        const exact = await model.gradient(batch, theta);
        const result = await quantised.gradient(batch, theta);
        const error = Math.abs(result.loss / exact.loss - 1);
        assert.ok(error > 0 && error < 5e-3, `loss ${result.loss} for ${exact.loss}`);
        const difference = result.gradient.map((value, i) => value - exact.gradient[i]!);
        const relative = Math.hypot(...difference) / Math.hypot(...exact.gradient);
        assert.ok(relative > 1e-4 && relative < 0.1, `gradient off by ${relative}`);
        assert.equal((await quantised.loss(batch, theta)).loss, result.loss);
      } finally {
        await model.dispose();
        await quantised.dispose();
      }
    });
  }

  it('multiplies in fp32 where 8 bits are too few and the CPU has no instructions for them', async () => {
    const { options, model } = await openCase('llama-gqa-tied', ['all-linear']);
    await model.dispose();
    const forwardProducts = async (executor: Executor): Promise<Record<string, number>> => {
      const one = await openLanguageModel({ ...options, executor, precision: 'int8' });
      const { loss } = one.program('loss').outputs;
      await one.dispose();
      const counts = { quantisedMatmul: 0, matmulWithQuantisedGradient: 0, fine: 0 };
      for (const { source } of topologicalOrder([loss!])) {
        if (source.kind !== 'operation') continue;
        const { name } = source.operation;
        if (name in counts) counts[name as keyof typeof counts] += 1;
        if (name === 'quantisedMatmul' && source.inputs.length === 3) counts.fine += 1;
      }
      return counts;
    };
    const { layers } = options.config;
    // Queries, keys, values and the way down of each layer, and the output layer.
    const sensitive = 4 * layers + 1;
    assert.deepEqual(await forwardProducts(narrowCpu()), {
      quantisedMatmul: 3 * layers,
      matmulWithQuantisedGradient: sensitive,
      fine: 0,
    });
    assert.deepEqual(await forwardProducts(await openTfjsExecutor()), {
      quantisedMatmul: 3 * layers + sensitive,
      matmulWithQuantisedGradient: 0,
      fine: sensitive,
    });
  });

  it('takes more than 8 bits of what sensitive layers read, which their family declares', async () => {
    const sensitiveLayers = async (name: ReferenceCaseName): Promise<string[]> => {
      const { options, model } = await openCase(name, ['all-linear']);
      await model.dispose();
      const { layers } = decoderOf(options.config);
      const names = layers.filter(({ isSensitive }) => isSensitive).map((layer) => layer.name);
      return [...new Set(names.map((one) => one.replace(/^.*\.\d+\./, '')))].sort();
    };
    assert.deepEqual(await sensitiveLayers('llama-gqa-tied'), [
      'mlp.down_proj',
      'self_attn.k_proj',
      'self_attn.q_proj',
      'self_attn.v_proj',
    ]);
    assert.deepEqual(await sensitiveLayers('phi3'), [
      'lm_head',
      'mlp.down_proj',
      'self_attn.qkv_proj',
    ]);
    assert.deepEqual(await sensitiveLayers('gpt2'), ['attn.c_attn', 'mlp.c_proj']);
  });
});
