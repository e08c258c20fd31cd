import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  adamWStep,
  clipGradientNorm,
  copyOptimiserState,
  l2Norm,
  newOptimiserState,
} from '../../../node/train/optimiser.js';

/** Parameters, first and second moments after each step, from torch.optim.AdamW (torch 2.15, float32). */
const TORCH = {
  start: [0.5, -1.25, 3.0, 0.0, -0.001],
  settings: { beta1: 0.8, beta2: 0.95, epsilon: 1e-3, weightDecay: 0.25 },
  steps: [
    {
      learningRate: 0.03,
      gradient: [0.1, -2.0, 0.003, 0.0, 5.0],
      theta: [0.466547042, -1.21063995, 2.95499992, 0, -0.0309865028],
      m: [0.0200000014, -0.400000006, 0.000600000028, 0, 1],
      v: [0.000500000024, 0.200000003, 4.50000016e-7, 0, 1.25],
    },
    {
      learningRate: 0.02,
      gradient: [-0.4, 1.0, 0.003, 1e-4, -5.0],
      theta: [0.476233333, -1.20034027, 2.92522478, -0.00103686005, -0.0286097918],
      m: [-0.064000003, -0.120000005, 0.00108000007, 2e-5, -0.2],
      v: [0.00847500097, 0.239999995, 8.77500042e-7, 5e-10, 2.4375],
    },
    {
      learningRate: 0.05,
      gradient: [0.2, 0.7, -0.9, 0.0, 0.25],
      theta: [0.474586904, -1.18872166, 2.92303777, -0.00257379911, -0.025457656],
      m: [-0.0112000024, 0.043999996, -0.179135993, 1.6e-5, -0.11],
      v: [0.0100512514, 0.252499998, 0.0405008309, 4.75e-10, 2.31875],
    },
  ],
};

function assertClose(actual: Float32Array, expected: readonly number[]): void {
  assert.equal(actual.length, expected.length);
  for (const [i, value] of expected.entries()) {
    const slack = 1e-7 + 2e-6 * Math.abs(value);
    assert.ok(
      Math.abs((actual[i] ?? NaN) - value) <= slack,
      `[${i}]: ${actual[i] ?? NaN}, expected ${value}`,
    );
  }
}

describe('adamWStep', () => {
  it('gives the parameters and moments of torch.optim.AdamW over steps of changing rate', () => {
    const theta = Float32Array.from(TORCH.start);
    const state = newOptimiserState(theta.length);
    for (const [i, step] of TORCH.steps.entries()) {
      const settings = { ...TORCH.settings, learningRate: step.learningRate };
      adamWStep(theta, Float32Array.from(step.gradient), state, settings);
      assert.equal(state.step, i + 1);
      assertClose(state.m, step.m);
      assertClose(state.v, step.v);
      assertClose(theta, step.theta);
    }
  });

  it('goes on from a copied state exactly as without the break', () => {
    const settings = { ...TORCH.settings, learningRate: 0.03 };
    const straight = Float32Array.from(TORCH.start);
    const state = newOptimiserState(straight.length);
    const [first, second] = TORCH.steps.map((step) => Float32Array.from(step.gradient));
    assert.ok(first && second);
    adamWStep(straight, first, state, settings);
    const resumed = straight.slice();
    const resumedState = copyOptimiserState(state);
    adamWStep(straight, second, state, settings);
    assert.notDeepEqual(resumedState, state, 'the copy shares memory with the state');
    adamWStep(resumed, second, resumedState, settings);
    assert.deepEqual(resumed, straight);
    assert.deepEqual(resumedState, state);
  });
});

describe('clipGradientNorm', () => {
  it('scales as torch.nn.utils.clip_grad_norm_ and returns the norm before', () => {
    const gradient = Float32Array.from([3, -4, 0.5, 1, 12]);
    assert.ok(Math.abs(clipGradientNorm(gradient, 2) - 13.0479879) < 1e-6);
    assertClose(gradient, [0.459841013, -0.613121331, 0.0766401663, 0.153280333, 1.83936405]);
    assert.ok(l2Norm(gradient) <= 2);
  });

  it('leaves a gradient within the bound untouched', () => {
    const gradient = Float32Array.from([0.3, -0.4]);
    assert.ok(Math.abs(clipGradientNorm(gradient, 0.6) - 0.5) < 1e-6);
    assert.deepEqual(gradient, Float32Array.from([0.3, -0.4]));
  });

  it('reports a non-finite gradient by its norm and does not spread it', () => {
    for (const bad of [NaN, Infinity]) {
      const gradient = Float32Array.from([1, bad, 2]);
      assert.ok(!Number.isFinite(clipGradientNorm(gradient, 0.5)));
      assert.deepEqual(gradient, Float32Array.from([1, bad, 2]));
    }
  });
});
