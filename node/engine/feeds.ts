/** What every executor asks of the arrays that a run is fed. */
import { ExecutorError } from './errors.js';
import type { Feeds } from './executor.js';
import { describeType, elementCount, type TensorType } from './graph.js';

/** Said of a program without brief outputs. */
export const NO_BRIEF_RUN = 'the graph has no brief run';

/** Throws ExecutorError unless `feeds` holds each of `inputs`, of its type and size, and nothing else. */
export function checkFeeds(inputs: ReadonlyMap<string, TensorType>, feeds: Feeds): void {
  const unknown = Object.keys(feeds).find((name) => !inputs.has(name));
  if (unknown !== undefined) throw new ExecutorError(`the graph has no input "${unknown}"`);
  for (const [name, type] of inputs) {
    const data = feeds[name];
    const dtype = data instanceof Float32Array ? 'float32' : 'int32';
    if (data === undefined || dtype !== type.dtype || data.length !== elementCount(type.shape)) {
      const given = data === undefined ? 'nothing' : `${data.length} of ${dtype}`;
      throw new ExecutorError(`input "${name}" is ${describeType(type)}, but got ${given}`);
    }
  }
}
