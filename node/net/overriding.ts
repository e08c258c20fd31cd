/** Parts of libp2p with some members replaced, where it has no option for that. */

/** `target` but for the members in `replaced` (undefined: without it); its other methods keep their `this`. */
export function overriding<T extends object>(
  target: T,
  replaced: { [K in keyof T]?: T[K] | undefined },
): T {
  return new Proxy(target, {
    get: (whole, name): unknown => {
      if (name in replaced) return Reflect.get(replaced, name);
      const value: unknown = Reflect.get(whole, name);
      return typeof value === 'function' ? value.bind(whole) : value;
    },
  });
}
