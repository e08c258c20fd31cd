/**
 * Where verbs print. Everything goes through `printable`, for much of it comes from strangers: a model's text, the names
 * and errors of other peers. What the program itself says to a terminal (colours, bars) goes to `rawOutput`.
 */
import type { Writable } from 'node:stream';
import { printable } from '../printable.js';

const underneath = new WeakMap<Writable, Writable>();

/** `out`, with everything escaped that a terminal would act on. JSON stays the same JSON. */
export function printableOutput(out: Writable): Writable {
  const write = (chunk: unknown, ...rest: []): boolean =>
    out.write(typeof chunk === 'string' ? printable(chunk) : chunk, ...rest);
  const safe = Object.create(out, { write: { value: write } }) as Writable;
  underneath.set(safe, out);
  return safe;
}

/** The stream under a `printableOutput`, for text whose foreign parts are escaped already. */
export function rawOutput(out: Writable): Writable {
  return underneath.get(out) ?? out;
}
