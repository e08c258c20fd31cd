import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { openWeights } from '../../../node/model/weight-index.js';
import type { MemoryPlan } from '../../../node/train/memory-plan.js';
import type { SessionOptions } from '../../../node/train/messages.js';
import type { Opening } from '../../../node/train/session-model.js';
import { TrainingSession } from '../../../node/train/session.js';
import type { LocalJob } from '../../../node/train/trainer.js';
import { initialAdapter } from '../../../protocol/adapter.js';
import { Scratch, TINY_BASE, userError } from '../model/fixtures.js';
import { sessionOptions } from './tiny-model.js';

const scratch = new Scratch();
const never = new AbortController().signal;
const ignore = (): void => undefined;
let dir: string;
let options: SessionOptions;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'murmurate-session-'));
  const data = join(dir, 'data.jsonl');
  const line = (i: number): string => `{"text": "Shelf ${i} holds bolts of size ${i % 9}."}\n`;
  await writeFile(data, Array.from({ length: 60 }, (_, i) => line(i)).join(''));
  options = await sessionOptions(TINY_BASE, data, { sequenceLength: 16, batchSize: 5 });
});
after(async () => {
  await scratch.remove();
  await rm(dir, { recursive: true });
});

function job(): LocalJob {
  const theta = initialAdapter(options.adapter);
  return { epoch: 0, theta, optimiser: null, steps: 4, deadlineMs: Infinity };
}

/** Keeps the plan of memory. */
function into(plans: MemoryPlan[]): Partial<Opening> {
  return {
    onProgress: (progress) => {
      if ('format' in progress) plans.push(progress);
    },
  };
}

describe('TrainingSession', () => {
  it('trains and measures the same with parts of a batch as with the whole', async () => {
    const results = [];
    for (const microBatch of ['auto', 2] as const) {
      const plans: MemoryPlan[] = [];
      const session = await TrainingSession.open({ ...options, microBatch }, into(plans));
      const { loss, tokens } = await session.train(job(), ignore, never);
      results.push({ loss, tokens, heldOut: await session.evaluate(job().theta, never) });
      assert.deepEqual(
        plans.map((plan) => [plan.microBatch, plan.batchSize]),
        [[microBatch === 'auto' ? 5 : 2, 5]],
      );
    }
    const [whole, parts] = results;
    assert.ok(Math.abs(whole!.loss - parts!.loss) < 1e-5, `${whole!.loss}, ${parts!.loss}`);
    assert.ok(Math.abs(whole!.heldOut! - parts!.heldOut!) < 1e-5);
    assert.equal(whole!.tokens, parts!.tokens);
  });

  it('trains on another executor to the same loss, in parts of a batch too, without a plan for its memory', async () => {
    const losses = [];
    for (const [device, microBatch] of [
      ['cpu', 'auto'],
      ['tfjs', 'auto'],
      ['tfjs', 2],
    ] as const) {
      const plans: MemoryPlan[] = [];
      const session = await TrainingSession.open({ ...options, device, microBatch }, into(plans));
      assert.ok(session.device.startsWith(device), session.device);
      assert.equal(plans.length, device === 'cpu' ? 1 : 0);
      losses.push((await session.train(job(), ignore, never)).loss);
    }
    for (const loss of losses) assert.ok(Math.abs(loss - losses[0]!) < 1e-5, losses.join(', '));
  });

  it('trains the same with replicas of the model', async () => {
    const training = { ...options.training, sequenceLength: 128, batchSize: 4 };
    const results = [];
    for (const [threads, replicas] of [
      [1, 1],
      [2, 2],
    ] as const) {
      const plans: MemoryPlan[] = [];
      const session = await TrainingSession.open({ ...options, training, threads }, into(plans));
      assert.deepEqual(
        plans.map((plan) => [plan.replicas, plan.microBatch]),
        [[replicas, 2]],
      );
      const { loss, tokens } = await session.train(job(), ignore, never);
      results.push({ loss, tokens, heldOut: await session.evaluate(job().theta, never) });
    }
    const [one, two] = results;
    assert.ok(Math.abs(one!.loss - two!.loss) < 1e-5, `${one!.loss}, ${two!.loss}`);
    assert.ok(Math.abs(one!.heldOut! - two!.heldOut!) < 1e-5);
    assert.equal(one!.tokens, two!.tokens);
  });

  it('trains in int8, with less memory for the weights, and says so', async () => {
    const plans: MemoryPlan[] = [];
    const losses: number[] = [];
    for (const weights of ['fp32', 'int8'] as const) {
      const session = await TrainingSession.open(
        { ...options, weights, cacheDir: await scratch.directory() },
        into(plans),
      );
      losses.push((await session.train(job(), ignore, never)).loss);
      assert.equal(session.device, weights === 'int8' ? 'cpu (1 thread), int8' : 'cpu (1 thread)');
    }
    const [exact, quantised] = losses as [number, number];
    assert.ok(exact !== quantised && Math.abs(exact - quantised) < 0.02, `${exact}, ${quantised}`);
    assert.ok(plans[1]!.weights < plans[0]!.weights);
  });

  it('says that weights of the base are broken, with the file, at the first loss that shows it', async () => {
    const modelDir = await scratch.tinyBase();
    const file = join(modelDir, 'model.safetensors');
    const entry = (await openWeights(modelDir)).get('model.layers.0.self_attn.k_proj.weight')!;
    const bytes = await readFile(file);
    bytes.writeUInt16LE(0x7fc0, entry.offset);
    await writeFile(file, bytes);
    const session = await TrainingSession.open({ ...options, modelDir });
    const broken = userError(/model.safetensors \(its SHA-256 .*self_attn.k_proj.weight holds NaN/);
    await assert.rejects(session.measureStepMs(never), broken);
    await assert.rejects(session.train(job(), ignore, never), broken);
    await assert.rejects(session.evaluate(job().theta, never), broken);
  });

  it('does not blame sound weights for a learning rate that no model survives', async () => {
    const training = { ...options.training, learningRate: 1e30, finalFraction: 1 };
    const session = await TrainingSession.open({ ...options, training });
    const first = await session.train(job(), ignore, never);
    assert.ok(first.skippedSteps > 0 && first.theta.every(Number.isFinite));
    const { theta } = first;
    const second = await session.train({ ...job(), theta }, ignore, never);
    assert.equal(second.skippedSteps, 4);
    assert.ok(Number.isNaN(second.loss));
    assert.ok(Number.isNaN(await session.evaluate(theta, never)));
  });

  it('trains privately: records in rows of their own, drawn by a rate, and never the same update twice', async () => {
    const privacy = { noise: 1, clip: 1, batchSize: 6, sampleRate: null };
    const plans: MemoryPlan[] = [];
    const session = await TrainingSession.open({ ...options, privacy }, into(plans));
    const { examples } = session.stats;
    assert.deepEqual(session.privacy, { ...privacy, sampleRate: 6 / examples });
    assert.ok(plans[0]!.activations > 0);
    const first = await session.train(job(), ignore, never);
    const second = await session.train(job(), ignore, never);
    assert.deepEqual([first.steps, first.skippedSteps, second.steps], [4, 0, 4]);
    assert.ok(first.theta.every(Number.isFinite));
    assert.notDeepEqual(first.theta, second.theta);
    assert.ok(Number.isFinite(await session.evaluate(first.theta, never)));
    const fixed = { ...options, privacy: { ...privacy, sampleRate: 0.5 } };
    assert.equal((await TrainingSession.open(fixed)).privacy?.sampleRate, 0.5);
  });
});
