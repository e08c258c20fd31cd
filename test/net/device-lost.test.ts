/** A GPU that disappears in mid-run, with real processes: see fragile-gpu.ts for what stands in for the GPU. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { lackOf } from '../../node/engine/devices.js';
import { UserError } from '../../node/errors.js';
import { TrainerDiedError, type Logger, type TrainResult } from '../../node/interfaces.js';
import { loraModules } from '../../node/model/lora.js';
import { openModelDirectory } from '../../node/model/model-directory.js';
import { gpuBytes } from '../../node/train/gpu-memory.js';
import { TrainerHost, type TrainerHostOptions } from '../../node/train/host.js';
import type { MemoryPlan } from '../../node/train/memory-plan.js';
import { initialAdapter } from '../../protocol/adapter.js';
import { ROOT, TRAINING } from '../unit/train/tiny-model.js';

const MODEL = join(ROOT, 'models', 'tiny-base');
const never = new AbortController().signal;
const ignore = (): void => undefined;

let dir: string;
let gpu: string;
let options: Omit<TrainerHostOptions, 'device'>;
const warnings: string[] = [];
const warn = (_fields: unknown, message: string): void => void warnings.push(message);
const logger: Logger = { debug: ignore, info: ignore, warn, error: ignore };

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'murmurate-device-'));
  gpu = join(dir, 'gpu');
  process.env['FRAGILE_GPU'] = gpu;
  // Where Linux is to look for a GPU's driver, so that one is looked for.
  process.env['VK_ICD_FILENAMES'] ??= join(dir, 'icd.json');
  const hook = new URL(import.meta.url.replace(/device-lost\.test(?=\.[jt]s$)/, 'fragile-gpu'));
  process.execArgv.push('--import', hook.href);
  const data = join(dir, 'data.jsonl');
  const lines = Array.from({ length: 30 }, (_, i) =>
    JSON.stringify({ text: `Shelf ${i}: bolts.` }),
  );
  await writeFile(data, lines.join('\n'));
  const { config } = await openModelDirectory(MODEL);
  const targetModules = ['q_proj'];
  const modules = loraModules(config, targetModules);
  options = {
    modelDir: MODEL,
    dataFiles: [data],
    adapter: { rank: 2, alpha: 4, seed: new Uint8Array(32), targetModules, modules },
    training: { ...TRAINING, sequenceLength: 32, batchSize: 2 },
    microBatch: 'auto',
    memory: 'auto',
    run: { epochsMax: 2, stepsRef: 4 },
    threads: 1,
    cacheDir: dir,
    weights: 'fp32',
    heldOutShare: 0.2,
    dataSeed: new Uint8Array(32),
    logger,
  };
});
beforeEach(async () => {
  warnings.length = 0;
  await writeFile(gpu, 'steady');
});
after(() => rm(dir, { recursive: true }));

async function withHost(
  device: TrainerHostOptions['device'],
  use: (host: TrainerHost) => Promise<void>,
  changes: Partial<TrainerHostOptions> = {},
): Promise<void> {
  const host = await TrainerHost.open({ ...options, ...changes, device });
  try {
    await use(host);
  } finally {
    await host.close();
  }
}

function train(host: TrainerHost): Promise<TrainResult> {
  const deadlineMs = Number.MAX_SAFE_INTEGER;
  const theta = initialAdapter(options.adapter);
  return host.train({ epoch: 0, theta, optimiser: null, steps: 1, deadlineMs }, ignore, never);
}

function evaluate(host: TrainerHost): Promise<number | null> {
  return host.evaluate(initialAdapter(options.adapter), never);
}

describe('a GPU that disappears', { skip: lackOf('webgpu')?.isOfPlatform === true }, () => {
  it('under auto costs a restart, and training goes on with the CPU, which attention says', async () => {
    await withHost('auto', async (host) => {
      assert.match(host.deviceLine, /^webgpu; a small step takes .* there and .* on the CPU/);
      assert.equal((await train(host)).steps, 1);
      await rm(gpu);
      await assert.rejects(train(host), (error: Error) => {
        assert.ok(error instanceof TrainerDiedError);
        assert.match(error.message, /the GPU device was lost/);
        return true;
      });
      assert.equal((await train(host)).steps, 1);
      assert.equal(host.device, 'cpu (1 thread)');
      const [sentence = '', ...others] = host.attention;
      assert.deepEqual(others, []);
      assert.match(
        sentence,
        /^The device webgpu was lost in mid-run \(.*the GPU device was lost\); training goes on with cpu \(1 thread\);.* webgpu was not taken: no adapter found\.$/,
      );
      assert.ok(warnings.includes(sentence));
    });
  });

  it('that only fails in training is given up under auto after two failures', async () => {
    await withHost('auto', async (host) => {
      await writeFile(gpu, 'flaky');
      for (let i = 0; i < 2; i++) await assert.rejects(train(host), TrainerDiedError);
      assert.equal((await train(host)).steps, 1);
      assert.equal(host.deviceLine, 'cpu (1 thread); training failed 2 times in a row');
    });
  });

  it('whose memory runs out trains on with smaller parts, which attention says', async () => {
    await withHost('auto', async (host) => {
      await writeFile(gpu, 'tight');
      await assert.rejects(train(host), /no memory left|no memory for/);
      assert.equal((await train(host)).steps, 1);
      assert.match(host.deviceLine, /^webgpu; /);
      const [sentence = '', ...others] = host.attention;
      assert.deepEqual(others, []);
      assert.match(
        sentence,
        /^The device webgpu ran out of memory, so now one sequence goes through the model at a time: .* --micro-batch 1 /,
      );
      assert.ok(warnings.includes(sentence));
    });
  });

  it('that has no room for one sequence either is given up under auto, in one sentence', async () => {
    await withHost('auto', async (host) => {
      await writeFile(gpu, 'full');
      // Two sequences, one, and one with low memory.
      for (let i = 0; i < 3; i++) await assert.rejects(train(host), /no memory/);
      assert.equal((await train(host)).steps, 1);
      assert.equal(
        host.deviceLine,
        'cpu (1 thread); the GPU has too little memory for one sequence',
      );
      const [sentence = '', ...others] = host.attention;
      assert.deepEqual(others, []);
      assert.match(
        sentence,
        /^The device webgpu was lost in mid-run \(.*no memory .*\); training goes on with cpu/,
      );
    });
  });

  it('whose memory runs out is an error after the smallest parts, if it was asked for', async () => {
    await withHost('webgpu', async (host) => {
      await writeFile(gpu, 'full');
      for (let i = 0; i < 4; i++) await assert.rejects(train(host), /no memory/);
      assert.match(host.deviceLine, /^webgpu; /);
      const [sentence = ''] = host.attention;
      assert.match(
        sentence,
        / at a time with --memory low: .* --micro-batch 1 --memory low to begin so\.$/,
      );
    });
  });

  it('has what fits into its memory planned and told, and the rest refused with what would fit', async () => {
    const plans: MemoryPlan[] = [];
    const changes = { weights: 'auto', onPlan: (plan: MemoryPlan) => plans.push(plan) } as const;
    const planned = async (gigabytes: number): Promise<string> => {
      plans.length = 0;
      const use = async (host: TrainerHost): Promise<void> => {
        assert.equal((await train(host)).steps, 1);
      };
      await withHost('webgpu', use, { ...changes, gpuMemory: gpuBytes(gigabytes) });
      const [plan, ...others] = plans;
      assert.ok(plan !== undefined && others.length === 0);
      assert.equal(plan.gpu?.source, 'asked');
      return `${plan.format} ${plan.memory} ${plan.microBatch}`;
    };
    assert.equal(await planned(8), 'bf16 normal 2');
    assert.equal(await planned(0.56), 'bf16 low 1');
    const tooLittle = { ...changes, gpuMemory: gpuBytes(0.54) };
    await assert.rejects(TrainerHost.open({ ...options, ...tooLittle, device: 'webgpu' }), {
      name: 'UserError',
      message:
        /^the model does not fit into the memory of webgpu: training 1 sequence of 32 tokens .* are free: .*--device cpu/,
    });
    await withHost(
      'auto',
      (host) => {
        assert.match(host.deviceLine, /^cpu .*; webgpu was not taken: the model does not fit into/);
        return Promise.resolve();
      },
      tooLittle,
    );
  });

  it('that has room for the weights once evaluates with the graph of the gradient, and says so', async () => {
    const use = async (host: TrainerHost): Promise<void> => {
      assert.equal((await train(host)).steps, 1);
      assert.ok(Number.isFinite(await evaluate(host)));
      assert.deepEqual(host.attention, [
        'The device has no room for the weights a second time, for losses alone: losses are measured with the graph of ' +
          'the gradient, which takes longer.',
      ]);
    };
    await withHost('webgpu', use, { gpuMemory: gpuBytes(0.58) });
  });

  it('that has no room for the graph of the loss evaluates with that of the gradient', async () => {
    await writeFile(gpu, 'narrow');
    await withHost('auto', async (host) => {
      assert.equal((await train(host)).steps, 1);
      const onGpu = await evaluate(host);
      assert.equal((await train(host)).steps, 1);
      assert.match(host.deviceLine, /^webgpu; /);
      assert.match(
        host.attention.join(' '),
        /^A graph for the loss alone does not run on this device \(.*no memory for its weights\): .* takes longer\.$/,
      );
      assert.deepEqual(warnings, host.attention);
      await rm(gpu);
      await assert.rejects(train(host), TrainerDiedError);
      const onCpu = await evaluate(host);
      assert.doesNotMatch(host.attention.join(' '), /loss alone/);
      assert.ok(onCpu !== null && Math.abs(onGpu! - onCpu) < 1e-5, `${onGpu}, ${onCpu}`);
    });
  });

  it('that trains but cannot evaluate is given up under auto after two failures', async () => {
    await writeFile(gpu, 'brittle');
    await withHost('auto', async (host) => {
      for (let i = 0; i < 2; i++) {
        assert.equal((await train(host)).steps, 1);
        assert.match(host.deviceLine, /^webgpu; /);
        await assert.rejects(evaluate(host), TrainerDiedError);
      }
      assert.ok(Number.isFinite(await evaluate(host)));
      assert.equal(host.deviceLine, 'cpu (1 thread); training failed 2 times in a row');
    });
  });

  it('that was asked for is an error in one sentence, and nothing else is taken', async () => {
    await withHost('webgpu', async (host) => {
      assert.equal((await train(host)).steps, 1);
      await rm(gpu);
      await assert.rejects(train(host), TrainerDiedError);
      await assert.rejects(train(host), (error: Error) => {
        assert.ok(error instanceof UserError);
        assert.match(
          error.message,
          /^--device webgpu cannot be had: no adapter found; .* --device cpu$/,
        );
        return true;
      });
    });
  });
});
