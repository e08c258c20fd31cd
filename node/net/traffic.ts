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
  SYNC_PROTOCOL_ID,
} from '../../protocol/ids.js';
import { relayOf } from './addresses.js';

/**
 * Bytes since the host was made. `total` is what went over the sockets; `other` is the rest of it:
 * handshakes, identify, ping, framing and encryption of all the streams.
 */
export interface TrafficCount {
  total: number;
  gossip: number;
  sync: number;
  blob: number;
  introduce: number;
  dht: number;
  /** Passed on between others. */
  relay: number;
  other: number;
}

export interface Traffic {
  bytesIn: TrafficCount;
  bytesOut: TrafficCount;
}

type Purpose = 'gossip' | 'sync' | 'blob' | 'introduce' | 'dht' | 'relay';

function purposeOf({ protocol, direction }: Stream): Purpose | null {
  if (protocol.startsWith('/meshsub/')) return 'gossip';
  if (protocol === SYNC_PROTOCOL_ID) return 'sync';
  if (protocol === BLOB_PROTOCOL_ID) return 'blob';
  if (protocol === INTRODUCE_PROTOCOL_ID) return 'introduce';
  if (protocol === DHT_PROTOCOL_ID) return 'dht';
  // At the ends of a relayed connection what is inside counts, at the relay what goes through.
  const relayed = direction === 'inbound' ? RELAY_V2_HOP_CODEC : RELAY_V2_STOP_CODEC;
  return protocol === relayed ? 'relay' : null;
}

type Counts = Record<Purpose | 'total', number>;

function zero(): Counts {
  return { total: 0, gossip: 0, sync: 0, blob: 0, introduce: 0, dht: 0, relay: 0 };
}

export class TrafficMeter {
  readonly #in = zero();
  readonly #out = zero();

  traffic(): Traffic {
    return { bytesIn: rest(this.#in), bytesOut: rest(this.#out) };
  }

  trackConnection(connection: MultiaddrConnection): void {
    // A relayed connection runs inside of another, which is counted.
    if (relayOf(connection.remoteAddr) === null) this.#track(connection, 'total');
  }

  trackStream(stream: Stream): void {
    const purpose = purposeOf(stream);
    if (purpose !== null) this.#track(stream, purpose);
  }

  #track(stream: MultiaddrConnection | Stream, counter: keyof Counts): void {
    countBytes(
      stream,
      (bytes) => (this.#in[counter] += bytes),
      (bytes) => (this.#out[counter] += bytes),
    );
  }
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
  const { total, ...purposes } = counts;
  const known = Object.values(purposes).reduce((sum, bytes) => sum + bytes, 0);
  // Bytes that a stream has queued are counted before they reach the socket.
  return { ...counts, other: Math.max(0, total - known) };
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
