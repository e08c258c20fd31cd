import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { openLanguageModel } from '../../../node/model/language-model.js';
import { MEMORY_MODES } from '../../../node/model/memory-mode.js';
import { IGNORED_TARGET } from '../../../node/model/token-batch.js';
import { l2Norm } from '../../../node/train/optimiser.js';
import { REFERENCE_CASES } from './fixtures.js';
import { nextTokens, openCase, randomTokens, T } from './small-case.js';

describe('low memory', () => {
  for (const name of REFERENCE_CASES) {
    it(`computes the same: ${name}`, async () => {
      const { options, model, theta } = await openCase(name, ['all-linear']);
      const low = await openLanguageModel({ ...options, memory: 'low' });
      const tokens = randomTokens(2 * T, model.config.vocabSize);
      const batch = { tokens, targets: nextTokens(tokens), segments: new Int32Array(2 * T) };
      const [expected, actual] = [
        await model.gradient(batch, theta),
        await low.gradient(batch, theta),
      ];
      const brief = await low.loss(batch, theta);
      await model.dispose();
      await low.dispose();
      for (const { loss } of [actual, brief]) {
        assert.ok(Math.abs(loss - expected.loss) < 1e-5, `${loss} for ${expected.loss}`);
      }
      const distance = l2Norm(actual.gradient.map((g, i) => g - expected.gradient[i]!));
      const norm = l2Norm(expected.gradient);
      assert.ok(norm > 0.01 && distance < 1e-5 * norm, `${distance} of ${norm}`);
    });
  }
});

describe('an output layer for few tokens', () => {
  for (const memory of MEMORY_MODES) {
    it(`computes the same, in as many runs as it takes, with memory ${memory}`, async () => {
      const { options, model, theta } = await openCase('llama-gqa-tied', ['all-linear']);
      const few = await openLanguageModel({ ...options, memory, trainedMost: 4 });
      const tokens = randomTokens(2 * T, model.config.vocabSize);
      const segments = new Int32Array(2 * T);
      for (const trained of [3, 10, 0]) {
        const targets = tokens.map((_, i) => (i % 3 === 0 && i < 3 * trained ? 5 : IGNORED_TARGET));
        const batch = { tokens, targets, segments };
        const [expected, actual] = [
          await model.gradient(batch, theta),
          await few.gradient(batch, theta),
        ];
        const brief = await few.loss(batch, theta);
        for (const { loss, targets: count } of [actual, brief]) {
          assert.ok(Math.abs(loss - expected.loss) < 1e-5, `${loss} for ${expected.loss}`);
          assert.equal(count, trained);
        }
        const distance = l2Norm(actual.gradient.map((g, i) => g - expected.gradient[i]!));
        assert.ok(distance <= 1e-5 * l2Norm(expected.gradient), `${trained}: ${distance}`);
      }
      await model.dispose();
      await few.dispose();
    });
  }
});
