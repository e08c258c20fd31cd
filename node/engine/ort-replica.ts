/** A thread with one replica of a graph: see ort-replicas.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { OutOfMemoryError } from './errors.js';
import { openOrtGraph, reason, type OrtModel } from './ort-graph.js';
import type { ReplicaReply, ReplicaRun } from './ort-replicas.js';

const port = parentPort!;
const answer = async (work: () => Promise<ReplicaReply>): Promise<void> => {
  try {
    port.postMessage(await work());
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
