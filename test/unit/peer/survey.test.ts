import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { scored } from '../../../node/peer/survey.js';

/** Losses without each author, in the order of `withouts`; all together have a loss of 2. */
function scoresOf(...withouts: number[]): number[] {
  const losses = withouts.map((without, i) => ({ author: `author ${i}`, without }));
  return scored(2, losses).map(({ score }) => score);
}

describe('the scores of a survey', () => {
  it('are those of harm: highest for the author without whom the loss is lowest', () => {
    const scores = scoresOf(2.1, 2.11, 2.09, 2.12, 1.7);
    assert.equal(Math.max(...scores), scores[4]);
    assert.ok((scores[4] ?? 0) > 10);
    for (const score of scores.slice(0, 4)) assert.ok(Math.abs(score) < 4);
  });

  it('do not depend on how large the others’ differences are', () => {
    const [near, far] = [
      scoresOf(2.1, 2.12, 2.14, 2.16, 1.9),
      scoresOf(2.2, 2.24, 2.28, 2.32, 1.8),
    ];
    near.forEach((score, i) => assert.ok(Math.abs(score - (far[i] ?? NaN)) < 1e-9));
  });

  it('stay small where all differences are noise', () => {
    for (const score of scoresOf(2.0001, 2.0001, 2.0001, 2.0001, 1.9999))
      assert.ok(Math.abs(score) < 1);
  });

  it('bear two liars of eight, and leave out what is not finite', () => {
    const scores = scoresOf(2.1, 2.11, 2.09, 2.12, 2.1, 2.08, 1.7, 1.6, NaN);
    assert.equal(scores.length, 8);
    assert.ok(scores.slice(6).every((score) => score > 4));
  });
});
