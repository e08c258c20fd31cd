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
      theta: [
        0.46654704213142395, -1.2106399536132812, 2.9549999237060547, 0, -0.030986502766609192,
      ],
      m: [0.020000001415610313, -0.4000000059604645, 0.0006000000284984708, 0, 1],
      v: [0.0005000000237487257, 0.20000000298023224, 4.500000159168849e-7, 0, 1.25],
    },
    {
      learningRate: 0.02,
      gradient: [-0.4, 1.0, 0.003, 1e-4, -5.0],
      theta: [
        0.4762333333492279, -1.2003402709960938, 2.925224781036377, -0.0010368600487709045,
        -0.02860979177057743,
      ],
      m: [-0.06400000303983688, -0.12000000476837158, 0.0010800000745803118, 2e-5, -0.2],
      v: [0.008475000970065594, 0.23999999463558197, 8.775000424066093e-7, 5e-10, 2.4375],
    },
    {
      learningRate: 0.05,
      gradient: [0.2, 0.7, -0.9, 0.0, 0.25],
      theta: [
        0.4745869040489197, -1.1887216567993164, 2.9230377674102783, -0.0025737991090863943,
        -0.025457656010985374,
      ],
      m: [-0.011200002394616604, 0.04399999603629112, -0.1791359931230545, 1.6e-5, -0.11],
      v: [0.010051251389086246, 0.2524999976158142, 0.04050083085894585, 4.75e-10, 2.31875],
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
    assert.ok(Math.abs(clipGradientNorm(gradient, 2) - 13.047987937927246) < 1e-6);
    assertClose(
      gradient,
      [
        0.4598410129547119, -0.6131213307380676, 0.07664016634225845, 0.1532803326845169,
        1.8393640518188477,
      ],
    );
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
