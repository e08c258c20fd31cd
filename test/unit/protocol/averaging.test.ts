import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { adapterLayout, initialAdapter } from '../../../protocol/adapter.js';
import { Fold } from '../../../protocol/fold.js';
import { GRID } from '../../../protocol/grid.js';
import { UpdateLog } from '../../../protocol/log.js';
import type { Compression, Manifest, Run } from '../../../protocol/manifest.js';
import { Prng } from '../../../protocol/prng.js';
import { accumulate, norm, takeSlice } from '../../../protocol/residual.js';
import { Slicer } from '../../../protocol/slice.js';
import { createUpdate } from '../../../protocol/update.js';
import { adapterSize, testIdentity, testRun } from '../../support/runs.js';

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
  const slice = new Slicer(run).slice(epoch);
  accumulate(residual, delta, run.manifest.compression.beta);
  const quantised = takeSlice(residual, slice, random);
  const fields = { epoch, baseEpoch: epoch, steps: 8, logDigest: new Uint8Array(32) };
  log.insert(createUpdate(run, testIdentity(peer), { ...fields, ...quantised }));
}

/** The adapter before it is rounded to float32. */
function thetaOf(run: Run, fold: Fold, log: UpdateLog): Float64Array {
  fold.compute(log);
  const sum = fold.sum();
  return Float64Array.from(initialAdapter(run.manifest.adapter), (v, i) => v - sum[i]! / GRID);
}

function runWith(compression: Compression, fold: Partial<Manifest['fold']> = {}): Run {
  return testRun((manifest) => ({
    ...manifest,
    compression,
    fold: { ...manifest.fold, clip: 0, ...fold },
  }));
}

/** 4 bits carry these values without loss: whole multiples of a power of two, the largest 7 of them. */
function exactDelta(size: number, unit: number): Float64Array {
  return Float64Array.from({ length: size }, (_, i) =>
    i % 64 === 0 ? 7 * unit : (random.nextBelow(15) - 7) * unit,
  );
}

const LOSSLESS: Compression = {
  blockSize: 64,
  beta: 1,
  phases: [{ fromEpoch: 0, slices: 1, bits: 4 }],
};

describe('averaging', () => {
  it('without loss by the codec ends an epoch at the mean of the peers, to half a step of the grid', () => {
    const run = runWith(LOSSLESS);
    const theta0 = Float64Array.from(initialAdapter(run.manifest.adapter));
    const log = new UpdateLog();
    const deltas = [1, 2, 8].map((scale) => exactDelta(theta0.length, scale / 1024));
    for (const [peer, delta] of deltas.entries()) contribute(run, log, peer, 0, delta);
    const theta = thetaOf(run, new Fold(run), log);
    for (const [i, value] of theta.entries()) {
      const mean = deltas.reduce((sum, delta) => sum + (theta0[i]! - delta[i]!), 0) / 3;
      assert.ok(Math.abs(value - mean) <= 0.5 / GRID + 1e-15);
    }
  });

  it('with alpha = 1/2 halves the distance to a common target each epoch', () => {
    const run = runWith(LOSSLESS, { alpha: [{ fromEpoch: 0, numerator: 1, denominator: 2 }] });
    const theta0 = Float64Array.from(initialAdapter(run.manifest.adapter));
    const target = theta0.map((value, i) => value - (i % 64 === 0 ? 7 : (i % 15) - 7) / 256);
    const log = new UpdateLog();
    const fold = new Fold(run);
    let distance = norm(theta0.map((value, i) => value - target[i]!));
    for (let epoch = 0; epoch < 6; epoch++) {
      const theta = thetaOf(run, fold, log);
      for (const peer of [0, 1]) {
        contribute(
          run,
          log,
          peer,
          epoch,
          theta.map((value, i) => value - target[i]!),
        );
      }
      const next = norm(thetaOf(run, fold, log).map((value, i) => value - target[i]!));
      assert.ok(Math.abs(next / distance - 0.5) < 1e-7, `epoch ${epoch}: ${next / distance}`);
      distance = next;
    }
  });

  it('diverges where the guard on the gain forbids it, and only there', () => {
    // Local training that converges within an epoch: D = theta - target.
    const finalDistance = (slices: number, beta: number): number => {
      const run = runWith(LOSSLESS);
      const compression: Compression = {
        blockSize: 8,
        beta,
        phases: [{ fromEpoch: 0, slices, bits: 4 }],
      };
      // encodeManifest() would refuse a gain over 3, so the run is bent after it was made.
      const bent: Run = { ...run, manifest: { ...run.manifest, compression } };
      const target = new Float64Array(adapterSize(run)).fill(1);
      const log = new UpdateLog();
      const fold = new Fold(bent);
      const residuals = [0, 1].map(() => new Float64Array(target.length));
      for (let epoch = 0; epoch < 40; epoch++) {
        const theta = thetaOf(bent, fold, log);
        for (const [peer, residual] of residuals.entries()) {
          const delta = theta.map((value, i) => value - target[i]!);
          contribute(bent, log, peer, epoch, delta, residual);
        }
      }
      return norm(thetaOf(bent, fold, log).map((value, i) => value - target[i]!));
    };
    const start = norm(new Float64Array(266).fill(1));
    assert.ok(finalDistance(1, 0.95) < 0.1 * start, 'G = 1');
    // A step is at most 8 long, so it swings about the target instead of growing without end.
    assert.ok(finalDistance(16, 0.95) > 2 * start, 'G = 11');
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
