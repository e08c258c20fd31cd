import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EXPERT_PRIOR, mixRows, MixtureWeights } from '../../../node/model/mixture.js';
import { Prng } from '../../../protocol/prng.js';

const K = EXPERT_PRIOR.length;
const random = new Prng(new Uint8Array(32), 'mixture');

/** Log-probabilities of K experts for T tokens, each expert in turn much better than the others for a while. */
function texts(T: number, spread: number): number[][] {
  return Array.from({ length: T }, () =>
    Array.from({ length: K }, () => -spread * random.nextFloat()),
  );
}

/** ln of a sum of exponentials, slowly. */
function logSum(values: readonly number[]): number {
  const peak = Math.max(...values);
  return peak + Math.log(values.reduce((sum, value) => sum + Math.exp(value - peak), 0));
}

function weightsOf({ logs }: MixtureWeights): number[] {
  return Array.from(logs, Math.exp);
}

const column = (rows: readonly number[][], k: number): number =>
  rows.reduce((sum, row) => sum + (row[k] ?? NaN), 0);

describe('MixtureWeights', () => {
  it('begin with half for the swarm, and stay a distribution', () => {
    const weights = new MixtureWeights();
    assert.ok(weightsOf(weights).every((w, k) => Math.abs(w - (EXPERT_PRIOR[k] ?? NaN)) < 1e-15));
    for (const logs of texts(500, 20)) {
      weights.observe(logs);
      const sum = weightsOf(weights).reduce((total, w) => total + w, 0);
      assert.ok(Math.abs(sum - 1) < 1e-12, String(sum));
    }
  });

  it('lose at most -ln w of an expert against it, over any text', () => {
    for (let trial = 0; trial < 300; trial++) {
      const rows = texts(1 + random.nextBelow(60), 10 ** (2 * random.nextFloat() - 1));
      const weights = new MixtureWeights();
      const loss = -rows.reduce((sum, row) => sum + weights.observe(row), 0);
      for (const [k, w] of EXPERT_PRIOR.entries()) {
        assert.ok(loss <= -column(rows, k) - Math.log(w) + 1e-9, `${loss} against expert ${k}`);
      }
    }
  });

  it('are those of the whole text, in whatever order its tokens come', () => {
    const rows = texts(200, 3);
    const shuffled = [...new Prng(new Uint8Array(32), 'order').permutation(rows.length)].map(
      (i) => rows[i]!,
    );
    const sums = EXPERT_PRIOR.map((w, k) => Math.log(w) + column(rows, k));
    for (const order of [rows, shuffled]) {
      const weights = new MixtureWeights();
      const total = order.reduce((sum, row) => sum + weights.observe(row), 0);
      assert.ok(Math.abs(total - logSum(sums)) < 1e-9);
      for (const [k, log] of weights.logs.entries()) {
        assert.ok(Math.abs(log - (sums[k]! - logSum(sums))) < 1e-9);
      }
    }
  });

  it('are never lost to underflow: whoever was wrong for 100,000 tokens comes back', () => {
    const weights = new MixtureWeights();
    for (let i = 0; i < 50_000; i++) weights.observe([-1, -11, -600]);
    assert.deepEqual(weightsOf(weights), [1, 0, 0], 'as plain numbers they would be gone');
    for (let i = 0; i < 50_000; i++) weights.observe([-11, -1, -600]);
    assert.ok(weights.logs.every((log) => Number.isFinite(log)));
    const [swarm = NaN, continued = NaN] = weightsOf(weights);
    assert.ok(Math.abs(swarm - 2 / 3) < 1e-6 && Math.abs(continued - 1 / 3) < 1e-6);
  });

  it('take a probability of zero, and no number, as what an expert has ruled out', () => {
    const weights = new MixtureWeights();
    assert.equal(weights.observe([-1, -Infinity, NaN]), Math.log(0.5) - 1);
    assert.deepEqual(weightsOf(weights), [1, 0, 0]);
    assert.equal(weights.observe([-Infinity, -1, -1]), -Infinity, 'nobody is left');
    assert.deepEqual(weightsOf(weights), [1, 0, 0], 'and then nothing is learned');
  });
});

describe('mixRows', () => {
  it('is the logarithm of the weighted sum, down to what has no plain number', () => {
    const V = 50;
    const rows = Float32Array.from({ length: K * V }, () => -40 * random.nextFloat());
    rows.fill(-2000, 0, 1);
    rows.fill(-3000, V, V + 1);
    rows.fill(-2500, 2 * V, 2 * V + 1);
    for (const w of [EXPERT_PRIOR, [0.98, 0.02 - 1e-17, 1e-17]]) {
      const logs = Float64Array.from(w, Math.log);
      const mixed = mixRows(rows, logs);
      for (const [v, log] of mixed.entries()) {
        const expected = logSum(w.map((one, k) => Math.log(one) + rows[k * V + v]!));
        assert.ok(Math.abs(log - expected) < 1e-5 * Math.max(1, -expected), `${log} ${expected}`);
      }
    }
  });

  it('leaves out an expert that gives no number', () => {
    const mixed = mixRows(
      Float32Array.of(-1, NaN, NaN, -2, NaN, NaN),
      Float64Array.from(EXPERT_PRIOR, Math.log),
    );
    assert.ok(Math.abs(mixed[0]! - (Math.log(0.5) - 1)) < 1e-6);
    assert.ok(Math.abs(mixed[1]! - (Math.log(0.25) - 2)) < 1e-6);
  });
});
