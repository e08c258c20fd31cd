/** One child process that trains: forked, asked, and ended by its pid. It is never restarted here. */
import { fork, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { isOutOfMemory } from '../engine/errors.js';
import { UserError } from '../errors.js';
import { TrainerDiedError, type Logger } from '../interfaces.js';
import { outOfMemoryKills } from './free-memory.js';
import {
  CALLS,
  PENDING_CALLS_MAX,
  replySchema,
  type CallName,
  type CallParams,
  type CallProgress,
  type CallResult,
  type Failure,
  type Request,
} from './messages.js';

/**
 * A call without a word from the child for this long has hung, and the child is killed: a single step
 * of a large model on few cores takes minutes, half an hour is none.
 */
export const SILENCE_MS_MAX = 30 * 60_000;

/**
 * After an abort the call rejects at the latest now, even where a long step still runs: with
 * CLOSE_GRACE_MS short enough to leave the network and release the directory within 4 seconds of Ctrl-C.
 */
export const ABORT_GRACE_MS = 2000;

/** From SIGTERM to SIGKILL; a step under way is not waited for, its result would count nothing. */
const CLOSE_GRACE_MS = 1000;

/**
 * glibc gives a freed block back to the system where it was mapped by itself, as blocks of this size and more are; it would
 * raise the bound to the size of those that it sees freed. So weights that 8-bit codes were made from are gone.
 */
const GIVING_BACK = { MALLOC_MMAP_THRESHOLD_: String(128 * 1024) } as const;

/** Characters of one line of the child's stderr in the log. */
const STDERR_LINE_MAX = 500;

/** The environment of a process that trains on `device`, as it must be before the process starts. */
export function trainingEnvironment(device: string): NodeJS.ProcessEnv {
  // TensorFlow allocates each value anew, for which mapping it would be slow.
  return device === 'tfjs' ? process.env : { ...GIVING_BACK, ...process.env };
}

/** Thrown when a call failed inside the training process in a way that no user caused. */
export class TrainingProcessError extends Error {
  override readonly name = 'TrainingProcessError';
}

/** Thrown when a call failed inside the training process because no memory was left; it must be restarted. */
export class TrainingMemoryError extends TrainingProcessError {}

/** Why a process is gone. */
export interface ProcessEnd {
  /** In words that follow "the training process". */
  reason: string;
  /** Whether it was for want of memory. */
  isOutOfMemory: boolean;
}

interface PendingCall {
  onProgress: (progress: unknown) => void;
  onResult: (result: unknown) => void;
  reject: (error: Error) => void;
  /** Restarts the wait for SILENCE_MS_MAX. */
  heard: () => void;
}

export class TrainingProcess {
  /** Resolves once the child is gone; never rejects. */
  readonly ended: Promise<ProcessEnd>;
  readonly #child: ChildProcess;
  readonly #pending = new Map<number, PendingCall>();
  #reason: string | null = null;
  #nextId = 1;
  /** Kills for want of memory on this machine before the child was started; null where nobody counts. */
  readonly #killsBefore = outOfMemoryKills();
  /** Whether the last words of the child were of memory: native code and V8 abort with them. */
  #saidOutOfMemory = false;
  #isEndedHere = false;

  private constructor(child: ChildProcess, logger: Logger) {
    this.#child = child;
    this.ended = new Promise((resolve) => {
      const end = (reason: string, isOutOfMemory = false): void => {
        this.#reason ??= reason;
        for (const call of [...this.#pending.values()]) call.reject(died(this.#reason));
        resolve({ reason: this.#reason, isOutOfMemory });
      };
      // Unlike 'exit' it comes after the last line of stderr.
      child.once('close', (code: number | null, signal: NodeJS.Signals | null) => {
        const isOutOfMemory = this.#wasOutOfMemory(signal);
        end(exitInWords(code, signal, isOutOfMemory), isOutOfMemory);
      });
      // Also emitted for a failed send or kill of a running child, which 'exit' follows in its time.
      child.on('error', (error) => {
        if (child.pid === undefined) end(`could not be started (${error.message})`);
      });
    });
    child.on('message', (message) => this.#onMessage(message));
    if (child.stderr !== null) {
      createInterface({ input: child.stderr }).on('line', (line) => {
        this.#saidOutOfMemory ||= isOutOfMemory(line);
        logger.debug({ line: line.slice(0, STDERR_LINE_MAX) }, 'training process');
      });
    }
  }

  /** Starts worker.ts, which lies beside this file, with this process's loader flags, to compute on `device`. */
  static fork(logger: Logger, device: string): TrainingProcess {
    const worker = fileURLToPath(import.meta.url).replace(/training-process(?=\.[jt]s$)/, 'worker');
    const child = fork(worker, [], {
      serialization: 'advanced',
      execArgv: loaderFlags(process.execArgv),
      env: trainingEnvironment(device),
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    return new TrainingProcess(child, logger);
  }

  /** Null when the child could not be started. */
  get pid(): number | null {
    return this.#child.pid ?? null;
  }

  /**
   * Rejects with UserError as thrown in the child, with TrainerDiedError when
   * it dies, after `silenceMsMax` without a word for instance, with `signal.reason` soon after an abort (ABORT_GRACE_MS at most), RangeError for too many calls, else TrainingProcessError.
   */
  async call<K extends CallName>(
    name: K,
    params: CallParams<K>,
    onProgress: (progress: CallProgress<K>) => void,
    signal: AbortSignal,
    silenceMsMax = SILENCE_MS_MAX,
  ): Promise<CallResult<K>> {
    signal.throwIfAborted();
    if (this.#reason !== null) throw died(this.#reason);
    if (this.#pending.size >= PENDING_CALLS_MAX) {
      throw new RangeError(
        `${this.#pending.size} calls wait for the training process, the most that may: wait for one to end`,
      );
    }
    const { progress, result } = CALLS[name];
    const id = this.#nextId++;
    const request = { kind: 'call', id, call: name, params } as const;
    const told = (value: unknown): void => onProgress(progress.parse(value) as CallProgress<K>);
    const reply = await this.#exchange(request, signal, told, silenceMsMax);
    return result.parse(reply) as CallResult<K>;
  }

  /** Ends the child and resolves when it is gone; pending calls reject with TrainerDiedError. */
  async close(): Promise<void> {
    this.#isEndedHere = true;
    this.#child.kill('SIGTERM');
    const killer = setTimeout(() => this.#kill(), CLOSE_GRACE_MS);
    await this.ended;
    clearTimeout(killer);
  }

  #kill(): void {
    this.#isEndedHere = true;
    this.#child.kill('SIGKILL');
  }

  /**
   * A SIGKILL by hand looks like that of the kernel's out-of-memory killer, but the kernel counts its own.
   * Where nobody counts, a kill from outside is taken for one: a smaller batch is no great loss.
   */
  #wasOutOfMemory(signal: NodeJS.Signals | null): boolean {
    if (this.#isEndedHere) return false;
    if (signal !== 'SIGKILL') return this.#saidOutOfMemory;
    const kills = outOfMemoryKills();
    return kills === null || this.#killsBefore === null || kills > this.#killsBefore;
  }

  #exchange(
    request: Request,
    signal: AbortSignal,
    onProgress: (progress: unknown) => void,
    silenceMsMax: number,
  ): Promise<unknown> {
    const { id } = request;
    return new Promise((resolve, reject) => {
      let grace: NodeJS.Timeout | undefined;
      const onAbort = (): void => {
        this.#send({ kind: 'abort', id });
        grace = setTimeout(() => settle(() => reject(reasonOf(signal))), ABORT_GRACE_MS);
      };
      const silence = setTimeout(() => this.#kill(), silenceMsMax);
      const settle = (outcome: () => void): void => {
        this.#pending.delete(id);
        signal.removeEventListener('abort', onAbort);
        clearTimeout(grace);
        clearTimeout(silence);
        outcome();
      };
      this.#pending.set(id, {
        onProgress,
        onResult: (result) => settle(() => resolve(result)),
        reject: (error) => settle(() => reject(signal.aborted ? reasonOf(signal) : error)),
        heard: () => silence.refresh(),
      });
      signal.addEventListener('abort', onAbort, { once: true });
      this.#send(request);
    });
  }

  #send(request: Request): void {
    // A failed send means that the child is going: 'exit' follows and rejects what is pending.
    if (this.#child.connected) this.#child.send(request, () => undefined);
  }

  #onMessage(message: unknown): void {
    const parsed = replySchema.safeParse(message);
    if (!parsed.success) {
      this.#reason ??= 'sent a message that this version does not know, and was ended';
      this.#kill();
      return;
    }
    const reply = parsed.data;
    const call = this.#pending.get(reply.id);
    // The rest of a call that was given up after ABORT_GRACE_MS.
    if (call === undefined) return;
    for (const waiting of this.#pending.values()) waiting.heard();
    if (reply.kind === 'result') call.onResult(reply.result);
    else if (reply.kind === 'failed') call.reject(errorOf(reply.failure));
    else this.#onProgress(call, reply.progress);
  }

  /** A progress callback that throws fails its own call, not the process that listens. */
  #onProgress(call: PendingCall, progress: unknown): void {
    try {
      call.onProgress(progress);
    } catch (error) {
      call.reject(error instanceof Error ? error : new TrainingProcessError(String(error)));
    }
  }
}

function died(reason: string): TrainerDiedError {
  return new TrainerDiedError(`The training process ${reason}.`);
}

/** What happened to a process that ended, e.g. "was killed (SIGKILL)". */
export function exitInWords(
  code: number | null,
  signal: NodeJS.Signals | null,
  isOutOfMemory: boolean,
): string {
  if (isOutOfMemory) return `ended (${signal ?? `exit code ${code}`}) because no memory was left`;
  if (signal === 'SIGKILL') return 'was killed (SIGKILL)';
  if (signal !== null) return `ended by signal ${signal}`;
  return `ended with exit code ${code ?? 'unknown'}`;
}

function errorOf(failure: Failure): Error {
  switch (failure.type) {
    case 'user':
      return new UserError(failure.message, failure.exitCode);
    case 'aborted':
      return new TrainingProcessError('The training process gave up a call that was not aborted.');
    case 'memory':
      return new TrainingMemoryError(
        `The training process has no memory left: ${failure.message}.`,
      );
    case 'internal':
      return new TrainingProcessError(`The training process failed: ${failure.message}.`);
  }
}

function reasonOf(signal: AbortSignal): Error {
  const reason: unknown = signal.reason;
  return reason instanceof Error ? reason : new DOMException(String(reason), 'AbortError');
}

/** Flags that load code (`--import tsx` and the like); not those of a debugger or a test runner. */
export function loaderFlags(execArgv: readonly string[]): string[] {
  const flags: string[] = [];
  for (const [i, flag] of execArgv.entries()) {
    const name = flag.split('=')[0] ?? '';
    if (!['--import', '--require', '-r', '--loader', '--conditions', '-C'].includes(name)) continue;
    flags.push(flag);
    const value = execArgv[i + 1];
    if (!flag.includes('=') && value !== undefined) flags.push(value);
  }
  return flags;
}
