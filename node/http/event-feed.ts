/**
 * The state of a peer for those who watch: one status for all of them each second. Who reads too slowly misses some,
 * and is let go when it reads nothing for long; nobody's queue grows.
 */
import type { HistoryRow } from '../history.js';
import type { PeerView } from './routes.js';

/** Pages that watch at one time: a person has a few open. */
export const SUBSCRIBERS_MAX = 8;

/** Time between two events, in ms. */
const TICK_MS = 1_000;

/** Bytes that may wait for one subscriber before it is left out; one event more can come on top. */
const QUEUE_BYTES_MAX = 256 * 1024;

/** Ticks in a row that a subscriber may miss. */
const MISSED_MAX = 30;

/** A browser connects again after so long, in ms. */
const RECONNECT_MS = 1_000;

interface Subscriber {
  controller: ReadableStreamDefaultController<Uint8Array>;
  /** The rows that it was sent last. */
  history: readonly HistoryRow[] | null;
  missed: number;
}

export class EventFeed {
  readonly #peer: PeerView;
  readonly #subscribers = new Set<Subscriber>();
  #timer: NodeJS.Timeout | null = null;
  #isClosed = false;

  /** Ends all streams when `closed` aborts. */
  constructor(peer: PeerView, closed: AbortSignal) {
    this.#peer = peer;
    closed.addEventListener('abort', () => {
      this.#isClosed = true;
      for (const subscriber of [...this.#subscribers]) this.#end(subscriber);
    });
  }

  get size(): number {
    return this.#subscribers.size;
  }

  /** A stream of events that begins at once; null when there are too many. */
  subscribe(): ReadableStream<Uint8Array> | null {
    if (this.#isClosed || this.#subscribers.size >= SUBSCRIBERS_MAX) return null;
    let subscriber: Subscriber;
    return new ReadableStream(
      {
        start: (controller: ReadableStreamDefaultController<Uint8Array>) => {
          subscriber = { controller, history: null, missed: 0 };
          this.#subscribers.add(subscriber);
          controller.enqueue(encode(`retry: ${RECONNECT_MS}\n\n`));
          this.#send(subscriber, this.#statusEvent());
          this.#timer ??= setInterval(() => this.#tick(), TICK_MS);
          this.#timer.unref();
        },
        cancel: () => this.#forget(subscriber),
      },
      new ByteLengthQueuingStrategy({ highWaterMark: QUEUE_BYTES_MAX }),
    );
  }

  #tick(): void {
    const event = this.#statusEvent();
    for (const subscriber of [...this.#subscribers]) {
      if ((subscriber.controller.desiredSize ?? 0) > 0) {
        subscriber.missed = 0;
        this.#send(subscriber, event);
      } else if (++subscriber.missed > MISSED_MAX) this.#end(subscriber);
    }
  }

  #send(subscriber: Subscriber, statusEvent: Uint8Array): void {
    const history = this.#peer.history();
    if (history !== subscriber.history) {
      subscriber.history = history;
      subscriber.controller.enqueue(eventOf('history', history));
    }
    subscriber.controller.enqueue(statusEvent);
  }

  /** Also while there is nothing to say: who hears nothing takes the peer for gone. */
  #statusEvent(): Uint8Array {
    const report = this.#peer.status();
    return report === null ? eventOf('starting', {}) : eventOf('status', report);
  }

  #end(subscriber: Subscriber): void {
    this.#forget(subscriber);
    subscriber.controller.close();
  }

  #forget(subscriber: Subscriber): void {
    this.#subscribers.delete(subscriber);
    if (this.#subscribers.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** JSON holds no line break, so that one line of data is the whole value. */
function eventOf(name: string, value: unknown): Uint8Array {
  return encode(`event: ${name}\ndata: ${JSON.stringify(value)}\n\n`);
}
