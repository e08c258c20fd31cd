import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { PackedRows, packRows, type Batch } from '../../../node/data/packing.js';
import { TokenStore } from '../../../node/data/token-store.js';
import { IGNORED_TARGET } from '../../../node/model/token-batch.js';

const SEED = new Uint8Array(32).fill(7);
const PAD = 0;

interface Example {
  tokens: number[];
  trained: (0 | 1)[];
}

function storeOf(examples: readonly Example[]): TokenStore {
  const store = new TokenStore();
  for (const { tokens, trained } of examples) assert.ok(store.append(tokens, trained));
  return store;
}

function rowsOf(store: TokenStore, sequenceLength: number, seed = SEED): PackedRows {
  const packing = packRows(store, sequenceLength, seed);
  return new PackedRows(store, packing, { sequenceLength, padTokenId: PAD, seed });
}

/** Examples whose tokens occur nowhere else, so that a token's number says where it belongs. */
const examplesArbitrary = fc
  .array(fc.array(fc.constantFrom<0 | 1>(0, 1), { minLength: 1, maxLength: 40 }), {
    minLength: 1,
    maxLength: 30,
  })
  .map((masks) => {
    let next = 1;
    return masks.map((trained) => ({ tokens: trained.map(() => next++), trained }));
  });

/** (token, target) of every trained position of a batch; fails where segments leak. */
function trainedPairs(batch: Batch, sequenceLength: number): [number, number][] {
  const pairs: [number, number][] = [];
  for (let i = 0; i < batch.tokens.length; i++) {
    const [token, target, segment] = [batch.tokens[i]!, batch.targets[i]!, batch.segments[i]!];
    if (segment === 0) assert.deepEqual([token, target], [PAD, IGNORED_TARGET], 'padding');
    if (target !== IGNORED_TARGET) pairs.push([token, target]);
    const inRow = i % sequenceLength !== 0;
    if (inRow && segment !== 0 && batch.segments[i - 1] === segment) {
      assert.equal(
        token,
        batch.tokens[i - 1]! + 1,
        'a segment is one unbroken stretch of an example',
      );
    }
    if (inRow && segment !== 0 && batch.segments[i - 1] !== segment) {
      assert.equal(segment, batch.segments[i - 1]! + 1, 'segments count up from 1');
    }
    if (!inRow && segment !== 0) assert.equal(segment, 1);
  }
  return pairs;
}

describe('packing', () => {
  it('trains every trained token exactly once a pass, on the token before it', () => {
    fc.assert(
      fc.property(
        examplesArbitrary,
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 1, max: 5 }),
        (examples, sequenceLength, batchSize) => {
          const store = storeOf(examples);
          const expected = examples.flatMap(({ tokens, trained }) =>
            tokens.flatMap((token, i) => (i > 0 && trained[i] === 1 ? [[token - 1, token]] : [])),
          );
          const packing = packRows(store, sequenceLength, SEED);
          assert.equal(packing.trainedTokens, expected.length);
          if (expected.length === 0) {
            assert.equal(packing.rows.length, 0);
            return;
          }
          const rows = rowsOf(store, sequenceLength);
          const found = [...rows.batches(batchSize, Infinity)].flatMap((batch) => {
            const pairs = trainedPairs(batch, sequenceLength);
            assert.equal(batch.trainedTokens, pairs.length);
            assert.equal(batch.inputTokens, batch.segments.filter((segment) => segment > 0).length);
            return pairs;
          });
          assert.deepEqual(
            found.sort((a, b) => a[0] - b[0]),
            expected,
          );
        },
      ),
    );
  });

  it('gives every row once before any repeats, in a new order each pass', () => {
    const examples = Array.from({ length: 13 }, (_, i) => ({
      tokens: [100 * i, 100 * i + 1, 100 * i + 2, 100 * i + 3],
      trained: [1, 1, 1, 1] as (0 | 1)[],
    }));
    const rows = rowsOf(storeOf(examples), 3);
    assert.equal(rows.rows, 13);
    const firstTokens = Array.from({ length: 13 }, (_, step) => rows.batch(step, 3).tokens).flatMap(
      (tokens) => [tokens[0]!, tokens[3]!, tokens[6]!],
    );
    const passes = [0, 13, 26].map((from) => firstTokens.slice(from, from + 13));
    for (const pass of passes) {
      assert.deepEqual(
        [...pass].sort((a, b) => a - b),
        examples.map(({ tokens }) => tokens[0]!),
      );
    }
    assert.notDeepEqual(passes[0], passes[1]);
    assert.notDeepEqual(passes[1], passes[2]);
  });

  it('makes batch number n from the data, the seed and n alone', () => {
    fc.assert(
      fc.property(examplesArbitrary, fc.nat({ max: 10_000 }), (examples, step) => {
        const store = storeOf([...examples, { tokens: [9001, 9002], trained: [1, 1] }]);
        const walked = rowsOf(store, 8);
        for (let i = 0; i < 5; i++) walked.batch(i, 3);
        assert.deepEqual(walked.batch(step, 3), rowsOf(store, 8).batch(step, 3));
      }),
      { numRuns: 30 },
    );
    const examples = Array.from({ length: 40 }, (_, i) => ({
      tokens: [2 * i, 2 * i + 1],
      trained: [1, 1] as (0 | 1)[],
    }));
    const store = storeOf(examples);
    const other = new Uint8Array(32).fill(8);
    assert.notDeepEqual(rowsOf(store, 4).batch(0, 4), rowsOf(store, 4, other).batch(0, 4));
  });

  it('fills rows nearly as full as can be', () => {
    const lengths = Array.from({ length: 400 }, (_, i) => 2 + ((i * 37) % 50));
    const store = storeOf(
      lengths.map((n) => ({ tokens: Array<number>(n).fill(5), trained: Array<1>(n).fill(1) })),
    );
    const pairs = lengths.reduce((sum, n) => sum + n - 1, 0);
    const { rows } = packRows(store, 64, SEED);
    assert.ok(rows.length <= Math.ceil(pairs / 64) + 2, `${rows.length} rows for ${pairs} pairs`);
  });

  it('cuts from the end, so that an answer keeps the prompt next to it', () => {
    const n = 25;
    const tokens = Array.from({ length: n }, (_, i) => i + 1);
    const trained = tokens.map((token) => (token > 22 ? 1 : 0));
    const store = storeOf([{ tokens, trained }]);
    const packing = packRows(store, 10, SEED);
    assert.equal(packing.cutExamples, 1);
    assert.equal(packing.droppedTokens, 14);
    const { tokens: row } = rowsOf(store, 10).batch(0, 1);
    assert.deepEqual([...row], [15, 16, 17, 18, 19, 20, 21, 22, 23, 24]);
    const short = storeOf([{ tokens: tokens.slice(0, 11), trained: Array<1>(11).fill(1) }]);
    assert.equal(packRows(short, 10, SEED).cutExamples, 0, 'T + 1 tokens are T pairs');
  });

  it('ends a measuring pass after the tokens asked for, always with one batch', () => {
    const store = storeOf(
      Array.from({ length: 9 }, (_, i) => ({
        tokens: [10 * i, 10 * i + 1, 10 * i + 2],
        trained: [1, 1, 1],
      })),
    );
    const rows = rowsOf(store, 2);
    const sizes = (tokensMax: number): number[] =>
      [...rows.batches(2, tokensMax)].map((batch) => batch.inputTokens);
    assert.deepEqual(sizes(1), [4]);
    assert.deepEqual(sizes(4), [4]);
    assert.deepEqual(sizes(5), [4, 4]);
    assert.deepEqual(sizes(Infinity), [4, 4, 4, 4, 2], 'the last batch is part padding');
    assert.deepEqual([...rows.batches(2, 9)], [...rows.batches(2, 9)], 'a fixed order');
  });

  it('refuses to hold more tokens than it may', () => {
    const store = new TokenStore(5);
    assert.ok(store.append([1, 2, 3, 4], [0, 1, 1, 1]));
    assert.equal(store.append([5, 6], [1, 1]), false);
    assert.deepEqual([store.size, store.examples], [4, 1]);
    assert.ok(store.append([5], [1]));
  });
});
