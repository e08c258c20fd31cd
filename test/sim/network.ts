/** A simulated network: gossip that loses, delays, reorders and repeats; streams that break; partitions. */
import {
  MessageTooLargeError,
  type Connection,
  type FrameStream,
  type StreamKind,
  type Transport,
  type TransportHandlers,
} from '../../node/interfaces.js';
import { GOSSIP_BYTES_MAX, SYNC_FRAME_BYTES_MAX } from '../../protocol/limits.js';
import type { Prng } from '../../protocol/prng.js';
import type { VirtualTime } from './clock.js';

export interface NetworkFaults {
  /** Probability that one receiver misses a gossip message. */
  loss: number;
  /** Probability that one receiver gets a gossip message twice. */
  duplicate: number;
  /** One-way delay in ms, uniform between the two; unequal delays reorder gossip. */
  delayMsMin: number;
  delayMsMax: number;
  /** Probability that a stream is reset after any frame. */
  reset: number;
}

export const NO_FAULTS: NetworkFaults = {
  loss: 0,
  duplicate: 0,
  delayMsMin: 5,
  delayMsMax: 5,
  reset: 0,
};

/** Thrown into streams that a fault, a partition or a crash cut. */
export class SimulatedReset extends Error {
  override readonly name = 'SimulatedReset';
}

export class SimNetwork {
  readonly #transports = new Map<string, SimTransport>();
  readonly #groups = new Map<string, number>();
  /** Gossip messages: published, and copies that arrived. */
  readonly counts = { published: 0, delivered: 0, lost: 0, bytesGossip: 0, bytesStream: 0 };
  /** Bytes of blob streams that each peer sent. */
  readonly blobBytes = new Map<string, number>();
  /** Whether gossip goes from neighbour to neighbour, four for each, instead of to everyone at once. */
  isMeshed = false;

  constructor(
    readonly time: VirtualTime,
    readonly random: Prng,
    public faults: NetworkFaults,
  ) {}

  /** A transport for one incarnation of a peer. */
  transport(peerId: string): SimTransport {
    return new SimTransport(this, peerId);
  }

  /** Only peers of the same group reach each other; without an entry a peer is in group 0. */
  partition(groups: ReadonlyMap<string, number>): void {
    const before = this.#pairs();
    this.#groups.clear();
    for (const [peerId, group] of groups) this.#groups.set(peerId, group);
    this.#tellChanges(before);
  }

  reaches(a: string, b: string): boolean {
    return (this.#groups.get(a) ?? 0) === (this.#groups.get(b) ?? 0);
  }

  delayMs(): number {
    const { delayMsMin, delayMsMax } = this.faults;
    return delayMsMin + this.random.nextFloat() * (delayMsMax - delayMsMin);
  }

  chance(probability: number): boolean {
    return probability > 0 && this.random.nextFloat() < probability;
  }

  online(peerId: string): SimTransport | undefined {
    return this.#transports.get(peerId);
  }

  members(): SimTransport[] {
    return [...this.#transports.values()];
  }

  join(transport: SimTransport): void {
    const before = this.#pairs();
    this.#transports.set(transport.peerId, transport);
    this.#tellChanges(before);
  }

  /** To whom `peerId` sends gossip: everyone in reach, or its neighbours on a ring with chords. */
  neighbours(peerId: string): SimTransport[] {
    const inReach = this.members().filter((other) => this.reaches(peerId, other.peerId));
    const others = inReach.filter((other) => other.peerId !== peerId);
    if (!this.isMeshed) return others;
    const ids = inReach.map((member) => member.peerId).sort();
    const chord = Math.max(2, Math.round(Math.sqrt(ids.length)));
    const near = [-chord, -1, 1, chord].map(
      (step) => ids[(ids.indexOf(peerId) + step + ids.length) % ids.length],
    );
    return others.filter((other) => near.includes(other.peerId));
  }

  /** A process that ends, cleanly or not: its connections break at once, as TCP's do. */
  leave(transport: SimTransport): void {
    if (this.#transports.get(transport.peerId) !== transport) return;
    const before = this.#pairs();
    this.#transports.delete(transport.peerId);
    this.#tellChanges(before);
  }

  /** Connected pairs as "a b". */
  #pairs(): Set<string> {
    const ids = [...this.#transports.keys()];
    return new Set(
      ids.flatMap((a) => ids.filter((b) => a !== b && this.reaches(a, b)).map((b) => `${a} ${b}`)),
    );
  }

  #tellChanges(before: ReadonlySet<string>): void {
    const now = this.#pairs();
    for (const pair of before) if (!now.has(pair)) this.#tell(pair, 'onDisconnect');
    for (const pair of now) if (!before.has(pair)) this.#tell(pair, 'onConnect');
  }

  #tell(pair: string, event: 'onConnect' | 'onDisconnect'): void {
    const [a = '', b = ''] = pair.split(' ');
    const transport = this.online(a);
    if (event === 'onDisconnect') transport?.breakStreams(b);
    this.time.after(this.faults.delayMsMin, () => {
      if (this.online(a) === transport) transport?.handlers?.[event](b);
    });
  }
}

export class SimTransport implements Transport {
  handlers: TransportHandlers | undefined;
  readonly #streams = new Set<SimStream>();
  /** Messages that have come, where they come from neighbours more than once. */
  readonly #seen = new WeakSet<Uint8Array>();

  constructor(
    readonly network: SimNetwork,
    readonly peerId: string,
  ) {}

  async start(handlers: TransportHandlers): Promise<void> {
    this.handlers = handlers;
    this.network.join(this);
  }

  async stop(): Promise<void> {
    this.network.leave(this);
    for (const stream of this.#streams) stream.abort(new SimulatedReset('the peer left'));
  }

  /** kill -9: nothing more comes from or reaches this incarnation. */
  kill(): void {
    this.handlers = undefined;
    this.network.leave(this);
    for (const stream of this.#streams) stream.breakLink();
  }

  async publish(message: Uint8Array): Promise<number> {
    const { network } = this;
    if (message.length > GOSSIP_BYTES_MAX) {
      throw new MessageTooLargeError(message.length, GOSSIP_BYTES_MAX);
    }
    network.counts.published += 1;
    const copy = message.slice();
    this.#seen.add(copy);
    return this.#spread(copy);
  }

  #spread(message: Uint8Array): number {
    const { network } = this;
    const others = network.neighbours(this.peerId);
    for (const other of others) {
      if (network.chance(network.faults.loss)) {
        network.counts.lost += 1;
        continue;
      }
      this.#deliver(other, message);
      if (network.chance(network.faults.duplicate)) this.#deliver(other, message);
    }
    return others.length;
  }

  async open(kind: StreamKind, peerId: string, signal: AbortSignal): Promise<FrameStream> {
    signal.throwIfAborted();
    await this.#roundTrip(signal);
    const remote = this.network.online(peerId);
    if (!remote?.handlers || !this.network.reaches(this.peerId, peerId)) {
      throw new SimulatedReset(`${peerId} cannot be reached`);
    }
    const [near, far] = SimStream.pair(this.network, kind, this.peerId, peerId);
    this.track(near);
    remote.track(far);
    remote.handlers.onStream(kind, far, this.peerId).catch(() => undefined);
    return near;
  }

  /** Passes a round trip; never, when this incarnation was killed meanwhile. */
  #roundTrip(signal: AbortSignal): Promise<void> {
    const { network, handlers } = this;
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        cancel();
        reject(signal.reason as Error);
      };
      const cancel = network.time.after(network.delayMs() + network.delayMs(), () => {
        signal.removeEventListener('abort', onAbort);
        if (this.handlers !== undefined || handlers === undefined) resolve();
      });
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  track(stream: SimStream): void {
    this.#streams.add(stream);
    stream.onEnd = () => this.#streams.delete(stream);
  }

  breakStreams(peerId: string): void {
    for (const stream of this.#streams) if (stream.remoteId === peerId) stream.breakLink();
  }

  connections(): Connection[] {
    return this.network
      .members()
      .filter((other) => other !== this && this.network.reaches(this.peerId, other.peerId))
      .map(({ peerId }) => ({
        peerId,
        address: `/memory/${peerId}`,
        direction: this.peerId < peerId ? 'outbound' : 'inbound',
        latencyMs: 2 * this.network.faults.delayMsMin,
      }));
  }

  #deliver(other: SimTransport, message: Uint8Array): void {
    const { network } = this;
    network.time.after(network.delayMs(), () => {
      if (network.online(other.peerId) !== other) return;
      if (!network.reaches(this.peerId, other.peerId)) return;
      network.counts.delivered += 1;
      network.counts.bytesGossip += message.length;
      if (network.isMeshed && other.#seen.has(message)) return;
      other.#seen.add(message);
      const verdict = other.handlers?.onGossip(message.slice(), this.peerId);
      if (network.isMeshed && verdict === 'accept') other.#spread(message);
    });
  }
}

/** One end of a reliable, ordered stream. */
class SimStream implements FrameStream {
  onEnd: () => void = () => undefined;
  readonly #inbox: Uint8Array[] = [];
  #isRemoteClosed = false;
  #isClosed = false;
  #error: Error | null = null;
  #wake: () => void = () => undefined;
  #remote: SimStream | undefined;
  /** TCP keeps order: no frame overtakes an earlier one. */
  #lastArrivalMs = 0;

  private constructor(
    readonly network: SimNetwork,
    readonly kind: StreamKind,
    readonly localId: string,
    readonly remoteId: string,
  ) {}

  static pair(
    network: SimNetwork,
    kind: StreamKind,
    near: string,
    far: string,
  ): [SimStream, SimStream] {
    const a = new SimStream(network, kind, near, far);
    const b = new SimStream(network, kind, far, near);
    a.#remote = b;
    b.#remote = a;
    return [a, b];
  }

  readonly frames: AsyncIterable<Uint8Array> = {
    [Symbol.asyncIterator]: () => ({ next: () => this.#next() }),
  };

  async send(frame: Uint8Array): Promise<void> {
    if (this.#error) throw this.#error;
    if (this.#isClosed) throw new SimulatedReset('this side is closed');
    if (frame.length > SYNC_FRAME_BYTES_MAX) throw new SimulatedReset('a frame over the bound');
    this.network.counts.bytesStream += frame.length;
    if (this.network.chance(this.network.faults.reset)) {
      this.breakLink();
      throw new SimulatedReset('reset by the network');
    }
    if (this.kind === 'blob') {
      const { blobBytes } = this.network;
      blobBytes.set(this.localId, (blobBytes.get(this.localId) ?? 0) + frame.length);
    }
    const copy = frame.slice();
    this.#arrive((remote) => remote.#inbox.push(copy));
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#arrive((remote) => (remote.#isRemoteClosed = true));
    this.#endWhenDone();
  }

  abort(error: Error): void {
    this.#fail(error);
    this.#arrive((remote) => remote.#fail(new SimulatedReset('reset by the remote')));
  }

  /** Cuts both ends at once. */
  breakLink(): void {
    const error = new SimulatedReset('the connection broke');
    this.#fail(error);
    if (this.#remote) this.#remote.#fail(error);
  }

  #arrive(effect: (remote: SimStream) => void): void {
    const { time } = this.network;
    const arrivalMs = Math.max(this.#lastArrivalMs, time.nowMs + this.network.delayMs());
    this.#lastArrivalMs = arrivalMs;
    time.after(arrivalMs - time.nowMs, () => {
      if (!this.#remote || this.#remote.#error) return;
      effect(this.#remote);
      this.#remote.#wake();
      this.#remote.#endWhenDone();
    });
  }

  async #next(): Promise<IteratorResult<Uint8Array>> {
    for (;;) {
      const frame = this.#inbox.shift();
      if (frame) return { done: false, value: frame };
      if (this.#error) throw this.#error;
      if (this.#isRemoteClosed) return { done: true, value: undefined };
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  #fail(error: Error): void {
    this.#error ??= error;
    this.#wake();
    this.onEnd();
  }

  #endWhenDone(): void {
    if (this.#isClosed && this.#isRemoteClosed) this.onEnd();
  }
}
