/** Who can hear whom in a simulated network: partitions into groups, single links cut, and links silent one way. */

/** An unordered pair of peer ids as one key. */
const pairOf = (a: string, b: string): string => (a < b ? `${a} ${b}` : `${b} ${a}`);

export class Cuts {
  readonly #groups = new Map<string, number>();
  readonly #severed = new Set<string>();
  /** "from to": nothing that `from` sends arrives at `to`; what `to` sends arrives. */
  readonly #silent = new Map<string, (() => void)[]>();

  /** Only peers of the same group reach each other; without an entry a peer is in group 0. */
  partition(groups: ReadonlyMap<string, number>): void {
    this.#groups.clear();
    for (const [peerId, group] of groups) this.#groups.set(peerId, group);
  }

  /** Neither of two peers reaches the other, though both may reach a third: reaching is not transitive then. */
  sever(a: string, b: string): void {
    this.#severed.add(pairOf(a, b));
  }

  join(a: string, b: string): void {
    this.#severed.delete(pairOf(a, b));
  }

  /** Loses gossip from `from` to `to`, and holds up its streams: a line that fails in one direction. */
  silence(from: string, to: string): void {
    const key = `${from} ${to}`;
    if (!this.#silent.has(key)) this.#silent.set(key, []);
  }

  hear(from: string, to: string): void {
    const key = `${from} ${to}`;
    const waiting = this.#silent.get(key) ?? [];
    this.#silent.delete(key);
    for (const run of waiting) run();
  }

  isSilent(from: string, to: string): boolean {
    return this.#silent.has(`${from} ${to}`);
  }

  /** Runs `effect` now, or when `to` hears `from` again. */
  whenHeard(from: string, to: string, effect: () => void): void {
    const waiting = this.#silent.get(`${from} ${to}`);
    if (waiting === undefined) effect();
    else waiting.push(effect);
  }

  reaches(a: string, b: string): boolean {
    const isSameGroup = (this.#groups.get(a) ?? 0) === (this.#groups.get(b) ?? 0);
    return isSameGroup && !this.#severed.has(pairOf(a, b));
  }

  /** Ends everything: all hear all. */
  clear(): void {
    this.#groups.clear();
    this.#severed.clear();
    for (const key of [...this.#silent.keys()]) {
      const [from = '', to = ''] = key.split(' ');
      this.hear(from, to);
    }
  }
}
