/**
 * What a device holds is what is predicted: buffers of Mesa's software device are shared memory of this process, which
 * the kernel counts.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { describe, it } from 'node:test';
import { graphMemory } from '../../node/engine/memory.js';
import { ortExecutor } from '../../node/engine/ort.js';
import { openLanguageModel } from '../../node/model/language-model.js';
import { loraModules } from '../../node/model/lora.js';
import { openModelDirectory } from '../../node/model/model-directory.js';
import { openPackedWeights } from '../../node/model/packed/open.js';
import type { MemoryMode } from '../../node/model/memory-mode.js';
import type { WeightFormat } from '../../node/model/weight-format.js';
import { DRIVER_BYTES, FRAGMENTATION } from '../../node/train/memory-plan.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../../node/version.js';
import { initialAdapter } from '../../protocol/adapter.js';
import { nextTokens, randomTokens } from '../unit/model/small-case.js';

const isSoftware = /lvp_icd/.test(process.env['VK_ICD_FILENAMES'] ?? '');

const MB = 1e6;

function deviceBytes(): number {
  const status = readFileSync('/proc/self/status', 'utf8');
  return 1024 * Number(/^RssShmem:\s+(\d+) kB$/m.exec(status)?.[1] ?? NaN);
}

describe('memory of a device', { skip: !isSoftware }, () => {
  const cases: [number, WeightFormat, MemoryMode][] = [
    [128, 'fp32', 'normal'],
    [64, 'int8', 'low'],
  ];
  for (const [sequenceLength, format, memory] of cases) {
    it(`is as predicted with ${format} weights, --memory ${memory}`, async (t) => {
      const directory = await openModelDirectory(EMBEDDED_MODEL_DIRECTORY);
      const { config } = directory;
      const weights = await openPackedWeights({ directory, format, cacheDir: tmpdir() });
      const targetModules = ['all-linear'];
      const modules = loraModules(config, targetModules);
      const adapter = { rank: 8, alpha: 16, seed: new Uint8Array(32), targetModules, modules };
      const model = await openLanguageModel({
        ...{ config, weights, adapter, batchSize: 1, sequenceLength, memory, weightFormat: format },
        executor: ortExecutor({ threads: 1, device: 'webgpu' }),
      });
      const predicted = graphMemory(model.program('gradient'));
      const held = predicted.weights + predicted.stored;
      const before = deviceBytes();
      await model.compile('gradient');
      const compiled = deviceBytes() - before;
      const tokens = randomTokens(sequenceLength, config.vocabSize);
      const segments = new Int32Array(sequenceLength);
      const batch = { tokens, targets: nextTokens(tokens), segments };
      const theta = initialAdapter(adapter);
      for (let i = 0; i < 2; i++) await model.gradient(batch, theta);
      const run = deviceBytes() - before;
      await model.dispose();
      const sizes = [held, compiled, predicted.peak, run].map((bytes) => (bytes / MB).toFixed(1));
      t.diagnostic(`MB: weights ${sizes[0]}, held ${sizes[1]}; peak ${sizes[2]}, all ${sizes[3]}`);
      assert.ok(Math.abs(compiled - held) < 0.05 * held + MB, 'weights');
      assert.ok(run >= held + 0.9 * predicted.peak, 'activations');
      // What is beside them the driver's share covers.
      const rest = run - held - FRAGMENTATION * predicted.peak;
      assert.ok(rest < DRIVER_BYTES / 8, `${rest} bytes beside`);
    });
  }
});
