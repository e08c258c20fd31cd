/** What `loop` tells within a for loop. */
import { Callable, isEqual, JinjaError, orUndefined, Thing, Tuple, type Value } from './values.js';

export interface LoopState {
  readonly items: readonly Value[];
  /** Of the item that the body is at, from 0. */
  index: number;
  /** Of a recursive loop, from 0. */
  readonly depth: number;
  /** What loop.changed() was last asked about. */
  changed: Value;
}

/** `again`: the body over other items, in a recursive loop. */
export function loopOver(state: LoopState, again: (items: Value) => Value): Thing {
  const { items, depth } = state;
  const { length } = items;
  const at = (index: number, what: string): Value => orUndefined(items[index], what);
  const attributes: Readonly<Record<string, () => Value>> = {
    index: () => state.index + 1,
    index0: () => state.index,
    revindex: () => length - state.index,
    revindex0: () => length - state.index - 1,
    first: () => state.index === 0,
    last: () => state.index === length - 1,
    length: () => length,
    depth: () => depth + 1,
    depth0: () => depth,
    previtem: () => at(state.index - 1, 'the item before the first'),
    nextitem: () => at(state.index + 1, 'the item behind the last'),
    cycle: () =>
      new Callable(({ positional }) => {
        const value = positional[state.index % positional.length];
        if (value === undefined) throw new JinjaError('no items for cycling given');
        return value;
      }),
    changed: () =>
      new Callable(({ positional }) => {
        const now = new Tuple(positional);
        const isChanged = state.changed === null || !isEqual(state.changed, now);
        state.changed = now;
        return isChanged;
      }),
  };
  return new Thing(
    (name) => (Object.hasOwn(attributes, name) ? attributes[name]?.() : undefined),
    ({ positional: [over] }) => again(orUndefined(over, 'what to loop over')),
    () => length,
  );
}
