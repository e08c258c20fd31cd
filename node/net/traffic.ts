/**
 * Counts bytes by purpose through libp2p's metrics hook: whole connections as they are on the wire
 * (encrypted, with all framing), and the streams of each protocol inside them.
 */
import { RELAY_V2_HOP_CODEC, RELAY_V2_STOP_CODEC } from '@libp2p/circuit-relay-v2';
import type {
  Counter,
  CounterGroup,
  Histogram,
  HistogramGroup,
  Metric,
  MetricGroup,
  Metrics,
  MultiaddrConnection,
  Stream,
  Summary,
  SummaryGroup,
} from '@libp2p/interface';
import {
  BLOB_PROTOCOL_ID,
  DHT_PROTOCOL_ID,
  INTRODUCE_PROTOCOL_ID,
  REACH_PROTOCOL_ID,
  SYNC_PROTOCOL_ID,
} from '../../protocol/ids.js';
import { relayOf } from './addresses.js';

/** What the bytes of a stream are for, and `relay`: passed on between others. */
const PURPOSES = [
  ...(['gossip', 'sync', 'blob', 'introduce', 'reach'] as const),
  ...(['identify', 'ping', 'dht', 'relay'] as const),
];
export type Purpose = (typeof PURPOSES)[number];

/**
 * Bytes since the host was made. `total` is what went over the sockets; `other` is the rest of it: handshakes,
 * and framing and encryption of all the streams.
 */
export type TrafficCount = Record<Purpose | 'total' | 'other', number>;

/** What one peer was sent by purpose, in bytes; null stands for all peers that are not counted by themselves. */
export interface SentTo {
  peerId: string | null;
  bytes: Partial<Record<Purpose, number>>;
}

export interface Traffic {
  bytesIn: TrafficCount;
  bytesOut: TrafficCount;
  /** Most bytes first, COUNTED_PEERS_MAX peers and the rest of them. */
  sentTo: SentTo[];
}

/** Peers whose bytes are counted one by one: a run has some dozens of them, and strangers may be any number. */
export const COUNTED_PEERS_MAX = 64;

/** Purposes of the protocols that this project names, and of libp2p's own by the beginning of their names. */
const BY_PROTOCOL: Readonly<Record<string, Purpose>> = {
  [SYNC_PROTOCOL_ID]: 'sync',
  [BLOB_PROTOCOL_ID]: 'blob',
  [INTRODUCE_PROTOCOL_ID]: 'introduce',
  [REACH_PROTOCOL_ID]: 'reach',
  [DHT_PROTOCOL_ID]: 'dht',
};
const BY_PREFIX: readonly (readonly [string, Purpose])[] = [
  ['/meshsub/', 'gossip'],
  ['/ipfs/id/', 'identify'],
  ['/ipfs/ping/', 'ping'],
];

function purposeOf({ protocol, direction }: Stream): Purpose | null {
  const known =
    BY_PROTOCOL[protocol] ?? BY_PREFIX.find(([prefix]) => protocol.startsWith(prefix))?.[1];
  if (known !== undefined) return known;
  // At the ends of a relayed connection what is inside counts, at the relay what goes through.
  const relayed = direction === 'inbound' ? RELAY_V2_HOP_CODEC : RELAY_V2_STOP_CODEC;
  return protocol === relayed ? 'relay' : null;
}

type Counts = Record<Purpose | 'total', number>;

function zero(): Counts {
  const counts = { total: 0, gossip: 0, sync: 0, blob: 0, introduce: 0, reach: 0 };
  return { ...counts, identify: 0, ping: 0, dht: 0, relay: 0 };
}

export class TrafficMeter {
  readonly #in = zero();
  readonly #out = zero();
  readonly #sentTo = new Map<string, Counts>();
  readonly #others = zero();

  /** The peer id at the other end of a stream; null as long as nobody can say. */
  remoteOf: (stream: Stream) => string | null = () => null;

  traffic(): Traffic {
    const peers = [...this.#sentTo].sort(([, a], [, b]) => b.total - a.total);
    const sentTo: SentTo[] = peers.map(([peerId, counts]) => ({ peerId, bytes: purposes(counts) }));
    if (this.#others.total > 0) sentTo.push({ peerId: null, bytes: purposes(this.#others) });
    return { bytesIn: rest(this.#in), bytesOut: rest(this.#out), sentTo };
  }

  trackConnection(connection: MultiaddrConnection): void {
    // A relayed connection runs inside of another, which is counted.
    if (relayOf(connection.remoteAddr) !== null) return;
    countBytes(
      connection,
      (bytes) => (this.#in.total += bytes),
      (bytes) => (this.#out.total += bytes),
    );
  }

  trackStream(stream: Stream): void {
    const purpose = purposeOf(stream);
    if (purpose === null) return;
    const peerId = this.remoteOf(stream);
    countBytes(
      stream,
      (bytes) => (this.#in[purpose] += bytes),
      (bytes) => {
        this.#out[purpose] += bytes;
        const counts = peerId === null ? this.#others : this.#countsOf(peerId);
        counts[purpose] += bytes;
        counts.total += bytes;
      },
    );
  }

  /** Where there are too many, the one that was sent least is counted among the others from then on. */
  #countsOf(peerId: string): Counts {
    const known = this.#sentTo.get(peerId);
    if (known !== undefined) return known;
    if (this.#sentTo.size >= COUNTED_PEERS_MAX) {
      const [least, counts] = [...this.#sentTo].reduce((a, b) => (b[1].total < a[1].total ? b : a));
      for (const purpose of [...PURPOSES, 'total'] as const)
        this.#others[purpose] += counts[purpose];
      this.#sentTo.delete(least);
    }
    const counts = zero();
    this.#sentTo.set(peerId, counts);
    return counts;
  }
}

/** Those that are not 0. */
function purposes(counts: Counts): SentTo['bytes'] {
  return Object.fromEntries(
    PURPOSES.filter((purpose) => counts[purpose] > 0).map((purpose) => [purpose, counts[purpose]]),
  );
}

/**
 * Tells how many bytes come in and go out on `stream`, by wrapping the methods that data pass through.
 * Listening for 'message' would be wrong: the first listener makes a stream give out what it has, before the
 * one who needs it listens.
 */
export function countBytes(
  stream: MultiaddrConnection | Stream,
  onIn: (bytes: number) => void,
  onOut: (bytes: number) => void,
): void {
  const send = stream.send.bind(stream);
  const dispatch = stream.dispatchEvent.bind(stream);
  const unshift = stream.unshift.bind(stream);
  const push = stream.push.bind(stream);
  stream.send = (data) => {
    onOut(data.byteLength);
    return send(data);
  };
  stream.dispatchEvent = (event) => {
    if (event.type === 'message' && 'data' in event) onIn(sizeOf(event.data));
    return dispatch(event);
  };
  // Data that a protocol negotiation read too far and gave back are dispatched a second time.
  stream.unshift = (data) => {
    onIn(-data.byteLength);
    unshift(data);
  };
  stream.push = (data) => {
    onIn(-data.byteLength);
    push(data);
  };
}

function rest(counts: Counts): TrafficCount {
  const known = PURPOSES.reduce((sum, purpose) => sum + counts[purpose], 0);
  // Bytes that a stream has queued are counted before they reach the socket.
  return { ...counts, other: Math.max(0, counts.total - known) };
}

function sizeOf(data: unknown): number {
  return typeof data === 'object' && data !== null && 'byteLength' in data
    ? Number(data.byteLength)
    : 0;
}

const ignore = (): void => undefined;
const stopTimer = (): (() => void) => ignore;
const deaf = {
  update: ignore,
  increment: ignore,
  decrement: ignore,
  observe: ignore,
  reset: ignore,
  timer: stopTimer,
};
const metric: Metric & Counter & Histogram & Summary = deaf;
const group: MetricGroup & CounterGroup & HistogramGroup & SummaryGroup = deaf;

/** The metrics component of a libp2p node that counts bytes for `meter` and keeps nothing else. */
export function countingMetrics(meter: TrafficMeter): Metrics {
  return {
    trackMultiaddrConnection: (connection) => {
      meter.trackConnection(connection);
    },
    trackProtocolStream: (stream) => {
      meter.trackStream(stream);
    },
    registerMetric: () => metric,
    registerMetricGroup: () => group,
    registerCounter: () => metric,
    registerCounterGroup: () => group,
    registerHistogram: () => metric,
    registerHistogramGroup: () => group,
    registerSummary: () => metric,
    registerSummaryGroup: () => group,
    traceFunction: <F>(_name: string, traced: F): F => traced,
    createTrace: ignore,
  };
}
