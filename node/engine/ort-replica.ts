/** A thread with one replica of a graph: see ort-replicas.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { OutOfMemoryError } from './errors.js';
import { openOrtGraph, reason, type OrtModel } from './ort-graph.js';
import type { ReplicaReply, ReplicaRun } from './ort-replicas.js';

const port = parentPort!;
const answer = async (work: () => Promise<ReplicaReply>): Promise<void> => {
  try {
    const reply = await work();
    const results = 'results' in reply ? Object.values(reply.results) : [];
    port.postMessage(reply, [...new Set(results.map(({ buffer }) => buffer as ArrayBuffer))]);
  } catch (error) {
    const reply = { error: reason(error), isOutOfMemory: error instanceof OutOfMemoryError };
    port.postMessage(reply satisfies ReplicaReply);
  }
};

const opening = openOrtGraph(workerData as OrtModel);
await answer(async () => {
  await opening;
  return { results: {} };
});
port.on('message', ({ feeds, brief }: ReplicaRun) => {
  void answer(async () => ({ results: await (await opening).run(feeds, { brief }) }));
});
