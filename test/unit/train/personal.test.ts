import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { OptimiserState } from '../../../node/interfaces.js';
import {
  MARGIN,
  PATIENCE,
  personalTraining,
  SHARES,
  tunePersonal,
  type PersonalInit,
  type PersonalProgress,
} from '../../../node/train/personal.js';
import { TRAINING } from './tiny-model.js';

const ignore = (): void => undefined;

/**
 * Rounds that walk along one coordinate from `start`, one `stride` down each, and a loss that is the distance from
 * `optimum` there, plus 2.
 */
function walk({ start = 10, stride = 1, optimum = 0, rounds = 20, alone = 1000 }): {
  init: PersonalInit;
  measured: number[];
  optimisers: (number | null)[];
} {
  const measured: number[] = [];
  const optimisers: (number | null)[] = [];
  const init = {
    swarm: Float32Array.of(start, 7),
    alone: Float32Array.of(alone, 7),
    rounds,
    train: async (round: number, theta: Float32Array, optimiser: OptimiserState | null) => {
      optimisers.push(optimiser?.step ?? null);
      const state = { step: round + 1, m: new Float32Array(2), v: new Float32Array(2) };
      return { theta: Float32Array.of((theta[0] ?? NaN) - stride, 7), optimiser: state };
    },
    evaluate: async (theta: Float32Array) => {
      measured.push(theta[0] ?? NaN);
      return 2 + Math.abs((theta[0] ?? NaN) - optimum);
    },
  };
  return { init, measured, optimisers };
}

describe('tunePersonal', () => {
  it('stops when so many rounds brought nothing, and goes on from the best of them', async () => {
    // 10, 7, 4, 1, -2: the loss is lowest at 1, after three rounds, and then grows.
    const { init, measured, optimisers } = walk({ stride: 3 });
    const adapter = await tunePersonal(init, ignore);
    assert.equal(PATIENCE, 3);
    assert.deepEqual(measured.slice(0, 7), [10, 7, 4, 1, -2, -5, -8]);
    assert.deepEqual(optimisers, [null, 1, 2, 3, 4, 5]);
    // Then the lone adapter, and the shares .25, .5 and .75 of the line from 10 to 1, and of that to 1000.
    assert.deepEqual(measured.slice(7), [1000, 7.75, 5.5, 3.25, 257.5, 505, 752.5]);
    const { single, continued, ...rest } = adapter ?? assert.fail();
    const losses = { swarm: 12, continued: 3, alone: 1002, single: 3 };
    assert.deepEqual(rest, { losses, end: 'continued', share: 1, rounds: 3 });
    assert.deepEqual([single[0], continued[0]], [1, 1]);
  });

  it('takes the best point of either line', async () => {
    // One round goes from 10 to -6, nearer to 0 than 10 is; half of the way, at 2, is nearer still.
    const before = await tunePersonal(walk({ stride: 16 }).init, ignore);
    assert.deepEqual([before?.end, before?.share, before?.rounds], ['continued', 0.5, 1]);
    assert.deepEqual([...(before?.single ?? [])], [2, 7]);
    assert.deepEqual([...(before?.continued ?? [])], [-6, 7], 'of which the mixture has the whole');
    // A quarter of the way to the lone adapter at -26 is 1; no round comes nearer to 0.
    const between = await tunePersonal(walk({ stride: 6, alone: -26, optimum: 1 }).init, ignore);
    assert.deepEqual([between?.end, between?.share], ['alone', 0.25]);
    assert.equal(between?.losses.single, 2);
  });

  it('turns from what the swarm knows to the lone adapter only for a gain that counts', async () => {
    // 10, 6, 2, -2: at 2 the loss is 4.
    const towards = async (alone: number): Promise<unknown> => {
      const one = await tunePersonal(walk({ stride: 4, alone }).init, ignore);
      return [one?.end, one?.share];
    };
    assert.deepEqual(await towards(2 - 0.9 * MARGIN), ['continued', 1]);
    assert.deepEqual(await towards(2 - 1.1 * MARGIN), ['alone', 1]);
  });

  it('is never worse than the swarm’s adapter, nor by more than that than the lone one', async () => {
    const alone = await tunePersonal(walk({ stride: 4, alone: 0.5 }).init, ignore);
    assert.deepEqual([alone?.end, alone?.share, alone?.losses.single], ['alone', 1, 2.5]);
    assert.equal(alone?.losses.alone, 2.5);
    const { init, measured } = walk({ start: 0 });
    const swarm = await tunePersonal(init, ignore);
    assert.deepEqual([swarm?.share, swarm?.rounds, swarm?.single], [0, 0, init.swarm]);
    assert.deepEqual(measured.slice(0, 4), [0, -1, -2, -3], 'and nothing lies on a line to itself');
    assert.deepEqual(measured.slice(4), [1000, 250, 500, 750]);
  });

  it('ends after its rounds, and tells how far it is', async () => {
    const progress: PersonalProgress[] = [];
    const { init } = walk({ rounds: 5 });
    await tunePersonal(init, (one) => progress.push(one));
    const total = 5 + 2 * SHARES.length - 1;
    assert.deepEqual(
      progress.map(({ done }) => done),
      Array.from({ length: total }, (_, i) => i + 1),
    );
    assert.ok(progress.every((one) => one.total === total));
    assert.deepEqual(
      progress.slice(0, 6).map(({ best }) => best),
      [11, 10, 9, 8, 7, 7],
    );
  });

  it('is nothing without held-out text, and no loss that is not finite is ever the best', async () => {
    const { init } = walk({});
    assert.equal(await tunePersonal({ ...init, evaluate: async () => null }, ignore), null);
    const losses = [NaN, 5, NaN, 4];
    const evaluate = async (): Promise<number> => losses.shift() ?? NaN;
    const broken = await tunePersonal({ ...init, evaluate }, ignore);
    assert.equal(broken?.losses.single, 4);
    assert.ok(Number.isNaN(broken.losses.swarm) && Number.isNaN(broken.losses.alone));
    assert.equal(broken.single[0], 7);
  });
});

describe('personalTraining', () => {
  it('has fresh moments that last, a rate below the run’s, and a bounded number of rounds', () => {
    const run = { epochsMax: 30, stepsRef: 8 };
    const personal = personalTraining({ ...TRAINING, resetMoments: true }, run);
    assert.equal(personal.training.resetMoments, false);
    assert.equal(personal.training.learningRate, 0.005);
    assert.deepEqual(personal.run, { epochsMax: 15, stepsRef: 8 });
    assert.equal(personalTraining(TRAINING, { epochsMax: 2, stepsRef: 8 }).run.epochsMax, 6);
    assert.equal(personalTraining(TRAINING, { epochsMax: 5000, stepsRef: 8 }).run.epochsMax, 50);
  });
});
