import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { TokenStore } from '../../../node/data/token-store.js';
import { SingleRows } from '../../../node/data/single-rows.js';
import { IGNORED_TARGET } from '../../../node/model/token-batch.js';

const PAD = 99;
const shape = { batchSize: 3, sequenceLength: 4 };
const first = (): number => 0;

/** Records of these tokens, all of which but the first `prompt` are trained. */
function rowsOf(examples: readonly number[][], prompt = 1): SingleRows {
  const store = new TokenStore();
  for (const tokens of examples)
    store.append(
      tokens,
      tokens.map((_, i) => (i < prompt ? 0 : 1)),
    );
  return new SingleRows(store, { sequenceLength: 4, padTokenId: PAD });
}

describe('SingleRows', () => {
  it('gives each record a row of its own, in the order asked for, and fills up with padding', () => {
    const rows = rowsOf([
      [1, 2, 3],
      [4, 5],
    ]);
    const batch = rows.batch([1, 0], shape, first);
    const no = IGNORED_TARGET;
    assert.deepEqual([...batch.tokens], [4, PAD, PAD, PAD, 1, 2, PAD, PAD, PAD, PAD, PAD, PAD]);
    assert.deepEqual([...batch.targets], [5, no, no, no, 2, 3, no, no, no, no, no, no]);
    assert.deepEqual([...batch.segments], [1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]);
    assert.deepEqual(batch.rowTargets, [1, 2]);
    assert.deepEqual([batch.trainedTokens, batch.inputTokens], [3, 3]);
  });

  it('takes one chunk of a long record, the chosen one of those with something to train', () => {
    const rows = rowsOf([[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]], 5);
    const asked: number[] = [];
    const chosen = [0, 1].map((chunk) =>
      rows.batch([0], shape, (count) => {
        asked.push(count);
        return chunk;
      }),
    );
    assert.deepEqual(asked, [2, 2]);
    assert.deepEqual(
      chosen.map(({ tokens }) => [...tokens.subarray(0, 4)]),
      [
        [6, 7, 8, 9],
        [2, 3, 4, 5],
      ],
    );
    assert.deepEqual(
      chosen.map(({ rowTargets }) => rowTargets),
      [[4], [1]],
    );
  });

  it('counts a record of several texts once, and draws one of their chunks', () => {
    const store = new TokenStore();
    store.append([1, 2, 3, 4, 5, 6], [0, 1, 1, 0, 0, 1], [0, 3]);
    store.append([7, 8], [0, 1]);
    const rows = new SingleRows(store, { sequenceLength: 4, padTokenId: PAD });
    assert.deepEqual([rows.count, rows.longest], [2, 2]);
    const rowOf = (chunk: number): number[] => {
      const { tokens } = rows.batch([0], shape, (chunks) => {
        assert.equal(chunks, 2);
        return chunk;
      });
      return [...tokens.subarray(0, 2)];
    };
    assert.deepEqual(
      [rowOf(0), rowOf(1)],
      [
        [1, 2],
        [4, 5],
      ],
    );
  });

  it('leaves a row empty for a record in which nothing is trained, which counts all the same', () => {
    const rows = rowsOf([[1, 2], [3]], 2);
    const batch = rows.batch([0, 1], shape, first);
    assert.equal(rows.count, 2);
    assert.deepEqual(batch.rowTargets, [0, 0]);
    assert.ok(batch.targets.every((target) => target === IGNORED_TARGET));
  });

  it('knows the positions that its longest record takes, up to the sequence length', () => {
    assert.equal(rowsOf([[1, 2, 3], [4]]).longest, 2);
    assert.equal(rowsOf([[1, 2, 3, 4, 5, 6]]).longest, 4);
  });
});
