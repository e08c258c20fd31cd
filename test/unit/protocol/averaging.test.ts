import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { adapterLayout, initialAdapter } from '../../../protocol/adapter.js';
import { Fold } from '../../../protocol/fold.js';
import { GRID } from '../../../protocol/grid.js';
import { UpdateLog } from '../../../protocol/log.js';
import type { Manifest, Run } from '../../../protocol/manifest.js';
import { Prng } from '../../../protocol/prng.js';
import { dequantise } from '../../../protocol/quantise.js';
import { accumulate, norm, takeUpdate } from '../../../protocol/residual.js';
import { RowFormats } from '../../../protocol/row-format.js';
import { createUpdate, type Update } from '../../../protocol/update.js';
import { adapterSize, testIdentity, testRun, testUpdate } from '../../support/runs.js';

const random = new Prng(new Uint8Array(32), 'averaging');

/** Takes what one peer's local training moved through the codec into the log. */
function contribute(
  run: Run,
  log: UpdateLog,
  peer: number,
  epoch: number,
  delta: Float64Array,
  residual = new Float64Array(delta.length),
): void {
  accumulate(residual, { from: delta, to: null, scale: 1 });
  const quantised = takeUpdate(residual, new RowFormats(run).at(epoch));
  const fields = { epoch, baseEpoch: epoch, steps: 8, logDigest: new Uint8Array(32) };
  log.insert(createUpdate(run, testIdentity(peer), { ...fields, ...quantised }));
}

/** The adapter before it is rounded to float32. */
function thetaOf(run: Run, fold: Fold, log: UpdateLog): Float64Array {
  fold.compute(log);
  const sum = fold.sum();
  return Float64Array.from(initialAdapter(run.manifest.adapter), (v, i) => v - sum[i]! / GRID);
}

function runWith(fold: Partial<Manifest['fold']> = {}): Run {
  return testRun((manifest) => ({ ...manifest, fold: { ...manifest.fold, clip: 0, ...fold } }));
}

/** A delta, [size] float64, and what receivers read of it. */
function sentOf(run: Run, update: Update): Float64Array {
  return dequantise(update, new RowFormats(run).at(update.epoch));
}

describe('averaging', () => {
  it('ends an epoch at the mean of what the peers sent, to half a step of the grid', () => {
    const run = runWith();
    const theta0 = Float64Array.from(initialAdapter(run.manifest.adapter));
    const log = new UpdateLog();
    const updates = [1, 2, 8].map((size, peer) => testUpdate(run, testIdentity(peer), 0, { size }));
    for (const update of updates) log.insert(update);
    const sent = updates.map((update) => sentOf(run, update));
    const theta = thetaOf(run, new Fold(run), log);
    for (const [i, value] of theta.entries()) {
      const mean = sent.reduce((sum, one) => sum + one[i]!, 0) / 3;
      assert.ok(Math.abs(value - (theta0[i]! - mean)) <= 0.5 / GRID + 1e-12);
    }
  });

  it('with alpha = 1/2 goes half as far', () => {
    const alpha = [{ fromEpoch: 0, numerator: 1, denominator: 2 }];
    const [whole, half] = [runWith(), runWith({ alpha })];
    const moved = (run: Run): Float64Array => {
      const log = new UpdateLog();
      // Of the same bytes: only the signed headers name the run.
      const { scales, codes } = testUpdate(whole, testIdentity(0), 0);
      const fields = { epoch: 0, baseEpoch: 0, steps: 8, logDigest: new Uint8Array(32) };
      log.insert(createUpdate(run, testIdentity(0), { ...fields, scales, codes }));
      const fold = new Fold(run);
      fold.compute(log);
      return fold.sum().slice();
    };
    assert.ok(Math.abs(norm(moved(half)) / norm(moved(whole)) - 0.5) < 1e-6);
  });

  it('comes near to a common target, and stays', () => {
    const run = runWith();
    const target = new Float64Array(adapterSize(run)).fill(1);
    const log = new UpdateLog();
    const fold = new Fold(run);
    const residuals = [0, 1].map(() => new Float64Array(target.length));
    for (let epoch = 0; epoch < 40; epoch++) {
      const theta = thetaOf(run, fold, log);
      for (const [peer, residual] of residuals.entries()) {
        const delta = theta.map((value, i) => value - target[i]!);
        contribute(run, log, peer, epoch, delta, residual);
      }
    }
    const distance = norm(thetaOf(run, fold, log).map((value, i) => value - target[i]!));
    assert.ok(distance < 0.1 * norm(target), `${distance}`);
  });
});

describe('mean of LoRA factors', () => {
  const run = testRun();
  const { tensors, size } = adapterLayout(run.manifest.adapter);
  const [tensorA, tensorB] = [tensors[0]!, tensors[1]!];

  /** B A of one module, [out][in], from a flat adapter. */
  function product(theta: Float64Array): Float64Array {
    const [rank, inFeatures] = tensorA.shape;
    const [outFeatures] = tensorB.shape;
    const out = new Float64Array(outFeatures * inFeatures);
    for (let o = 0; o < outFeatures; o++) {
      for (let i = 0; i < inFeatures; i++) {
        for (let r = 0; r < rank; r++) {
          out[o * inFeatures + i]! +=
            theta[tensorB.offset + o * rank + r]! * theta[tensorA.offset + r * inFeatures + i]!;
        }
      }
    }
    return out;
  }

  const mean = (vectors: Float64Array[]): Float64Array =>
    vectors[0]!.map((_, i) => vectors.reduce((sum, v) => sum + v[i]!, 0) / vectors.length);
  const draw = (): Float64Array =>
    Float64Array.from({ length: size }, () => 2 * random.nextFloat() - 1);

  /** mean(B A) - mean(B) mean(A). */
  function mismatch(peers: Float64Array[]): Float64Array {
    const averaged = product(mean(peers));
    return mean(peers.map(product)).map((value, i) => value - averaged[i]!);
  }

  it('misses the mean of products by the covariance of the factors', () => {
    const peers = [draw(), draw(), draw()];
    const center = mean(peers);
    const centered = peers.map((theta) => theta.map((value, i) => value - center[i]!));
    const covariance = mean(centered.map(product));
    for (const [i, value] of mismatch(peers).entries()) {
      assert.ok(Math.abs(value - covariance[i]!) < 1e-12);
    }
    assert.ok(norm(covariance) > 0.1, 'the peers differ in both factors');
  });

  it('is exact when one factor is common', () => {
    const common = draw();
    for (const kept of ['A', 'B'] as const) {
      const peers = [draw(), draw(), draw()].map((theta) => {
        for (const { factor, offset, length } of tensors) {
          if (factor === kept) theta.set(common.subarray(offset, offset + length), offset);
        }
        return theta;
      });
      assert.ok(norm(mismatch(peers)) < 1e-12, `common ${kept}`);
    }
  });
});
