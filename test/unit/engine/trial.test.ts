import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { ortExecutor } from '../../../node/engine/ort.js';
import { disagreement, Trial, TRIAL_BOUNDS, type TrialResult } from '../../../node/engine/trial.js';

describe('the trial step', () => {
  let trial: Trial;
  let result: TrialResult;
  before(async () => {
    trial = await Trial.open(ortExecutor({ threads: 1 }), 1);
    result = await trial.step();
  });

  it('is a step of an untrained model: about ln V nats, and a gradient in all coordinates', () => {
    assert.ok(Math.abs(result.loss - Math.log(1024)) < 1);
    assert.equal(result.gradient.length, 2 * 256 * 8);
    const zeros = result.gradient.filter((value) => value === 0);
    assert.equal(zeros.length, 0);
  });

  it('agrees with itself on other threads and with another batch about the loss', async () => {
    const other = await Trial.open(ortExecutor({ threads: 2 }), 1);
    assert.equal(disagreement(await other.step(), result), null);
    await other.dispose();
    const larger = await Trial.open(ortExecutor({ threads: 2 }), 2);
    assert.ok(Math.abs((await larger.step()).loss / result.loss - 1) < 0.1);
    assert.ok((await larger.fastestMs()) > 0);
    await larger.dispose();
  });

  it('refuses a loss or a gradient beyond its bound, and what is not a number', () => {
    const { loss, gradient } = result;
    const scaled = (factor: number): Float32Array => gradient.map((value) => value * factor);
    assert.equal(
      disagreement({ loss, gradient: scaled(1 + TRIAL_BOUNDS.gradient / 2) }, result),
      null,
    );
    assert.match(
      disagreement({ loss, gradient: scaled(1 + TRIAL_BOUNDS.gradient * 2) }, result) ?? '',
      /its gradient is off by 0\.040 of the CPU's norm, and at most 0\.02 will do/,
    );
    assert.match(
      disagreement({ loss: loss * (1 + 2 * TRIAL_BOUNDS.loss), gradient }, result) ?? '',
      /it computes a loss of 7\.\d+, and the CPU 7\.\d+/,
    );
    const spoilt = gradient.slice().fill(NaN, 5, 6);
    assert.notEqual(disagreement({ loss, gradient: spoilt }, result), null);
    assert.notEqual(disagreement({ loss: NaN, gradient }, result), null);
  });
});
