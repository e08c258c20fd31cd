import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { attention, type AttentionFacts } from '../../../node/peer/attention.js';
import { TEST_START_MS, testRun } from '../../support/runs.js';

const well: AttentionFacts = {
  run: testRun(),
  nowMs: TEST_START_MS + 25_000,
  slot: 2,
  epoch: 2,
  epochsMax: 40,
  isCatchingUp: false,
  isResting: false,
  connectedCount: 2,
  isUnheard: false,
  clockOffsetsMs: [120, -300],
  storeProblem: null,
  trainingProblems: [],
  sealProblem: null,
  privacy: null,
  last: { steps: 8, skippedSteps: 0 },
  closedEpoch: -1,
  isMember: true,
  equivocatedEpoch: null,
  copyEpoch: null,
  suspicions: [],
};

const suspicion = {
  ...{ author: '12D3KooWliar', withAll: 3, without: 2.75, score: 7.5 },
  ...{ fromEpoch: 4, toEpoch: 7 },
};

const SPENT = {
  ...{ epsilon: 7.9876, epsilonMax: 8, delta: 1e-5, noise: 1, clip: 1 },
  ...{ sampleRate: 0.05, steps: 900, stepsLeft: 0 },
};

describe('attention()', () => {
  it('is empty when all is well', () => {
    assert.deepEqual(attention(well), []);
    assert.deepEqual(attention({ ...well, last: null }), []);
    assert.deepEqual(attention({ ...well, last: { steps: 4 } }), []);
    assert.deepEqual(attention({ ...well, privacy: { ...SPENT, stepsLeft: 1 } }), []);
    assert.deepEqual(attention({ ...well, privacy: SPENT, epoch: 40 }), []);
    // Started again after its end, in slot 50: none of the slots up to that is used, and none is missed.
    assert.deepEqual(attention({ ...well, slot: 52, epoch: 40, closedEpoch: 50 }), []);
  });

  it('says each thing that is wrong in a sentence of its own', () => {
    const cases: [Partial<AttentionFacts>, RegExp][] = [
      [{ connectedCount: 0 }, /trains alone, keeps trying/],
      [{ epoch: -1, nowMs: TEST_START_MS - 30_000 }, /starts in 30 s/],
      [{ isUnheard: true }, /^Your updates reach nobody: .* none of the 2 connected/],
      [{ isResting: true, isCatchingUp: true }, /^Training was paused: .* until murmurate resume/],
      [{ isCatchingUp: true }, /Fetching what the swarm has learned/],
      [{ storeProblem: 'The disk is full.' }, /^The disk is full\.$/],
      [{ trainingProblems: ['It died.'] }, /^It died\.$/],
      [{ last: { steps: 8, skippedSteps: 2 } }, /^2 optimiser steps .* left out/],
      [
        { suspicions: [suspicion] },
        /12D3KooWliar harms .* epochs 4 to 7 .* 2\.7500 nats and not 3\.0000/,
      ],
      [{ last: { steps: 3 } }, /made 3 of 8 optimiser steps/],
      [
        { privacy: SPENT, last: { steps: 3 } },
        /^The privacy budget is spent: epsilon 7\.988 of 8 /,
      ],
      [{ closedEpoch: 5 }, /signed updates up to epoch 5, but .* epoch 2: the clock was set back/],
      [{ sealProblem: 'No seal.' }, /^No seal\.$/],
      [{ copyEpoch: 9 }, /^Another process signs updates .* epoch 9 .* stopped training/],
      [{ equivocatedEpoch: 7, copyEpoch: 9 }, /two different updates or seals .* that epoch/],
    ];
    for (const [facts, expected] of cases) {
      const sentences = attention({ ...well, ...facts });
      assert.equal(sentences.length, 1);
      assert.match(sentences[0]!, expected);
    }
  });

  it('warns of a clock that is off by more than half an epoch from the median, to either side', () => {
    assert.deepEqual(attention({ ...well, clockOffsetsMs: [4900, 5000, 99_000] }), []);
    assert.match(
      attention({ ...well, clockOffsetsMs: [5001, 5100, -90_000] })[0]!,
      /5\.0 s behind/,
    );
    assert.match(
      attention({ ...well, clockOffsetsMs: [-61_000] })[0]!,
      /61 s ahead of that of its only peer.* one of them is wrong .* on both\.$/,
    );
  });

  it('blames this clock only when most clocks disagree with it', () => {
    for (const clockOffsetsMs of [
      [3, 17_000],
      [-17_000, 3],
      [-4, 2, 17_000, 18_000],
    ]) {
      assert.deepEqual(attention({ ...well, clockOffsetsMs }), []);
    }
    assert.match(attention({ ...well, clockOffsetsMs: [16_000, 17_000] })[0]!, /16 s behind/);
  });
});
