/**
 * Loaded ahead of training and probing processes by device-lost.test.ts: a GPU that can be pulled out. Every
 * device but the CPU is computed by the CPU, is there as long as the file FRAGILE_GPU is, and fails as ONNX
 * Runtime does without it; while the file says "flaky" or "full" it fails in training only, while it says "tight" it has no
 * room for two sequences, and while it says "narrow"
 * or "brittle" it has no room for a second graph, and in the second case is lost when one is tried. The CPU itself is slow.
 */
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { InferenceSession } from 'onnxruntime-node';

/** More than a step of the trial takes on any machine that runs tests. */
const CPU_DELAY_MS = 700;

const file = process.env['FRAGILE_GPU'] ?? '';
const isProbe = /device-probe\.[jt]s$/.test(process.argv[1] ?? '');
/** Graphs on the GPU in this process, and whether it was lost. */
let graphs = 0;
let isLost = false;
const create = InferenceSession.create.bind(InferenceSession) as (
  model: Uint8Array,
  options: InferenceSession.SessionOptions,
) => Promise<InferenceSession>;

async function open(
  model: Uint8Array,
  options: InferenceSession.SessionOptions,
): Promise<InferenceSession> {
  const isGpu = options.executionProviders?.[0] !== 'cpu';
  if (isGpu && !existsSync(file)) {
    throw new Error('Failed to get a WebGPU adapter: No supported adapters');
  }
  const state = isGpu && !isProbe ? readFileSync(file, 'utf8') : 'steady';
  if (isGpu && graphs++ > 0 && (state === 'narrow' || state === 'brittle')) {
    isLost = state === 'brittle';
    throw new Error('failed to allocate memory');
  }
  const session = await create(model, { ...options, executionProviders: ['cpu'] });
  const run = session.run.bind(session);
  session.run = async (feeds: InferenceSession.FeedsType) => {
    if (!isGpu) await delay(CPU_DELAY_MS);
    else {
      const state = existsSync(file) ? readFileSync(file, 'utf8') : 'gone';
      const isLarge = Object.values(feeds).some(({ dims: [rows = 1, ...rest] }) => {
        return rest.length === 1 && rows > 1;
      });
      if (!isProbe && (state === 'full' || (state === 'tight' && isLarge))) {
        throw new Error('failed to allocate memory');
      }
      if (isLost || state === 'gone' || (state === 'flaky' && !isProbe)) {
        throw new Error('the GPU device was lost');
      }
    }
    return run(feeds);
  };
  return session;
}

Object.assign(InferenceSession, { create: open });
