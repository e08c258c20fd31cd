/**
 * Several copies of one graph that compute at the same time, each in a thread of its own (data parallelism): two threads that
 * work on half of a batch each are faster than two that share every operation, and wait for each other after it.
 * The price is a copy of the weights for each. Numbers below 1e-38 are rounded to zero in those threads alone.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { ExecutorError, OutOfMemoryError } from './errors.js';
import type { CompiledGraph, Feeds, RunOptions, TensorData } from './executor.js';
import { checkFeeds, checkPlaces, NO_BRIEF_RUN, placed } from './feeds.js';
import { reason, type OrtModel } from './ort-graph.js';

/** What a replica is asked. */
export interface ReplicaRun {
  readonly feeds: Feeds;
  readonly brief: boolean;
}

/** What it answers, to its opening as well. */
export type ReplicaReply =
  | { readonly results: Record<string, TensorData> }
  | { readonly error: string; readonly isOutOfMemory: boolean };

/** As openOrtGraph, `count` times. */
export async function openReplicas(model: OrtModel, count: number): Promise<CompiledGraph> {
  const replicas = Array.from({ length: count }, () => new Replica(model));
  const opened = await Promise.allSettled(replicas.map((replica) => replica.answer()));
  const failed = opened.find(({ status }) => status === 'rejected');
  if (failed === undefined) return new ReplicatedGraph(model, replicas);
  await Promise.all(replicas.map((replica) => replica.close()));
  throw (failed as PromiseRejectedResult).reason;
}

class ReplicatedGraph implements CompiledGraph {
  readonly inputs: OrtModel['inputs'];
  private readonly idle: Replica[];
  private isDisposed = false;

  constructor(
    private readonly model: OrtModel,
    private readonly replicas: readonly Replica[],
  ) {
    this.inputs = model.inputs;
    this.idle = [...replicas];
  }

  async run(
    feeds: Feeds,
    { brief = false, into = {} }: RunOptions = {},
  ): Promise<Record<string, TensorData>> {
    if (this.isDisposed) throw new ExecutorError('the graph was disposed');
    const outputs = brief ? this.model.outputs.brief : this.model.outputs.full;
    if (outputs === null) throw new ExecutorError(NO_BRIEF_RUN);
    checkFeeds(this.inputs, feeds);
    checkPlaces(outputs, into);
    const replica = this.idle.pop();
    if (replica === undefined) {
      throw new ExecutorError(`more than ${this.replicas.length} runs at the same time`);
    }
    try {
      return placed(await replica.run({ feeds, brief }), into);
    } finally {
      this.idle.push(replica);
    }
  }

  async dispose(): Promise<void> {
    if (this.isDisposed) return;
    this.isDisposed = true;
    await Promise.all(this.replicas.map((replica) => replica.close()));
  }
}

/** One thread, asked one thing at a time. */
class Replica {
  private readonly worker: Worker;
  /** Settles with the last answer. */
  private answered: Promise<unknown> = Promise.resolve();
  /** Rejects when the thread has ended. */
  private readonly end: Promise<never>;

  constructor(model: OrtModel) {
    this.worker = new Worker(new URL('./ort-replica.js', import.meta.url), { workerData: model });
    this.end = this.ended();
    this.end.catch(() => undefined);
  }

  async run({ feeds, brief }: ReplicaRun): Promise<Record<string, TensorData>> {
    // A view would be sent with all that it is a view of.
    const own = Object.entries(feeds).map(([name, data]) => [name, data.slice()] as const);
    const request: ReplicaRun = { feeds: Object.fromEntries(own), brief };
    this.worker.postMessage(
      request,
      own.map(([, { buffer }]) => buffer),
    );
    const answer = this.answer();
    this.answered = answer;
    return answer;
  }

  /** The answer to what it was asked last, for which the process stays alive. */
  async answer(): Promise<Record<string, TensorData>> {
    this.worker.ref();
    try {
      const message = new Promise<ReplicaReply>((resolve) => this.worker.once('message', resolve));
      const reply = await Promise.race([message, this.end]);
      if ('results' in reply) return reply.results;
      throw new (reply.isOutOfMemory ? OutOfMemoryError : ExecutorError)(reply.error);
    } finally {
      this.worker.unref();
    }
  }

  /** A thread that is stopped while native code runs in it may abort the process. */
  async close(): Promise<void> {
    await this.answered.catch(() => undefined);
    await this.worker.terminate();
  }

  private async ended(): Promise<never> {
    let words: string;
    try {
      const [code] = (await once(this.worker, 'exit')) as [number];
      words = `code ${code}`;
    } catch (error) {
      words = reason(error);
    }
    throw new ExecutorError(`a thread that computes has ended: ${words}`);
  }
}
