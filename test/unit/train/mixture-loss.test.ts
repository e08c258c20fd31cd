/** The mixture's loss over a packed batch against its own reading of each record, token by token. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { openLanguageModel } from '../../../node/model/language-model.js';
import { openMixtureModel } from '../../../node/model/mixture-model.js';
import { IGNORED_TARGET, type TokenBatch } from '../../../node/model/token-batch.js';
import { measureMixture, withAllTargets } from '../../../node/train/mixture-loss.js';
import { openCase, randomTokens, T } from '../model/small-case.js';

const never = new AbortController().signal;

/** Two rows: records of 9 and 6 tokens and padding, then one that fills the row; the first 4 tokens are a prompt. */
function packed(vocabSize: number): TokenBatch {
  const tokens = randomTokens(2 * T, vocabSize);
  const segments = new Int32Array(2 * T);
  segments.fill(1, 0, 9).fill(2, 9, 15).fill(1, T);
  const targets = new Int32Array(2 * T).fill(IGNORED_TARGET);
  for (const [start, end] of [
    [0, 9],
    [9, 15],
    [T, 2 * T],
  ] as const) {
    for (let i = start + 3; i < end; i++) targets[i] = i + 1 < end ? tokens[i + 1]! : 7;
  }
  return { tokens, segments, targets };
}

describe('the loss of a mixture', () => {
  it('is that of reading each record by itself, prompt and all, of which the trained tokens count', async () => {
    const { options, model, theta } = await openCase('llama-gqa-tied', ['all-linear']);
    const thetas = [theta, theta.map((value) => -2 * value), theta.map((value) => 3 * value)];
    const batch = packed(options.config.vocabSize);
    let nats = 0;
    let count = 0;
    for (const [start, end] of [
      [0, 9],
      [9, 15],
      [T, 2 * T],
    ] as const) {
      const reader = await openMixtureModel({ ...options, thetas, capacity: T, chunk: 1 });
      for (let i = start; i < end; i++) {
        const logs = await reader.read([batch.tokens[i]!]);
        const target = batch.targets[i]!;
        if (target === IGNORED_TARGET) continue;
        nats -= logs[target]!;
        count++;
      }
      await reader.dispose();
    }
    for (const trainedMost of [null, 5]) {
      const measured = await openLanguageModel({ ...options, trainedMost });
      let passes = 0;
      const found = await measureMixture(measured, [batch, batch], thetas, never, () => passes++);
      assert.equal(passes, 6);
      assert.equal(found.tokens, 2 * count);
      assert.ok(Math.abs(found.mixture - 2 * nats) < 1e-3, `${found.mixture} ${2 * nats}`);
      for (const [k, own] of found.experts.entries()) {
        const { loss, targets } = await measured.loss(batch, thetas[k]!);
        assert.ok(Math.abs(own - 2 * loss * targets) < 1e-3);
      }
      await measured.dispose();
    }
    // From the graph of the gradient as well, as in training.
    await model.compile('gradient');
    const brief = await measureMixture(model, [batch], thetas, never);
    assert.ok(Math.abs(brief.mixture - nats) < 1e-3);
    await model.dispose();
  });

  it('has a target wherever another token of the record follows', () => {
    const batch = packed(30);
    const { targets } = withAllTargets(batch, T);
    const missing = [...targets.keys()].filter((i) => targets[i] === IGNORED_TARGET);
    assert.deepEqual(missing, [15, 16], 'padding alone has none');
    assert.equal(targets[8], 7);
    assert.equal(targets[2], batch.tokens[3]);
    assert.equal(targets[14], 7);
  });
});
