/** Fuzzes one target in a thread, and notices when that thread hangs, runs out of memory or dies. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { sha256, toHex } from '../../protocol/bytes.js';
import { ROOT } from '../unit/model/fixtures.js';
import type { FuzzFigures, FuzzLimits } from './fuzzer.js';
import { DECODE_MS_MAX, INPUT_BYTES_MAX } from './oracle.js';
import { SHARED_HEAD_BYTES, type FuzzJob, type FuzzNews } from './worker.js';

/** Inputs that broke the oracle once, which the unit tests replay. */
export const REGRESSIONS = path.join(ROOT, 'test/fuzz/regressions');

/** A decode that takes so much longer than it may is stopped, also where this machine is slow. */
const HANG_MS = 20 * DECODE_MS_MAX;

/** Heap of the thread in MiB. */
const HEAP_MB_MAX = 1_024;

export interface FuzzReport {
  figures: FuzzFigures;
  /** What was found, and where its input is kept; null when nothing was. */
  finding: { message: string; file: string } | null;
}

/** Resolves when the limits are reached, or with the first finding. `onFigures` tells how far it is. */
export async function watchFuzzing(
  name: string,
  limits: FuzzLimits,
  onFigures: (figures: FuzzFigures) => void,
): Promise<FuzzReport> {
  const shared = new SharedArrayBuffer(SHARED_HEAD_BYTES + INPUT_BYTES_MAX);
  const head = new Uint32Array(shared, 0, 2);
  const current = (): Uint8Array =>
    Uint8Array.from(new Uint8Array(shared, SHARED_HEAD_BYTES, head[1]));
  const worker = new Worker(new URL('./worker.js', import.meta.url), {
    workerData: { name, limits, shared } satisfies FuzzJob,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MB_MAX },
  });
  let figures: FuzzFigures = { executions: 0, seconds: 0, functions: 0, characters: 0, corpus: 0 };
  let executed = -1;
  const report = await new Promise<FuzzReport>((resolve) => {
    const found = (message: string, input: Uint8Array): void => {
      resolve({ figures, finding: { message, file: keep(name, input) } });
    };
    const hangs = setInterval(() => {
      const now = Atomics.load(head, 0);
      if (now === executed) found(`a decode that is not done after ${HANG_MS} ms`, current());
      executed = now;
    }, HANG_MS);
    worker.on('message', (news: FuzzNews) => {
      ({ figures } = news);
      if (news.kind === 'figures') onFigures(figures);
      else clearInterval(hangs);
      if (news.kind === 'finding') found(news.message, news.input);
      if (news.kind === 'done') resolve({ figures, finding: null });
    });
    worker.on('error', (error) => found(`${error.name}: ${error.message}`, current()));
  });
  await worker.terminate();
  return report;
}

function keep(name: string, input: Uint8Array): string {
  const dir = path.join(REGRESSIONS, name);
  mkdirSync(dir, { recursive: true });
  const file = path.join(dir, toHex(sha256(input)).slice(0, 16));
  writeFileSync(file, input);
  return file;
}
