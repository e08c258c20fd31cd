import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { openModelDirectory } from '../../../node/model/model-directory.js';
import type { TensorEntry, WeightIndex } from '../../../node/model/safetensors.js';
import { WEIGHT_FORMATS } from '../../../node/model/weight-format.js';
import {
  checkWeights,
  formatsFor,
  isHalf,
  plannedWeights,
} from '../../../node/train/weight-formats.js';
import { TINY_BASE, userError } from '../model/fixtures.js';

function entry(name: string, dtype: 'F32' | 'BF16', length: number): [string, TensorEntry] {
  return [name, { name, dtype, shape: [length], file: '', offset: 0, length }];
}

describe('formats of weights', () => {
  it('are all of them on the CPU, and elsewhere what the device computes with', () => {
    const plain: WeightIndex = new Map([entry('a', 'BF16', 4)]);
    assert.deepEqual(formatsFor('cpu', plain), WEIGHT_FORMATS);
    assert.deepEqual(formatsFor('tfjs', plain), ['fp32']);
    for (const weights of WEIGHT_FORMATS) {
      checkWeights('cpu', weights);
      checkWeights('auto', weights);
    }
    assert.throws(
      () => checkWeights('tfjs', 'int8'),
      userError(/tfjs can't compute with --weights int8/),
    );
  });

  it('are never fp32 where others have quantised the weights', () => {
    const numbers = { what: 'GPTQ' } as NonNullable<TensorEntry['quantised']>;
    const [name, plain] = entry('a', 'BF16', 4);
    const quantised: WeightIndex = new Map([[name, { ...plain, quantised: numbers }]]);
    assert.deepEqual(formatsFor('cpu', quantised), ['bf16', 'int8', 'int4']);
    assert.throws(
      () => formatsFor('tfjs', quantised),
      userError(/quantised \(GPTQ\), but --device tfjs computes with fp32 only: use --device cpu/),
    );
  });

  it('know whether most weights of the files have 16 bits', () => {
    assert.equal(isHalf(new Map([entry('a', 'BF16', 200), entry('b', 'F32', 4)])), true);
    assert.equal(isHalf(new Map([entry('a', 'BF16', 4), entry('b', 'F32', 200)])), false);
  });

  it('are planned with before a copy is there: smaller, and with scales', async () => {
    const model = await openModelDirectory(TINY_BASE);
    const name = 'model.layers.0.mlp.up_proj.weight';
    assert.equal(plannedWeights(model, 'fp32'), model.weights);
    assert.equal(plannedWeights(model, 'bf16'), model.weights);
    const [whole, int8, int4] = (['fp32', 'int8', 'int4'] as const).map((format) =>
      plannedWeights(model, format).get(name)!,
    );
    assert.equal(int8!.length, whole!.length / 2);
    assert.equal(int4!.length, whole!.length / 4);
    assert.ok(int4!.scales!.length > int8!.scales!.length);
  });
});
