import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { OptimiserState } from '../../../node/interfaces.js';
import {
  PATIENCE,
  personalTraining,
  SHARES,
  tunePersonal,
  type PersonalProgress,
} from '../../../node/train/personal.js';
import { TRAINING } from './tiny-model.js';

const ignore = (): void => undefined;

/**
 * Rounds that walk along one coordinate from `start`, one `stride` each, and a loss that is the distance from
 * `optimum` there, plus 2.
 */
function walk({ start = 10, stride = 1, optimum = 0, rounds = 20 }): {
  init: Parameters<typeof tunePersonal>[0];
  measured: number[];
  optimisers: (OptimiserState | null)[];
} {
  const measured: number[] = [];
  const optimisers: (OptimiserState | null)[] = [];
  const init = {
    swarm: Float32Array.of(start, 7),
    rounds,
    train: async (round: number, theta: Float32Array, optimiser: OptimiserState | null) => {
      optimisers.push(optimiser);
      const state = { step: round + 1, m: new Float32Array(2), v: new Float32Array(2) };
      return {
        theta: Float32Array.of((theta[0] ?? NaN) - stride, 7),
        optimiser: state,
        steps: 4,
      };
    },
    evaluate: async (theta: Float32Array) => {
      measured.push(theta[0] ?? NaN);
      return 2 + Math.abs((theta[0] ?? NaN) - optimum);
    },
  };
  return { init, measured, optimisers };
}

describe('tunePersonal', () => {
  it('stops when so many rounds brought nothing, and keeps the best of them', async () => {
    // 10, 7, 4, 1, -2: the loss is lowest at 1, after three rounds, and then grows.
    const { init, measured, optimisers } = walk({ stride: 3 });
    const adapter = await tunePersonal(init, ignore);
    assert.ok(adapter !== null);
    assert.deepEqual(
      measured.slice(0, 4 + PATIENCE),
      [10, 7, 4, 1, -2, -5, -8].slice(0, 4 + PATIENCE),
    );
    assert.equal(adapter.steps, 12);
    assert.equal(adapter.stepsTaken, 4 * (3 + PATIENCE));
    assert.deepEqual(
      optimisers.map((state) => state?.step ?? null),
      [null, 1, 2, 3, 4, 5, 6],
    );
    // On the line through 10 and 1 the shares .5, .75, 1.25 and 1.5 lie at 5.5, 3.25, -1.25 and -3.5.
    assert.deepEqual(measured.slice(4 + PATIENCE), [5.5, 3.25, -1.25, -3.5]);
    assert.equal(adapter.share, 1);
    assert.equal(adapter.theta[0], 1);
    assert.deepEqual(adapter.losses, { swarm: 12, personal: 3 });
  });

  it('takes the point of the line that is best, beyond the best round or before it', async () => {
    // Rounds at 10, 4, -2: the best is -2 (loss 3 away from 1 would be 3), or 4 (also 3): the first of equals.
    const beyond = await tunePersonal(walk({ stride: 6, optimum: 2.5 }).init, ignore);
    assert.equal(beyond?.share, 1.25);
    assert.equal(beyond.theta[0], 2.5);
    assert.equal(beyond.losses.personal, 2);
    assert.equal(beyond.steps, 4);
    // One round goes from 10 to -6, nearer to 0 than 10 is; half of the way, at 2, is nearer still.
    const before = await tunePersonal(walk({ stride: 16, optimum: 0 }).init, ignore);
    assert.equal(before?.share, 0.5);
    assert.equal(before.theta[0], 2);
    assert.equal(before.theta[1], 7);
  });

  it('is the swarm’s adapter where no step makes it better', async () => {
    const { init, measured } = walk({ start: 0, stride: 1, optimum: 0 });
    const adapter = await tunePersonal(init, ignore);
    assert.equal(adapter?.share, 0);
    assert.equal(adapter.steps, 0);
    assert.equal(adapter.theta, init.swarm);
    assert.deepEqual(adapter.losses, { swarm: 2, personal: 2 });
    assert.deepEqual(measured, [0, -1, -2, -3].slice(0, 1 + PATIENCE), 'and no line is looked at');
  });

  it('ends after its rounds, and tells how far it is', async () => {
    const progress: PersonalProgress[] = [];
    const { init } = walk({ stride: 1, rounds: 5 });
    const adapter = await tunePersonal(init, (one) => progress.push(one));
    assert.equal(adapter?.stepsTaken, 20);
    const total = 5 + SHARES.length;
    assert.deepEqual(
      progress.map(({ done }) => done),
      Array.from({ length: total }, (_, i) => i + 1),
    );
    assert.ok(progress.every((one) => one.total === total));
    assert.deepEqual(
      progress.slice(0, 5).map(({ best }) => best),
      [11, 10, 9, 8, 7],
    );
    // 1.5 of the way from 10 to 5 is 2.5.
    assert.equal(progress.at(-1)?.best, 4.5);
  });

  it('is nothing without held-out text, and no loss that is not finite is ever the best', async () => {
    const { init } = walk({});
    assert.equal(await tunePersonal({ ...init, evaluate: async () => null }, ignore), null);
    const losses = [NaN, 5, NaN, 4, NaN, NaN, NaN, NaN, NaN, NaN, NaN];
    const broken = await tunePersonal(
      { ...init, evaluate: async () => losses.shift() ?? NaN },
      ignore,
    );
    assert.equal(broken?.losses.personal, 4);
    assert.ok(Number.isNaN(broken.losses.swarm));
    assert.equal(broken.theta[0], 7);
  });
});

describe('personalTraining', () => {
  it('has fresh moments that last, a rate below the run’s, and a bounded number of rounds', () => {
    const run = { epochsMax: 30, stepsRef: 8 };
    const personal = personalTraining({ ...TRAINING, resetMoments: true }, run);
    assert.equal(personal.training.resetMoments, false);
    assert.equal(personal.training.learningRate, 0.01);
    assert.deepEqual(personal.run, { epochsMax: 30, stepsRef: 8 });
    assert.equal(personalTraining(TRAINING, { epochsMax: 2, stepsRef: 8 }).run.epochsMax, 6);
    assert.equal(personalTraining(TRAINING, { epochsMax: 5000, stepsRef: 8 }).run.epochsMax, 50);
  });
});
