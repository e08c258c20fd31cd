/** Names and what they stand for: those of a body, then those around it. */
import type { Value } from './values.js';

export class Scope {
  readonly #names = new Map<string, Value>();

  constructor(
    readonly outer: Scope | null,
    names: Iterable<readonly [string, Value]> = [],
  ) {
    for (const [name, value] of names) this.#names.set(name, value);
  }

  get(name: string): Value | undefined {
    const value = this.#names.get(name);
    return value === undefined ? this.outer?.get(name) : value;
  }

  /** In this scope, whatever a name stands for outside of it. */
  set(name: string, value: Value): void {
    this.#names.set(name, value);
  }
}
