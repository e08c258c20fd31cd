/** The thread that fuzzes one target: it lays each input where the thread that watches it can see it. */
import { parentPort, workerData } from 'node:worker_threads';
import { Fuzzer, shrink, type FuzzFigures, type FuzzLimits } from './fuzzer.js';
import { TARGETS } from './targets.js';

export interface FuzzJob {
  name: string;
  limits: FuzzLimits;
  /** Two numbers (executions, bytes of the input) and the input. */
  shared: SharedArrayBuffer;
}

/** Bytes before the input. */
export const SHARED_HEAD_BYTES = 8;

export type FuzzNews =
  | { kind: 'figures' | 'done'; figures: FuzzFigures }
  | { kind: 'finding'; figures: FuzzFigures; message: string; input: Uint8Array };

// Decoders refuse most inputs, and a stack would cost more than that.
Error.stackTraceLimit = 0;

const port = parentPort;
if (port !== null) {
  const { name, limits, shared } = workerData as FuzzJob;
  const [head, place] = [new Uint32Array(shared, 0, 2), new Uint8Array(shared, SHARED_HEAD_BYTES)];
  const tell = (news: FuzzNews): void => port.postMessage(news);
  const target = TARGETS[name]!;
  let input = new Uint8Array();
  const fuzzer = new Fuzzer(target, {
    onInput: (bytes) => {
      input = Uint8Array.from(bytes);
      place.set(bytes.subarray(0, place.length));
      head[1] = bytes.length;
      Atomics.add(head, 0, 1);
    },
    onProgress: (figures) => tell({ kind: 'figures', figures }),
  });
  try {
    await fuzzer.run(limits);
    tell({ kind: 'done', figures: fuzzer.figures });
  } catch (error) {
    const { figures } = fuzzer;
    const message = error instanceof Error ? error.message : String(error);
    tell({ kind: 'finding', figures, message, input: await shrink(target, input) });
  }
}
