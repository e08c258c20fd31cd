/** Promise.withResolvers for Node 20, which libp2p 3 calls: the first import of every entry point and thread. */
interface Resolvers<T> {
  promise: Promise<T>;
  resolve: (value: T | PromiseLike<T>) => void;
  reject: (reason?: unknown) => void;
}

function withResolvers<T>(this: PromiseConstructor): Resolvers<T> {
  const settle: Partial<Pick<Resolvers<T>, 'resolve' | 'reject'>> = {};
  const promise = new this<T>((resolve, reject) => {
    settle.resolve = resolve;
    settle.reject = reject;
  });
  // The executor above has run by now, so both functions are there.
  const { resolve, reject } = settle;
  if (resolve === undefined || reject === undefined)
    throw new TypeError('not a promise constructor');
  return { promise, resolve, reject };
}

if (!('withResolvers' in Promise)) {
  Object.defineProperty(Promise, 'withResolvers', {
    configurable: true,
    writable: true,
    enumerable: false,
    value: withResolvers,
  });
}
