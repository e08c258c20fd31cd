import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { ortExecutor } from '../../../node/engine/ort.js';
import { openLanguageModel } from '../../../node/model/language-model.js';
import { loraModules } from '../../../node/model/lora.js';
import { MEMORY_MODES } from '../../../node/model/memory-mode.js';
import { openModelDirectory } from '../../../node/model/model-directory.js';
import { GradientBuffers } from '../../../node/train/accumulate.js';
import { LocalTrainer } from '../../../node/train/trainer.js';
import { adapterLayout, adapterSha256, initialAdapter } from '../../../protocol/adapter.js';
import { randomBatch, ROOT, TRAINING } from '../train/tiny-model.js';

const never = new AbortController().signal;
const ignore = (): void => undefined;

describe('the embedded base', () => {
  it('learns the same bits from an adapter in parts as from a whole one, in kept buffers as in new ones', async () => {
    const { config, weights } = await openModelDirectory(join(ROOT, 'models', 'tiny-base'));
    const targetModules = ['q_proj', 'down_proj'];
    const modules = loraModules(config, targetModules);
    const adapter = { rank: 4, alpha: 8, seed: new Uint8Array(32), targetModules, modules };
    const { size: adapterSize } = adapterLayout(adapter);
    for (const memory of MEMORY_MODES) {
      for (const batchSize of [TRAINING.batchSize, 1]) {
        const hashes = [];
        for (const isInPlace of [true, false]) {
          const executor = { ...ortExecutor({ threads: 1 }), isInPlace };
          const shape = { batchSize, sequenceLength: TRAINING.sequenceLength };
          const model = await openLanguageModel({
            ...{ config, weights, adapter, executor, memory },
            ...shape,
          });
          const buffers = new GradientBuffers(adapterSize);
          buffers.sum.fill(NaN);
          buffers.part.fill(NaN);
          const trainer = new LocalTrainer({
            ...{ model, buffers, training: TRAINING, adapterSize, heldOut: [] },
            run: { epochsMax: 2, stepsRef: 3 },
            trainingData: { batch: randomBatch },
          });
          const job = { epoch: 0, optimiser: null, steps: 3, deadlineMs: Infinity };
          const first = await trainer.train(
            { ...job, theta: initialAdapter(adapter) },
            ignore,
            never,
          );
          const next = { ...job, ...first, epoch: 1, steps: 3 };
          const last = await (isInPlace
            ? trainer.trainInPlace(next, ignore, never)
            : trainer.train(next, ignore, never));
          const { m, v } = last.optimiser;
          hashes.push([last.theta, m, v].map(adapterSha256));
          await model.dispose();
        }
        assert.deepEqual(hashes[0], hashes[1], `${memory}, ${batchSize} at once`);
      }
    }
  });
});
