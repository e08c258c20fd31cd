/** A simulated network: gossip that loses, delays, reorders and repeats; streams that break; partitions. */
import {
  MessageTooLargeError,
  type Connection,
  type FrameStream,
  type StreamKind,
  type Transport,
  type TransportHandlers,
} from '../interfaces.js';
import { GOSSIP_BYTES_MAX, RUN_PEERS_MAX } from '../../protocol/limits.js';
import type { Prng } from '../../protocol/prng.js';
import type { VirtualTime } from './clock.js';
import { Cuts } from './cuts.js';
import { DIAL_TICK_MS, SimDialler } from './dialler.js';
import { SimStream, SimulatedReset } from './stream.js';

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

/** Of an introduction at one look of a peer that has its degree: on average every 30 s. */
const INTRODUCTION_CHANCE = 1 / 30;

/** One published message on its way through the swarm. */
interface Broadcast {
  readonly bytes: Uint8Array;
  /** Who has it: gossip hands a message over once. */
  readonly seen: Set<SimTransport>;
}

export class SimNetwork {
  /** Several of one peer id where a data directory was copied; the newest last. */
  readonly #transports = new Map<string, SimTransport[]>();
  /** Change it through partition(), cut() or clear(), so that connections follow; silence() breaks none. */
  readonly cuts = new Cuts();
  /** Whom each peer online is connected to. */
  readonly #links = new Map<SimTransport, Set<SimTransport>>();
  /** Of a network with a finite degree alone. */
  readonly #diallers = new Map<SimTransport, SimDialler>();
  /**
   * Gossip: messages published, copies sent, lost, and handed to a peer; bytes of all copies sent. Streams:
   * bytes of update data, and of all else (above all have-vectors).
   */
  readonly counts = {
    ...{ published: 0, sent: 0, lost: 0, delivered: 0, bytesGossip: 0 },
    ...{ bytesRepair: 0, bytesVectors: 0 },
  };
  /** Bytes of blob streams that each peer sent. */
  readonly blobBytes = new Map<string, number>();
  /** Whether gossip goes to four neighbours on a ring with chords, and on from there, although more are connected. */
  isMeshed = false;

  /**
   * With `degree` Infinity all peers in reach are connected and a message goes from its author to each. Else
   * a peer dials by the rule of the real dialler (about twice as many, with those that dialled it), and
   * whoever accepts a message passes it on, as in a gossip mesh.
   */
  constructor(
    readonly time: VirtualTime,
    readonly random: Prng,
    public faults: NetworkFaults,
    readonly degree = Infinity,
  ) {}

  /** A transport for one incarnation of a peer. */
  transport(peerId: string): SimTransport {
    return new SimTransport(this, peerId);
  }

  /** Only peers of the same group reach each other; without an entry a peer is in group 0. */
  partition(groups: ReadonlyMap<string, number>): void {
    this.cuts.partition(groups);
    this.#follow();
  }

  /** Severs or joins the links between these pairs of peer ids. */
  cut(pairs: readonly (readonly [string, string])[], isCut: boolean): void {
    for (const [a, b] of pairs) if (isCut) this.cuts.sever(a, b);
    if (!isCut) for (const [a, b] of pairs) this.cuts.join(a, b);
    this.#follow();
  }

  /** Ends every partition, cut and silence. */
  heal(): void {
    this.cuts.clear();
    this.#follow();
  }

  reaches(a: string, b: string): boolean {
    return this.cuts.reaches(a, b);
  }

  delayMs(): number {
    const { delayMsMin, delayMsMax } = this.faults;
    return delayMsMin + this.random.nextFloat() * (delayMsMax - delayMsMin);
  }

  chance(probability: number): boolean {
    return probability > 0 && this.random.nextFloat() < probability;
  }

  /** Of several, the one that joined last. */
  online(peerId: string): SimTransport | undefined {
    return this.#transports.get(peerId)?.at(-1);
  }

  isOnline(transport: SimTransport): boolean {
    return this.#links.has(transport);
  }

  /** Whom `transport` talks to when it asks for `peerId`: a connected one first. */
  remote(transport: SimTransport, peerId: string): SimTransport | undefined {
    const linked = [...(this.#links.get(transport) ?? [])].filter(
      (other) => other.peerId === peerId,
    );
    return linked.at(-1) ?? this.online(peerId);
  }

  /** Whom `transport` is connected to; nobody before it has joined. */
  links(transport: SimTransport): SimTransport[] {
    return [...(this.#links.get(transport) ?? this.#reachable(transport))];
  }

  join(transport: SimTransport): void {
    const same = this.#transports.get(transport.peerId) ?? [];
    this.#transports.set(transport.peerId, [...same, transport]);
    this.#links.set(transport, new Set());
    if (this.degree !== Infinity) {
      this.#diallers.set(transport, new SimDialler(() => this.random.nextFloat(), this.degree));
      this.#keepDialling(transport);
    } else this.#dial(transport);
  }

  /** Whether whoever accepts a message passes it on. */
  get isForwarded(): boolean {
    return this.isMeshed || this.degree !== Infinity;
  }

  /** To whom `transport` sends gossip: all connected, or its neighbours on a ring with chords. */
  neighbours(transport: SimTransport): SimTransport[] {
    const connected = this.links(transport);
    if (!this.isMeshed) return connected;
    const ids = [transport, ...connected].map(({ peerId }) => peerId).sort();
    const chord = Math.max(2, Math.round(Math.sqrt(ids.length)));
    const near = [-chord, -1, 1, chord].map(
      (step) => ids[(ids.indexOf(transport.peerId) + step + ids.length) % ids.length],
    );
    return connected.filter(({ peerId }) => near.includes(peerId));
  }

  /** A process that ends, cleanly or not: its connections break at once, as TCP's do. */
  leave(transport: SimTransport): void {
    const links = this.#links.get(transport);
    if (links === undefined) return;
    const same = this.#transports.get(transport.peerId) ?? [];
    const others = same.filter((other) => other !== transport);
    if (others.length > 0) this.#transports.set(transport.peerId, others);
    else this.#transports.delete(transport.peerId);
    const left = [...links];
    for (const other of left) this.#disconnect(transport, other);
    this.#links.delete(transport);
    this.#diallers.delete(transport);
    for (const other of left) this.#dial(other);
  }

  #reachable(transport: SimTransport): SimTransport[] {
    return [...this.#links.keys()].filter(
      (other) => other.peerId !== transport.peerId && this.reaches(transport.peerId, other.peerId),
    );
  }

  /** Breaks the connections that are cut now and makes those that have become possible. */
  #follow(): void {
    for (const [transport, links] of this.#links) {
      for (const other of links) {
        if (!this.reaches(transport.peerId, other.peerId)) this.#disconnect(transport, other);
      }
    }
    for (const transport of this.#links.keys()) this.#dial(transport);
  }

  /** Looks whom to dial again and again; a peer offline stays away for good. */
  #keepDialling(transport: SimTransport): void {
    if (!this.#links.has(transport)) return;
    this.#dial(transport);
    this.time.after(DIAL_TICK_MS, () => this.#keepDialling(transport));
  }

  /** Connects `transport` to all in reach, or to whom its dialler chooses. */
  #dial(transport: SimTransport): void {
    const links = this.#links.get(transport);
    if (links === undefined) return;
    const dialler = this.#diallers.get(transport);
    if (dialler === undefined) {
      const others = this.#reachable(transport).filter((other) => !links.has(other));
      for (const other of others) this.#connect(transport, other);
      return;
    }
    const { nowMs } = this.time;
    if (links.size < this.degree || this.chance(INTRODUCTION_CHANCE)) {
      dialler.heard(this.#introduce(transport));
    }
    const surplus = this.online(dialler.surplus(nowMs) ?? '');
    if (surplus !== undefined) this.#disconnect(transport, surplus);
    const connected = new Set([...links].map(({ peerId }) => peerId));
    dialler.dialDue(connected, nowMs, (peerId) => {
      const other = this.online(peerId);
      if (other === undefined || !this.reaches(transport.peerId, peerId)) return false;
      this.#connect(transport, other);
      return true;
    });
  }

  /** Some members in reach, as a bootstrap node names them. */
  #introduce(transport: SimTransport): string[] {
    const others = this.#reachable(transport);
    const draws = Math.min(RUN_PEERS_MAX, others.length);
    return Array.from(
      { length: draws },
      () => others[this.random.nextBelow(others.length)]!.peerId,
    );
  }

  #connect(a: SimTransport, b: SimTransport): void {
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const) {
      this.#links.get(one)?.add(other);
      this.#tell(one, other, 'onConnect');
    }
  }

  #disconnect(a: SimTransport, b: SimTransport): void {
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const) {
      this.#links.get(one)?.delete(other);
      if (!this.isOnline(one)) continue;
      one.breakStreams(other.peerId);
      this.#tell(one, other, 'onDisconnect');
    }
  }

  #tell(transport: SimTransport, other: SimTransport, event: 'onConnect' | 'onDisconnect'): void {
    this.time.after(this.faults.delayMsMin, () => {
      if (this.isOnline(transport)) transport.handlers?.[event](other.peerId);
    });
  }
}

export class SimTransport implements Transport {
  handlers: TransportHandlers | undefined;
  readonly #streams = new Set<SimStream>();

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

  /** `only`: to whom a peer tells it that does not keep to the rules; null for all. */
  async publish(message: Uint8Array, only: ReadonlySet<string> | null = null): Promise<number> {
    if (message.length > GOSSIP_BYTES_MAX) {
      throw new MessageTooLargeError(message.length, GOSSIP_BYTES_MAX);
    }
    this.network.counts.published += 1;
    return this.#pass({ bytes: message.slice(), seen: new Set([this]) }, this, only);
  }

  /** Sends a message to all connected peers but the one that it came from; returns their number. */
  #pass(broadcast: Broadcast, from: SimTransport, only: ReadonlySet<string> | null = null): number {
    const { network } = this;
    const others = network
      .neighbours(this)
      .filter((other) => other !== from && (only?.has(other.peerId) ?? true));
    for (const other of others) {
      network.counts.sent += 1;
      network.counts.bytesGossip += broadcast.bytes.length;
      if (network.chance(network.faults.loss)) {
        network.counts.lost += 1;
        continue;
      }
      this.#deliver(other, broadcast);
      if (network.chance(network.faults.duplicate)) this.#deliver(other, broadcast);
    }
    return others.length;
  }

  async open(kind: StreamKind, peerId: string, signal: AbortSignal): Promise<FrameStream> {
    signal.throwIfAborted();
    await this.#roundTrip(signal);
    await this.#heard(peerId, signal);
    const remote = this.network.remote(this, peerId);
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

  /** Waits while one of the two does not hear the other: nothing is opened over such a line. */
  #heard(peerId: string, signal: AbortSignal): Promise<void> {
    const { network, handlers } = this;
    const { cuts } = network;
    return new Promise((resolve, reject) => {
      const onAbort = (): void => reject(signal.reason as Error);
      signal.addEventListener('abort', onAbort, { once: true });
      cuts.whenHeard(this.peerId, peerId, () => {
        cuts.whenHeard(peerId, this.peerId, () => {
          signal.removeEventListener('abort', onAbort);
          const isKilled = this.handlers === undefined && handlers !== undefined;
          if (!signal.aborted && !isKilled) resolve();
        });
      });
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
    if (!this.network.isOnline(this)) return [];
    return this.network.links(this).map(({ peerId }) => ({
      peerId,
      address: `/memory/${peerId}`,
      direction: this.peerId < peerId ? 'outbound' : 'inbound',
      latencyMs: 2 * this.network.faults.delayMsMin,
    }));
  }

  #deliver(other: SimTransport, broadcast: Broadcast): void {
    const { network } = this;
    const isMesh = network.isForwarded;
    // A copy that comes too late whatever its delay: it was counted, and changes nothing.
    if (isMesh && broadcast.seen.has(other)) return;
    network.time.after(network.delayMs(), () => {
      if (!network.isOnline(other) || !network.reaches(this.peerId, other.peerId)) return;
      if (network.cuts.isSilent(this.peerId, other.peerId)) return;
      if (isMesh && broadcast.seen.has(other)) return;
      broadcast.seen.add(other);
      network.counts.delivered += 1;
      const verdict = other.handlers?.onGossip(broadcast.bytes.slice(), this.peerId);
      if (isMesh && verdict === 'accept') other.#pass(broadcast, this);
    });
  }
}
