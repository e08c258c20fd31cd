/** The demonstration's run: sized for about two minutes of training on two cores. */

export const SETTINGS = {
  epochs: 24,
  /** Ten steps of three peers on two quiet cores take about 2 s: a busy machine keeps up as well. */
  epochSeconds: 5,
  /** Optimiser steps of a peer in an epoch. */
  steps: 10,
  batchSize: 8,
  sequenceLength: 64,
  /** Found by trial for the embedded base: from 5e-3 to 1.2e-2 all learn. */
  learningRate: 1e-2,
  /** From the founder's start to epoch 0: time for the others to find it and load the model. */
  startInSeconds: 12,
  /** Per process; three of them share two cores. */
  threads: 1,
} as const;

/** The peers must have finished this long after the start. */
export const TRAINING_DEADLINE_MS = 300_000;

/** Measuring afterwards must end within this time. */
export const MEASURING_DEADLINE_MS = 300_000;

/** Held-out questions of each office that are asked before and after. */
export const QUESTIONS_PER_OFFICE = 2;

/** Tokens of an answer at most; the longest in the data has 12. */
export const ANSWER_TOKENS_MAX = 24;
