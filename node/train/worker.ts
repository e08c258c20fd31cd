/** Entry point of the training process: answers the calls of messages.ts, one at a time, in order. */
import { writeFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { isOutOfMemory, OutOfMemoryError } from '../engine/errors.js';
import { UserError } from '../errors.js';
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
let queue: Promise<void> = Promise.resolve();
const aborts = new Map<number, AbortController>();

const handlers: { [K in CallName]: Handler<K> } = {
  open: async (options, onProgress) => {
    session = await TrainingSession.open(options, onProgress, onProgress);
    const { device, weights, stats, privacy } = session;
    return { device, weights, stats, sampleRate: privacy?.sampleRate ?? null };
  },
  train: (job, onProgress, signal) => opened().train(job, onProgress, signal),
  evaluate: async ({ theta }, _onProgress, signal) => ({
    loss: await opened().evaluate(theta, signal),
    remark: opened().remark,
  }),
  measure: async (_params, _onProgress, signal) => ({
    stepMs: await opened().measureStepMs(signal),
  }),
  compare: async (params, onProgress, signal) => ({
    domains: await opened().compare(params, onProgress, signal),
  }),
  personal: async (params, onProgress, signal) => ({
    adapter: await opened().tunePersonal(params, onProgress, signal),
  }),
};

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
