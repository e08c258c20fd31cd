/** Entry point of the training process: answers the calls of messages.ts, one at a time, in order. */
import { writeFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { isOutOfMemory, OutOfMemoryError } from '../engine/errors.js';
import { UserError } from '../errors.js';
import type { OptimiserState } from '../interfaces.js';
import { adapterLayout } from '../../protocol/adapter.js';
import { AdapterArrays } from './adapter-arrays.js';
import {
  CALLS,
  requestSchema,
  type CallName,
  type CallParams,
  type CallProgress,
  type CallResult,
  type Failure,
  type Reply,
} from './messages.js';
import { TrainingSession } from './session.js';

type Handler<K extends CallName> = (
  params: CallParams<K>,
  onProgress: (progress: CallProgress<K>) => void,
  signal: AbortSignal,
) => Promise<CallResult<K>>;

let session: TrainingSession | null = null;
let arrays: AdapterArrays | null = null;
/** Steps of the moments that the last call of train left; null where there are none. */
let keptStep: number | null = null;
let queue: Promise<void> = Promise.resolve();
const aborts = new Map<number, AbortController>();

const handlers: { [K in CallName]: Handler<K> } = {
  open: async (options, onProgress, signal) => {
    session = await TrainingSession.open(options, { onProgress, signal });
    arrays = new AdapterArrays(adapterLayout(options.adapter).size);
    const { device, weights, stats, privacy } = session;
    return { device, weights, stats, sampleRate: privacy?.sampleRate ?? null };
  },
  write: async (piece) => {
    openedArrays().write(piece);
    return {};
  },
  read: async ({ array, start, length }) => ({
    values: openedArrays().read(array, start, length),
  }),
  train: async ({ moments, ...job }, onProgress, signal) => {
    const theta = openedArrays().take('theta');
    const optimiser = momentsOf(moments);
    // Until all steps are taken they are of no epoch.
    keptStep = null;
    const result = await opened().trainInPlace({ ...job, theta, optimiser }, onProgress, signal);
    const { steps, tokens, loss, seconds, skippedSteps } = result;
    keptStep = result.optimiser.step;
    return { step: keptStep, steps, tokens, loss, seconds, skippedSteps };
  },
  evaluate: async (_params, _onProgress, signal) => ({
    loss: await opened().evaluate(openedArrays().take('theta'), signal),
    remark: opened().remark,
  }),
  measure: async (_params, _onProgress, signal) => ({
    stepMs: await opened().measureStepMs(signal),
  }),
  compare: async (params, onProgress, signal) => ({
    domains: await opened().compare({ ...params, ...adaptersOf(params) }, onProgress, signal),
  }),
  personal: async (params, onProgress, signal) => {
    const asked = { ...params, ...adaptersOf(params) };
    const tuned = await opened().tunePersonal(asked, onProgress, signal);
    if (tuned === null) return { experts: null };
    const { continued, alone, single, ...experts } = tuned;
    openedArrays().blank('continued').set(continued);
    openedArrays().blank('alone').set(alone);
    openedArrays().blank('single').set(single);
    return { experts };
  },
};

/** The arrays that a job of training changes. */
function momentsOf(moments: CallParams<'train'>['moments']): OptimiserState {
  const held = openedArrays();
  switch (moments.from) {
    case 'zero':
      return { step: 0, m: held.blank('m').fill(0), v: held.blank('v').fill(0) };
    case 'written':
      return { step: moments.step, m: held.take('m'), v: held.take('v') };
    case 'kept':
      if (keptStep === null) throw new RangeError('the last call of train left no moments');
      return { step: keptStep, m: held.blank('m'), v: held.blank('v') };
  }
}

/** What was written for a comparison. */
function adaptersOf({ isTheta0Written }: CallParams<'personal'>): {
  theta: Float32Array;
  theta0: Float32Array | undefined;
} {
  const held = openedArrays();
  return {
    theta: held.take('theta'),
    theta0: isTheta0Written ? held.take('theta0') : undefined,
  };
}

function openedArrays(): AdapterArrays {
  if (arrays === null) throw new TypeError('the first call must be "open"');
  return arrays;
}

function opened(): TrainingSession {
  if (session === null) throw new TypeError('the first call must be "open"');
  return session;
}

async function answer(
  id: number,
  name: CallName,
  params: unknown,
  signal: AbortSignal,
): Promise<void> {
  try {
    signal.throwIfAborted();
    send({ kind: 'result', id, result: await handle(id, name, params, signal) });
  } catch (error) {
    send({ kind: 'failed', id, failure: signal.aborted ? { type: 'aborted' } : failureOf(error) });
  } finally {
    aborts.delete(id);
  }
}

async function handle<K extends CallName>(
  id: number,
  name: K,
  params: unknown,
  signal: AbortSignal,
): Promise<CallResult<K>> {
  const checked = CALLS[name].params.parse(params) as CallParams<K>;
  return handlers[name](checked, (progress) => send({ kind: 'progress', id, progress }), signal);
}

function failureOf(error: unknown): Failure {
  if (error instanceof UserError) {
    return { type: 'user', message: error.message, exitCode: error.exitCode };
  }
  const message = error instanceof Error ? error.message : String(error);
  const isMemory = error instanceof OutOfMemoryError || isOutOfMemory(message);
  return { type: isMemory ? 'memory' : 'internal', message };
}

function send(reply: Reply): void {
  // A failed send means that the parent is gone: 'disconnect' ends this process.
  process.send?.(reply, undefined, undefined, () => undefined);
}

/** Networking and the user's own work come first, and the kernel's choice in want of memory is this one. */
function stepBack(): void {
  try {
    setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
    if (process.platform === 'linux') writeFileSync('/proc/self/oom_score_adj', '500');
  } catch {
    // A container may forbid either; training works all the same.
  }
}

stepBack();
process.on('message', (message) => {
  const request = requestSchema.parse(message);
  if (request.kind === 'abort') {
    aborts.get(request.id)?.abort();
    return;
  }
  const abort = new AbortController();
  aborts.set(request.id, abort);
  queue = queue.then(() => answer(request.id, request.call, request.params, abort.signal));
});
// Not by exit: threads that compute in native code meanwhile would abort the process, with a core file.
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
// Ctrl-C reaches the whole group; the parent finishes the step and then ends this process.
process.on('SIGINT', () => undefined);
// An error's message may quote private text; its class and place are enough to find the fault.
process.on('uncaughtException', (error) => {
  const frames = (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line));
  process.stderr.write(`${error.name}\n${frames.join('\n')}\n`, () => process.exit(1));
});
