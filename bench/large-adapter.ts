/**
 * What a large adapter costs the two processes of a peer: memory of the training process and of its parent, and the
 * time that the adapter takes between them. A real training process, on a model of random weights whose adapter is
 * large beside it.   npm run bench:large-adapter -- --coordinates 40000000
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { TrainJob } from '../node/interfaces.js';
import { TrainerHost } from '../node/train/host.js';
import type { MemoryPlan } from '../node/train/memory-plan.js';
import { adapterLayout, initialAdapter } from '../protocol/adapter.js';
import { testRun } from '../test/support/runs.js';
import { writeWideModel } from './wide-model.js';

const { values } = parseArgs({
  options: {
    coordinates: { type: 'string', default: '40000000' },
    epochs: { type: 'string', default: '3' },
  },
});
const never = new AbortController().signal;
const ignore = (): void => undefined;

/** Anonymous memory of a process, now and at most, in bytes. */
function memoryOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return 1024 * Number(/^RssAnon:\s+(\d+)/m.exec(status)?.[1] ?? NaN);
}

const dir = mkdtempSync(join(tmpdir(), 'murmurate-adapter-'));
try {
  const modelDir = join(dir, 'model');
  const adapter = await writeWideModel(modelDir, Number(values.coordinates));
  const { size } = adapterLayout(adapter);
  const data = join(dir, 'data.jsonl');
  const line = (i: number): string =>
    `${JSON.stringify({ text: `Line ${i} of ${i % 7} words.` })}\n`;
  writeFileSync(data, Array.from({ length: 400 }, (_, i) => line(i)).join(''));
  let plan: MemoryPlan | null = null;
  const host = await TrainerHost.open({
    ...{ modelDir, dataFiles: [data], adapter },
    training: { ...testRun().manifest.training, batchSize: 2, sequenceLength: 32 },
    microBatch: 1,
    run: { epochsMax: 8, stepsRef: 2 },
    ...{ device: 'cpu', threads: 1, weights: 'fp32', memory: 'normal', cacheDir: dir },
    heldOutShare: 0.1,
    dataSeed: new Uint8Array(32),
    logger: { debug: ignore, info: ignore, warn: console.error, error: console.error },
    onPlan: (one) => (plan = one),
  });
  const pid = host.pid ?? 0;
  const arrays = (bytes: number): string => (bytes / (4 * size)).toFixed(2);
  const peaks = { child: 0, parent: 0 };
  const look = (): void => {
    peaks.child = Math.max(peaks.child, memoryOf(pid));
    peaks.parent = Math.max(peaks.parent, memoryOf(process.pid));
  };
  const timer = setInterval(look, 20);
  const opened = memoryOf(pid);
  const before = memoryOf(process.pid);
  console.log(
    `${size} coordinates; an array of them: ${((4 * size) / 1e6).toFixed(0)} MB; plan`,
    plan,
  );
  console.log(
    '| phase | seconds | training s | child now | child most | parent now | parent most |',
  );
  console.log('|---|---|---|---|---|---|---|');
  const phase = async (name: string, work: () => Promise<number>): Promise<void> => {
    peaks.child = 0;
    peaks.parent = 0;
    look();
    const start = performance.now();
    const trained = await work();
    const seconds = (performance.now() - start) / 1000;
    look();
    const figures = [memoryOf(pid) - opened, peaks.child - opened].map(arrays);
    const own = [memoryOf(process.pid) - before, peaks.parent - before].map(arrays);
    console.log(
      `| ${name} | ${seconds.toFixed(2)} | ${trained.toFixed(2)} | ${[...figures, ...own].join(' | ')} |`,
    );
  };
  try {
    const theta = initialAdapter(adapter);
    let optimiser: TrainJob['optimiser'] = null;
    for (let epoch = 0; epoch < Number(values.epochs); epoch++) {
      await phase(`train ${epoch}`, async () => {
        const job = { epoch, theta, optimiser, steps: 2, deadlineMs: Number.MAX_SAFE_INTEGER };
        optimiser = null;
        const result = await host.train(job, ignore, never);
        optimiser = result.optimiser;
        return result.seconds;
      });
      await phase(`evaluate ${epoch}`, async () => {
        await host.evaluate(theta, never);
        return 0;
      });
    }
  } finally {
    clearInterval(timer);
    await host.close();
  }
} finally {
  rmSync(dir, { recursive: true, force: true });
}
