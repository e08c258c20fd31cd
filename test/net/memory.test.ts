/** What is predicted before a model is loaded, against what real training processes take. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { loraModules } from '../../node/model/lora.js';
import type { MemoryMode } from '../../node/model/memory-mode.js';
import { openModelDirectory } from '../../node/model/model-directory.js';
import type { WeightFormat } from '../../node/model/weight-format.js';
import { TrainerHost } from '../../node/train/host.js';
import { needed, type MemoryPlan } from '../../node/train/memory-plan.js';
import { initialAdapter } from '../../protocol/adapter.js';
import { ROOT, TRAINING } from '../unit/train/tiny-model.js';

const MODEL = join(ROOT, 'models', 'tiny-base');
const never = new AbortController().signal;
const ignore = (): void => undefined;
const isLinux = { skip: process.platform === 'linux' ? false : 'needs /proc' };

let dir: string;
let data: string;
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'murmurate-memory-'));
  data = join(dir, 'data.jsonl');
  const line = (i: number): string => `{"text": "${`Shelf ${i} holds bolts. `.repeat(40)}"}\n`;
  await writeFile(data, Array.from({ length: 200 }, (_, i) => line(i)).join(''));
});
after(() => rm(dir, { recursive: true }));

/** What was predicted for batches of this shape, and what a process had resident at most; bytes. */
async function trainOnce(
  batchSize: number,
  sequenceLength: number,
  memory: MemoryMode,
  weights: WeightFormat,
  { rank = 8, microBatch = batchSize } = {},
): Promise<{ predicted: number; measured: number; arrays: number }> {
  const { config } = await openModelDirectory(MODEL);
  const modules = loraModules(config, ['all-linear']);
  const adapter = { rank, alpha: 16, seed: new Uint8Array(32), targetModules: [], modules };
  let predicted = 0;
  const host = await TrainerHost.open({
    ...{
      modelDir: MODEL,
      dataFiles: [data],
      adapter,
      device: 'cpu',
      threads: 1,
      weights,
      cacheDir: dir,
      memory,
    },
    training: { ...TRAINING, batchSize, sequenceLength },
    microBatch,
    run: { epochsMax: 1, stepsRef: 2 },
    heldOutShare: 0.1,
    dataSeed: new Uint8Array(32),
    logger: { debug: ignore, info: ignore, warn: ignore, error: ignore },
    onPlan: (plan: MemoryPlan) => (predicted = needed(plan) + plan.process),
  });
  const theta = initialAdapter(adapter);
  const before = process.memoryUsage().arrayBuffers;
  let most = before;
  const look = (): void => void (most = Math.max(most, process.memoryUsage().arrayBuffers));
  const timer = setInterval(look, 2);
  try {
    const job = { epoch: 0, theta, steps: 2, deadlineMs: Number.MAX_SAFE_INTEGER };
    const { optimiser } = await host.train({ ...job, optimiser: null }, ignore, never);
    await host.evaluate(theta, never);
    await host.train({ ...job, optimiser }, ignore, never);
    look();
    const status = await readFile(`/proc/${host.pid}/status`, 'utf8');
    const measured = 1024 * Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]);
    return { predicted, measured, arrays: (most - before) / theta.byteLength };
  } finally {
    clearInterval(timer);
    await host.close();
  }
}

describe('the memory that training takes', () => {
  it('is predicted within a fifth, and hardly ever too low', isLinux, async () => {
    for (const [batchSize, sequenceLength, memory, weights] of [
      [1, 64, 'normal', 'fp32'],
      [8, 128, 'fast', 'fp32'],
      [8, 128, 'low', 'fp32'],
      [8, 128, 'normal', 'int8'],
      [8, 128, 'low', 'bf16'],
      [8, 128, 'low', 'int4'],
      [3, 512, 'normal', 'fp32'],
    ] as const) {
      const shape = [batchSize, sequenceLength, memory, weights] as const;
      const { predicted, measured } = await trainOnce(...shape);
      const ratio = predicted / measured;
      const words = `${shape.join(' ')}: ${predicted} bytes for ${measured}`;
      assert.ok(ratio > 0.9 && ratio < 1.2, words);
    }
  });

  it(
    'counts the arrays of a large adapter, of which few are ever in the parent',
    isLinux,
    async () => {
      // 7.2 M coordinates: an array of them takes 29 MB.
      for (const microBatch of [2, 1]) {
        const large = await trainOnce(2, 64, 'normal', 'fp32', { rank: 256, microBatch });
        const { predicted, measured, arrays } = large;
        const words = `${microBatch} at once: ${predicted} bytes for ${measured}, ${arrays} arrays here`;
        assert.ok(predicted / measured > 0.9 && predicted / measured < 1.2, words);
        // Two results, and what V8 lets lie around of the pieces before it looks.
        assert.ok(arrays < 5, words);
      }
    },
  );
});
