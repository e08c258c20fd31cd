/** Which code ran, by V8's precise coverage: what guides the fuzzer to inputs that reach more of it. */
import { Session, type Profiler } from 'node:inspector';

/** Whose code counts: the product, and the libraries that decode for it. */
const COUNTED =
  /\/(dist\/(node|protocol|bootstrap)|node_modules\/(protons-runtime|@huggingface|@multiformats\/multiaddr))\//;

/** Characters of source code, from the first to before the second. */
type Range = readonly [start: number, end: number];

export class Coverage {
  readonly #session = new Session();
  /** What has not run yet of each function that was entered, by script and place. */
  readonly #missing = new Map<string, { size: number; ranges: readonly Range[] }>();

  constructor() {
    this.#session.connect();
    this.#session.post('Profiler.enable');
    this.#session.post('Profiler.startPreciseCoverage', { callCount: false, detailed: true });
  }

  /** Characters of code that ran so far. */
  get reached(): number {
    let reached = 0;
    for (const { size, ranges } of this.#missing.values()) reached += size - lengthOf(ranges);
    return reached;
  }

  /** Functions that were entered so far. */
  get functions(): number {
    return this.#missing.size;
  }

  /** Whether code ran since the last call that had not run before; with `keep`, it counts as seen from now on. */
  take(keep: boolean): boolean {
    let isNew = false;
    for (const { key, size, ranges } of this.#ran()) {
      const known = this.#missing.get(key);
      const left = known === undefined ? ranges : intersection(known.ranges, ranges);
      if (known !== undefined && lengthOf(left) === lengthOf(known.ranges)) continue;
      isNew = true;
      if (keep) this.#missing.set(key, { size, ranges: left });
    }
    return isNew;
  }

  close(): void {
    this.#session.disconnect();
  }

  /** The functions that ran since the last call, with what of them did not. */
  *#ran(): Generator<{ key: string; size: number; ranges: Range[] }> {
    let scripts: readonly Profiler.ScriptCoverage[] = [];
    // The session is one of this thread, so that the answer is there at once.
    this.#session.post('Profiler.takePreciseCoverage', (_error, { result }) => (scripts = result));
    for (const { scriptId, url, functions } of scripts) {
      if (!COUNTED.test(url)) continue;
      for (const { ranges } of functions) {
        const [whole, ...parts] = ranges;
        if (whole === undefined || whole.count === 0) continue;
        yield {
          key: `${scriptId}:${whole.startOffset}:${whole.endOffset}`,
          size: whole.endOffset - whole.startOffset,
          ranges: parts
            .filter(({ count }) => count === 0)
            .map(({ startOffset, endOffset }) => [startOffset, endOffset]),
        };
      }
    }
  }
}

function lengthOf(ranges: readonly Range[]): number {
  return ranges.reduce((sum, [start, end]) => sum + end - start, 0);
}

/** What is in both; each list ascending and without overlap. */
function intersection(a: readonly Range[], b: readonly Range[]): Range[] {
  const both: Range[] = [];
  for (const [start, end] of a) {
    for (const [from, to] of b) {
      const [first, last] = [Math.max(start, from), Math.min(end, to)];
      if (first < last) both.push([first, last]);
    }
  }
  return both;
}
