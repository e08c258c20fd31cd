/** What every executor asks of the arrays that a run is fed, and of those that it writes. */
import { ExecutorError } from './errors.js';
import type { Feeds, RunOptions, TensorData } from './executor.js';
import { describeType, elementCount, type TensorType } from './graph.js';

/** Said of a program without brief outputs. */
export const NO_BRIEF_RUN = 'the graph has no brief run';

/** Throws ExecutorError unless `feeds` holds each of `inputs`, of its type and size, and nothing else. */
export function checkFeeds(inputs: ReadonlyMap<string, TensorType>, feeds: Feeds): void {
  const unknown = Object.keys(feeds).find((name) => !inputs.has(name));
  if (unknown !== undefined) throw new ExecutorError(`the graph has no input "${unknown}"`);
  for (const [name, type] of inputs) checkData(`input "${name}"`, type, feeds[name]);
}

/** Throws ExecutorError unless each array of `into` is for one of `outputs`, of its type and size. */
export function checkPlaces(
  outputs: ReadonlyMap<string, TensorType>,
  into: NonNullable<RunOptions['into']>,
): void {
  for (const [name, data] of Object.entries(into)) {
    const type = outputs.get(name);
    if (type === undefined) throw new ExecutorError(`this run has no output "${name}"`);
    checkData(`output "${name}"`, type, data);
  }
}

/** `results` with those that have a place in `into` copied there. */
export function placed(
  results: Record<string, TensorData>,
  into: NonNullable<RunOptions['into']>,
): Record<string, TensorData> {
  for (const [name, place] of Object.entries(into)) {
    place.set(results[name]!);
    results[name] = place;
  }
  return results;
}

function checkData(what: string, type: TensorType, data: TensorData | undefined): void {
  const dtype = data instanceof Float32Array ? 'float32' : 'int32';
  if (data !== undefined && dtype === type.dtype && data.length === elementCount(type.shape))
    return;
  const given = data === undefined ? 'nothing' : `${data.length} of ${dtype}`;
  throw new ExecutorError(`${what} is ${describeType(type)}, but got ${given}`);
}
