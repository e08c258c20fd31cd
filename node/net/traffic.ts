/**
 * Counts bytes by purpose through libp2p's metrics hook: whole connections as they are on the wire
 * (encrypted, with all framing), and the streams of each protocol inside them.
 */
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
  other: number;
}

export interface Traffic {
  bytesIn: TrafficCount;
  bytesOut: TrafficCount;
}

type Purpose = 'gossip' | 'sync' | 'blob' | 'introduce' | 'dht';

function purposeOf(protocol: string): Purpose | null {
  if (protocol.startsWith('/meshsub/')) return 'gossip';
  if (protocol === SYNC_PROTOCOL_ID) return 'sync';
  if (protocol === BLOB_PROTOCOL_ID) return 'blob';
  if (protocol === INTRODUCE_PROTOCOL_ID) return 'introduce';
  return protocol === DHT_PROTOCOL_ID ? 'dht' : null;
}

type Counts = Record<Purpose | 'total', number>;

function zero(): Counts {
  return { total: 0, gossip: 0, sync: 0, blob: 0, introduce: 0, dht: 0 };
}

export class TrafficMeter {
  readonly #in = zero();
  readonly #out = zero();

  traffic(): Traffic {
    return { bytesIn: rest(this.#in), bytesOut: rest(this.#out) };
  }

  trackConnection(connection: MultiaddrConnection): void {
    this.#track(connection, 'total');
  }

  trackStream(stream: Stream): void {
    const purpose = purposeOf(stream.protocol);
    if (purpose !== null) this.#track(stream, purpose);
  }

  /**
   * Wraps the methods that data pass through. Listening for 'message' would be wrong: the first
   * listener makes a stream give out what it has, before the one who needs it listens.
   */
  #track(stream: MultiaddrConnection | Stream, counter: keyof Counts): void {
    const send = stream.send.bind(stream);
    const dispatch = stream.dispatchEvent.bind(stream);
    const unshift = stream.unshift.bind(stream);
    const push = stream.push.bind(stream);
    stream.send = (data) => {
      this.#out[counter] += data.byteLength;
      return send(data);
    };
    stream.dispatchEvent = (event) => {
      if (event.type === 'message' && 'data' in event) this.#in[counter] += sizeOf(event.data);
      return dispatch(event);
    };
    // Data that a protocol negotiation read too far and gave back are dispatched a second time.
    stream.unshift = (data) => {
      this.#in[counter] -= data.byteLength;
      unshift(data);
    };
    stream.push = (data) => {
      this.#in[counter] -= data.byteLength;
      push(data);
    };
  }
}

function rest(counts: Counts): TrafficCount {
  const { total, gossip, sync, blob, introduce, dht } = counts;
  // Bytes that a stream has queued are counted before they reach the socket.
  return { ...counts, other: Math.max(0, total - gossip - sync - blob - introduce - dht) };
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
