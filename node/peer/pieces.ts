/** Long arithmetic in pieces, so that messages get through meanwhile. */
import { setImmediate as macrotask } from 'node:timers/promises';

/** Coordinates that are folded without a pause, each in about 5 ns: about a millisecond. */
const PIECE_COORDINATES = 1 << 18;

/** Runs `steps`, which give the coordinates of each step, to the end. Rejects when `signal` aborts. */
export async function inPieces<T>(steps: Generator<number, T>, signal: AbortSignal): Promise<T> {
  let coordinates = 0;
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    coordinates += step.value;
    if (coordinates < PIECE_COORDINATES) continue;
    coordinates = 0;
    await macrotask();
    signal.throwIfAborted();
  }
}
