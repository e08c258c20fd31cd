import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import * as fc from 'fast-check';
import type { ModelConfig } from '../../../node/model/config.js';
import type { NextTokenModel } from '../../../node/model/next-token-model.js';
import { RememberingModel } from '../../../node/train/remembering-model.js';

/** Its logits are all the tokens that it holds, so that a test sees them. */
class Recorder implements NextTokenModel {
  readonly config = {} as ModelConfig;
  readonly capacity = 64;
  readonly held: number[] = [];
  reads: number[][] = [];
  /** Tokens that can be read until it fails. */
  left = Infinity;

  get length(): number {
    return this.held.length;
  }

  async read(tokens: readonly number[]): Promise<Float32Array> {
    this.reads.push([...tokens]);
    for (const token of tokens) {
      if (this.left-- <= 0) throw new Error('stopped');
      this.held.push(token);
    }
    return Float32Array.from(this.held);
  }

  forget(keep = 0): void {
    assert.ok(keep <= this.held.length);
    this.held.length = keep;
  }

  async dispose(): Promise<void> {
    // Nothing to free.
  }
}

describe('RememberingModel', () => {
  let inner: Recorder;
  let model: RememberingModel;
  beforeEach(() => {
    inner = new Recorder();
    model = new RememberingModel(inner);
  });

  it('reads of a text that begins as the one before only the rest', async () => {
    await model.read([1, 2, 3]);
    await model.read([4]);
    model.forget();
    assert.equal(model.length, 0);
    assert.deepEqual([...(await model.read([1, 2, 3, 4, 5]))], [1, 2, 3, 4, 5]);
    assert.deepEqual(inner.reads, [[1, 2, 3], [4], [5]]);
  });

  it('reads the last token again where the whole text is known: its logits are asked for', async () => {
    await model.read([1, 2]);
    model.forget();
    assert.deepEqual([...(await model.read([1, 2]))], [1, 2]);
    assert.deepEqual(inner.reads.at(-1), [2]);
  });

  it('holds what a reader without memory would, whatever it is asked', async () => {
    const texts = fc.array(
      fc.record({
        keep: fc.nat(6),
        tokens: fc.array(fc.nat(2), { minLength: 1, maxLength: 6 }),
      }),
      { maxLength: 8 },
    );
    await fc.assert(
      fc.asyncProperty(texts, async (steps) => {
        const remembering = new RememberingModel(new Recorder());
        let expected: number[] = [];
        for (const { keep, tokens } of steps) {
          remembering.forget(keep);
          expected = [...expected.slice(0, keep), ...tokens];
          assert.deepEqual([...(await remembering.read(tokens))], expected);
          assert.equal(remembering.length, expected.length);
        }
      }),
    );
  });

  it('knows after a failure what was read', async () => {
    inner.left = 2;
    await assert.rejects(model.read([1, 2, 3]), /stopped/);
    assert.equal(model.length, 2);
    inner.left = Infinity;
    model.forget();
    assert.deepEqual([...(await model.read([1, 2, 9]))], [1, 2, 9]);
    assert.deepEqual(inner.reads.at(-1), [9]);
  });
});
