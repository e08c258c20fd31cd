import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { CODECS, type Compression } from '../../../protocol/manifest.js';
import { Prng } from '../../../protocol/prng.js';
import { dequantise } from '../../../protocol/quantise.js';
import { accumulate, addUpdate, norm, takeUpdate } from '../../../protocol/residual.js';
import { rowFormat } from '../../support/row-format.js';

const SIZE = 700;

function draw(random: Prng, size = 1): Float64Array {
  return Float64Array.from({ length: SIZE }, () => size * (2 * random.nextFloat() - 1));
}

/** The deltas of peers whose training goes all the way to its own target in each epoch, for `epochs`. */
function converge(
  codec: Compression['codec'],
  peers: number,
  epochs: number,
  seed: number,
): { start: number; end: number } {
  const random = new Prng(Uint8Array.of(seed), 'converge');
  const theta = draw(random, 10);
  const targets = Array.from({ length: peers }, () => draw(random));
  const target = theta.map((_, i) => targets.reduce((sum, one) => sum + one[i]!, 0) / peers);
  const residuals = targets.map(() => new Float64Array(SIZE));
  const distance = (): number => norm(theta.map((value, i) => value - target[i]!));
  const start = distance();
  for (let epoch = 0; epoch < epochs; epoch++) {
    const format = rowFormat(SIZE, epoch & 255, codec);
    const move = new Float64Array(SIZE);
    for (const [peer, residual] of residuals.entries()) {
      accumulate(residual, { from: theta, to: targets[peer]!, scale: 1 });
      const read = dequantise(takeUpdate(residual, format), format);
      for (let i = 0; i < SIZE; i++) move[i]! += read[i]! / peers;
    }
    for (let i = 0; i < SIZE; i++) theta[i]! -= move[i]!;
  }
  return { start, end: distance() };
}

describe('error feedback', () => {
  it('loses nothing: what was sent and the residual are what was there', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 255 }), fc.constantFrom(...CODECS), (seed, codec) => {
        const format = rowFormat(SIZE, seed, codec);
        const residual = draw(new Prng(Uint8Array.of(seed), 'deltas'));
        const before = residual.slice();
        const quantised = takeUpdate(residual, format);
        const read = dequantise(quantised, format);
        for (const [i, value] of before.entries())
          assert.ok(Math.abs(read[i]! + residual[i]! - value) < 1e-12);
        addUpdate(residual, format, quantised);
        for (const [i, value] of before.entries())
          assert.ok(Math.abs(residual[i]! - value) < 1e-12);
      }),
      { numRuns: 20 },
    );
  });

  it('adds a move that has nothing of the residual in it', () => {
    const residual = Float64Array.of(1, 2, 0);
    accumulate(residual, { from: Float64Array.of(2, -1, 3), to: null, scale: 2 });
    assert.deepEqual([...residual], [5, 0, 6]);
  });

  it('gives up what training moves again, and no more than all of it', () => {
    const half = Float64Array.of(4, 0);
    accumulate(half, { from: Float64Array.of(2, 5), to: null, scale: 1 });
    assert.deepEqual([...half], [4, 5]);
    const twice = Float64Array.of(4, 0);
    accumulate(twice, { from: Float64Array.of(8, 0), to: null, scale: 1 });
    assert.deepEqual([...twice], [8, 0]);
    const against = Float64Array.of(4, 0);
    accumulate(against, { from: Float64Array.of(-1, 0), to: null, scale: 1 });
    assert.deepEqual([...against], [3, 0]);
  });

  it('stays bounded over many epochs of unrelated moves', () => {
    const held = (codec: Compression['codec'], epochs: number): number => {
      const random = new Prng(Uint8Array.of(5), 'moves');
      const residual = new Float64Array(SIZE);
      for (let epoch = 0; epoch < epochs; epoch++) {
        accumulate(residual, { from: draw(random), to: null, scale: 1 });
        takeUpdate(residual, rowFormat(SIZE, epoch & 255, codec));
      }
      return norm(residual);
    };
    for (const codec of CODECS) assert.ok(held(codec, 200) < 2 * held(codec, 40), codec);
  });

  for (const codec of CODECS)
    it(`is stable with ${codec} where training converges within an epoch, for any number of peers`, () => {
      for (const peers of [1, 2, 3, 8]) {
        const { start, end } = converge(codec, peers, 200, peers);
        assert.ok(end < 0.15 * start, `${peers} peers: ${end} of ${start}`);
      }
      // Alone, a peer arrives.
      assert.ok(converge(codec, 1, 200, 9).end < 1e-4);
    });
});

describe('norm()', () => {
  it('is the root of the sum of squares', () => {
    assert.equal(norm(Float64Array.of(2, 3, 6)), 7);
  });
});
