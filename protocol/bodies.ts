/** Where a log reads the bodies of its updates: headers are in memory, bodies may lie on disk. */
import type { Quantised } from './quantise.js';
import type { Update, UpdateHeader } from './update.js';

export interface Bodies {
  /** Takes the body of an update that the log has added. */
  put(update: Update): void;
  /** The body of an update that was put; throws when it is not there any more. */
  read(header: UpdateHeader): Quantised;
}

/** Keeps every body in memory: for readers of short logs. */
export class MemoryBodies implements Bodies {
  readonly #bodies = new Map<string, Quantised>();

  put({ id, scales, codes }: Update): void {
    this.#bodies.set(id, { scales, codes });
  }

  read({ id }: UpdateHeader): Quantised {
    const body = this.#bodies.get(id);
    if (body === undefined) throw new RangeError(`no body of update ${id}`);
    return body;
  }
}
