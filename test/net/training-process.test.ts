/** The training process for real: a forked child, killed, spoilt and orphaned. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import {
  MomentsLostError,
  TrainerDiedError,
  type Logger,
  type TrainJob,
  type TrainResult,
} from '../../node/interfaces.js';
import { TrainerHost, type TrainerHostOptions } from '../../node/train/host.js';
import type { MemoryPlan } from '../../node/train/memory-plan.js';
import type { SessionOptions } from '../../node/train/messages.js';
import { HeldMoments } from '../../node/moments.js';
import { TrainingSession } from '../../node/train/session.js';
import type { LocalJob } from '../../node/train/trainer.js';
import { gatherMoments } from '../support/moments.js';
import { exitInWords } from '../../node/train/training-process.js';
import { adapterSha256, initialAdapter } from '../../protocol/adapter.js';
import { ROOT, sessionOptions } from '../unit/train/tiny-model.js';

const MODEL = join(ROOT, 'models', 'tiny-base');
const WAIT_MS_MAX = 20_000;
const never = new AbortController().signal;
const ignore = (): void => undefined;
/** A parent process of this test loads what this file is made of. */
const loaderFlags = import.meta.url.endsWith('.ts') ? ['--import', 'tsx'] : [];

let dir: string;
let options: TrainerHostOptions & SessionOptions;
const lines: { level: string; message: string }[] = [];
const logger = Object.fromEntries(
  ['debug', 'info', 'warn', 'error'].map((level) => [
    level,
    (_fields: unknown, message: string) => lines.push({ level, message }),
  ]),
) as unknown as Logger;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'murmurate-training-'));
  const data = join(dir, 'data.jsonl');
  const examples = Array.from({ length: 60 }, (_, i) => ({
    prompt: `Shelf ${i} holds`,
    completion: ` bolts of size ${i % 9}.`,
  }));
  await writeFile(data, examples.map((example) => JSON.stringify(example) + '\n').join(''));
  const training = { sequenceLength: 32, batchSize: 2 };
  options = { ...(await sessionOptions(MODEL, data, training)), logger };
});
after(() => rm(dir, { recursive: true }));

function job(changes: Partial<TrainJob> = {}): TrainJob {
  const deadlineMs = Number.MAX_SAFE_INTEGER;
  const theta = initialAdapter(options.adapter);
  return { epoch: 0, theta, optimiser: null, steps: 4, deadlineMs, ...changes };
}

function localJob(): LocalJob {
  return { ...job(), optimiser: null };
}

function isAlive(pid: number | null): boolean {
  try {
    return pid !== null && process.kill(pid, 0);
  } catch {
    return false;
  }
}

async function waitFor(what: string, condition: () => boolean): Promise<void> {
  const endMs = Date.now() + WAIT_MS_MAX;
  while (!condition()) {
    assert.ok(Date.now() < endMs, `waited ${WAIT_MS_MAX} ms for ${what}`);
    await delay(20);
  }
}

/** The address space of the process may grow by no more than this, so that a real allocation fails. */
const LITTLE_BYTES = 16 * 2 ** 20;

async function leaveLittleMemory(pid: number | null): Promise<void> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const bytes = 1024 * Number(/^VmSize:\s+(\d+) kB$/m.exec(status)?.[1]) + LITTLE_BYTES;
  const [code] = (await once(
    spawn('prlimit', ['--pid', String(pid), `--as=${bytes}`], { stdio: 'inherit' }),
    'close',
  )) as [number];
  assert.equal(code, 0);
}

/** Where memory can be limited from outside, and the kernel counts whom it killed. */
const isLinux = { skip: process.platform === 'linux' ? false : 'needs prlimit and /proc' };

/** Opens a host, runs `use`, and closes it whatever happened. */
async function withHost(use: (host: TrainerHost) => Promise<void>): Promise<void> {
  const host = await TrainerHost.open(options);
  try {
    await use(host);
  } finally {
    await host.close();
  }
}

/** Starts a job that never ends by itself; resolves once it takes steps. */
async function startEndless(
  host: TrainerHost,
  signal: AbortSignal = never,
): Promise<{ training: Promise<TrainResult> }> {
  const { promise: stepping, resolve } = deferred();
  const training = host.train(job({ steps: 1_000_000 }), () => resolve(), signal);
  training.catch(ignore);
  await Promise.race([stepping, training]);
  // Wrapped, for an async function would wait for the promise that it returns.
  return { training };
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = ignore;
  const promise = new Promise<void>((settle) => (resolve = settle));
  return { promise, resolve };
}

describe('TrainerHost', () => {
  it('takes no NaN or infinity from a disk into training', async () => {
    await withHost(async (host) => {
      const theta = initialAdapter(options.adapter);
      theta[2] = NaN;
      await assert.rejects(host.train(job({ theta }), ignore, never), {
        name: 'UserError',
        message: /the run's adapter holds NaN \(value 3 of/,
      });
      const fresh = await host.train(job(), ignore, never);
      const { v } = await gatherMoments(fresh.optimiser);
      const m = new Float32Array(v.length);
      m[4] = Infinity;
      const optimiser = new HeldMoments({ step: 7, m, v });
      lines.length = 0;
      const again = await host.train(job({ optimiser }), ignore, never);
      assert.equal(adapterSha256(again.theta), adapterSha256(fresh.theta), 'as from a new one');
      assert.match(lines.map(({ message }) => message).join(), /optimiser .* is dropped/);
    });
  });

  it('trains and measures in a child exactly as in this process', async () => {
    await withHost(async (host) => {
      const session = await TrainingSession.open({ ...options, device: 'cpu' });
      assert.notEqual(host.pid, process.pid);
      assert.equal(host.device, session.device);
      assert.deepEqual(host.stats, session.stats);
      assert.equal(host.stats.examples + host.stats.heldOutExamples, 60);
      const steps: number[] = [];
      const here = await session.train(localJob(), ignore, never);
      const there = await host.train(job(), ({ step }) => steps.push(step), never);
      assert.deepEqual(steps, [1, 2, 3, 4]);
      assert.equal(adapterSha256(there.theta), adapterSha256(here.theta));
      const { optimiser } = there;
      assert.deepEqual(await gatherMoments(optimiser), here.optimiser);
      const next = { epoch: 1, theta: here.theta };
      const nextHere = await session.train(
        { ...localJob(), ...next, optimiser: here.optimiser },
        ignore,
        never,
      );
      const into = new Float32Array(here.theta.length);
      const nextThere = await host.train(job({ ...next, optimiser, into }), ignore, never);
      assert.equal(nextThere.theta, into);
      assert.equal(optimiser.isThere, false, 'the next steps changed them');
      await assert.rejects(gatherMoments(optimiser), MomentsLostError);
      assert.equal(adapterSha256(nextThere.theta), adapterSha256(nextHere.theta));
      assert.deepEqual(await gatherMoments(nextThere.optimiser), nextHere.optimiser);
      const given = new HeldMoments(here.optimiser);
      const fromHere = await host.train(job({ ...next, optimiser: given }), ignore, never);
      assert.equal(adapterSha256(fromHere.theta), adapterSha256(nextHere.theta));
      const loss = await host.evaluate(nextThere.theta, never);
      assert.equal(loss, await session.evaluate(nextHere.theta, never));
      assert.ok(loss !== null && loss > 0 && loss < 12);
      assert.ok((await host.measureStepMs()) > 0);
      const domains = [{ name: 'shelves', files: options.dataFiles }];
      const comparison = { theta: nextThere.theta, domains, stepsByEpoch: [4, 4] };
      const [row] = await host.compare(comparison, ignore, never);
      // Alone and in a swarm of one are the same thing.
      assert.deepEqual([row?.domain, row?.swarm, row?.alone], ['shelves', loss, loss]);
      assert.ok(row?.base && row.base > loss);
    });
  });

  it('says that its process was killed in mid-training, restarts it, and goes on', async () => {
    await withHost(async (host) => {
      const before = host.pid;
      const { training } = await startEndless(host);
      process.kill(before ?? NaN, 'SIGKILL');
      await assert.rejects(training, (error) => {
        assert.ok(error instanceof TrainerDiedError);
        assert.equal(error.message, 'The training process was killed (SIGKILL).');
        return true;
      });
      const result = await host.train(job(), ignore, never);
      assert.equal(result.steps, 4);
      assert.notEqual(host.pid, before);
      assert.ok(lines.some(({ level, message }) => level === 'warn' && /SIGKILL/.test(message)));
    });
  });

  it('starts a process once more that was killed while it opened the model', isLinux, async () => {
    let kills = 0;
    const killChild = async (): Promise<void> => {
      const children = await readFile(`/proc/self/task/${process.pid}/children`, 'utf8');
      for (const pid of children.trim().split(' ')) process.kill(Number(pid), 'SIGKILL');
      kills++;
    };
    const host = await TrainerHost.open({ ...options, onPlan: () => void killChild() });
    try {
      assert.equal(kills, 1);
      assert.equal((await host.train(job(), ignore, never)).steps, 4);
      assert.ok(lines.some(({ message }) => /is started once more/.test(message)));
    } finally {
      await host.close();
    }
  });

  it('restarts a process that died while nobody asked it', async () => {
    await withHost(async (host) => {
      const before = host.pid;
      process.kill(before ?? NaN, 'SIGKILL');
      await waitFor('another process', () => host.pid !== before);
      assert.ok((await host.evaluate(initialAdapter(options.adapter), never)) !== null);
    });
  });

  it('passes on what a user has to mend, at the start and after a restart', async () => {
    const missing = { ...options, modelDir: join(dir, 'no-model') };
    await assert.rejects(TrainerHost.open(missing), { name: 'UserError', message: /no-model/ });
    const broken = join(dir, 'broken.jsonl');
    await writeFile(broken, '{"text": "fine"}\n{"text": \n');
    await assert.rejects(TrainerHost.open({ ...options, dataFiles: [broken] }), {
      name: 'UserError',
      message: /broken\.jsonl.*line 2/,
    });

    const [data = ''] = options.dataFiles;
    await withHost(async (host) => {
      await rename(data, `${data}.away`);
      process.kill(host.pid ?? NaN, 'SIGKILL');
      try {
        await waitFor('the failed restart', () => lines.some(({ level }) => level === 'error'));
        await assert.rejects(host.train(job(), ignore, never), { name: 'UserError' });
      } finally {
        await rename(`${data}.away`, data);
      }
    });
  });

  it('stops after the current step when aborted, and takes the next call', async () => {
    await withHost(async (host) => {
      const abort = new AbortController();
      const { training } = await startEndless(host, abort.signal);
      const reason = new DOMException('leaving', 'AbortError');
      abort.abort(reason);
      await assert.rejects(training, reason);
      assert.equal((await host.train(job(), ignore, never)).steps, 4);
      await assert.rejects(host.evaluate(new Float32Array(3), AbortSignal.abort(reason)), reason);
    });
  });

  it('halves the sequences at once when memory runs out, once, and says so', isLinux, async () => {
    const training = { ...options.training, sequenceLength: 512, batchSize: 9 };
    const plans: MemoryPlan[] = [];
    const onPlan = (plan: MemoryPlan): void => void plans.push(plan);
    const host = await TrainerHost.open({ ...options, training, microBatch: 9, onPlan });
    try {
      assert.deepEqual([plans[0]?.microBatch, host.attention], [9, []]);
      await leaveLittleMemory(host.pid);
      await assert.rejects(host.train(job({ steps: 1 }), ignore, never), {
        name: 'TrainerDiedError',
        message:
          /^The training process has no memory left: .*no memory for (\d+ more bytes|what it computes)\.$/,
      });
      assert.equal(host.attention.length, 1);
      assert.match(
        host.attention[0]!,
        /no memory left with 9 sequences .* now 4 go .*--micro-batch 4/,
      );
      const said = lines.findIndex(({ message }) => message === host.attention[0]);
      assert.ok(said >= 0);
      // The new process is there; it has not taken what a step needs yet, as it would have after a loss.
      await waitFor('the next process', () =>
        lines.slice(said).some(({ message }) => message === 'the training process runs again'),
      );
      await leaveLittleMemory(host.pid);
      const told = host.attention;
      await assert.rejects(host.train(job({ steps: 1 }), ignore, never), /has no memory left/);
      assert.deepEqual(host.attention.slice(0, 1), told, 'the second time it stays an error');
      assert.match(host.attention[1]!, /has no memory left.*close other programs/);
      assert.equal((await host.train(job({ steps: 1 }), ignore, never)).steps, 1);
      assert.deepEqual(host.attention, told);
      assert.equal(plans.length, 1, 'the plan is told once');
    } finally {
      await host.close();
    }
  });

  it('goes on in low memory where one sequence at a time has none left', isLinux, async () => {
    const training = { ...options.training, sequenceLength: 512, batchSize: 1 };
    const host = await TrainerHost.open({ ...options, training });
    try {
      await leaveLittleMemory(host.pid);
      await assert.rejects(host.train(job({ steps: 1 }), ignore, never), /has no memory left/);
      assert.equal((await host.train(job({ steps: 1 }), ignore, never)).steps, 1);
      assert.match(
        host.attention.join('\n'),
        /^The training .* one sequence .* --memory low[^\n]*$/,
      );
    } finally {
      await host.close();
    }
  });

  it('does not take a kill by hand for want of memory', isLinux, async () => {
    await withHost(async (host) => {
      const before = host.pid;
      process.kill(before ?? NaN, 'SIGKILL');
      await waitFor('another process', () => host.pid !== before);
      await host.train(job(), ignore, never);
      assert.deepEqual(host.attention, []);
    });
  });

  it('turns a fault inside the process into a restart', async () => {
    await withHost(async (host) => {
      const short = job({ theta: new Float32Array(3) });
      await assert.rejects(host.train(short, ignore, never), {
        name: 'TrainerDiedError',
        message: /has 3 coordinates/,
      });
      assert.equal((await host.train(job(), ignore, never)).steps, 4);
    });
  });

  it('leaves no process behind when closed, in mid-training or in a restart', async () => {
    const busy = await TrainerHost.open(options);
    const { training } = await startEndless(busy);
    const { pid } = busy;
    await busy.close();
    assert.ok(!isAlive(pid));
    await assert.rejects(training, {
      name: 'TrainerDiedError',
      message: 'The trainer was closed.',
    });
    await assert.rejects(busy.train(job(), ignore, never), /closed/);

    const restarting = await TrainerHost.open(options);
    const first = restarting.pid;
    process.kill(first ?? NaN, 'SIGKILL');
    await waitFor('the end', () => !isAlive(first));
    const waiting = assert.rejects(
      restarting.evaluate(new Float32Array(3), never),
      /closed|SIGKILL/,
    );
    await restarting.close();
    await waiting;
    assert.ok(!isAlive(restarting.pid));
  });

  it('ends a process that does not react any more', async () => {
    const host = await TrainerHost.open(options);
    const { pid } = host;
    process.kill(pid ?? NaN, 'SIGSTOP');
    await host.close();
    assert.ok(!isAlive(pid));
  });

  it('has a child that ends when its parent is killed', async () => {
    const script = join(dir, 'parent.mjs');
    const host = new URL('../../node/train/host.js', import.meta.url).href;
    const session = { ...options, logger: undefined };
    const encode = (value: unknown): string =>
      JSON.stringify(value, (_key, part: unknown) =>
        part instanceof Uint8Array ? { bytes: [...part] } : part,
      );
    await writeFile(
      script,
      `const { TrainerHost } = await import(${JSON.stringify(host)});
       const options = JSON.parse(${JSON.stringify(encode(session))}, (_key, part) =>
         Array.isArray(part?.bytes) ? Uint8Array.from(part.bytes) : part);
       const quiet = () => undefined;
       const logger = { debug: quiet, info: quiet, warn: quiet, error: quiet };
       const host = await TrainerHost.open({ ...options, logger });
       console.log(host.pid);`,
    );
    const parent = spawn(process.execPath, [...loaderFlags, script], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(createInterface({ input: parent.stdout }), 'line', {
      signal: AbortSignal.timeout(WAIT_MS_MAX),
    })) as [string];
    const child = Number(line);
    assert.ok(isAlive(child));
    parent.kill('SIGKILL');
    await waitFor('the orphan to end', () => !isAlive(child));
  });
});

describe('exitInWords', () => {
  it('names the signal or the exit code, and memory where that was the reason', () => {
    assert.equal(exitInWords(null, 'SIGKILL', false), 'was killed (SIGKILL)');
    assert.equal(exitInWords(null, 'SIGSEGV', false), 'ended by signal SIGSEGV');
    assert.equal(exitInWords(3, null, false), 'ended with exit code 3');
    assert.equal(exitInWords(null, 'SIGKILL', true), 'ended (SIGKILL) because no memory was left');
    assert.equal(exitInWords(134, null, true), 'ended (exit code 134) because no memory was left');
  });
});
