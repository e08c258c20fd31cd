/**
 * Keeps this peer's log equal to the others': a sync session with each member that connects, with a
 * random one every quarter epoch, and at once when a large update is announced.
 */
import { SyncProtocolError, type Verdict } from '../../protocol/errors.js';
import * as limits from '../../protocol/limits.js';
import type { Prng } from '../../protocol/prng.js';
import { SyncSession } from '../../protocol/sync.js';
import type { Clock, FrameStream, Logger, Transport } from '../interfaces.js';
import type { Replica } from './replica.js';

/** Bounds on the pause between two periodic syncs; a quarter epoch lies in between for usual epochs. */
const PERIOD_MS_MIN = 250;
const PERIOD_MS_MAX = 60_000;

/** Outbound sessions at one time: more would compete for the same updates. */
const OUTBOUND_MAX = 2;

export interface AntiEntropyComponents {
  transport: Transport;
  clock: Clock;
  logger: Logger;
  replica: Replica;
  /** Decides partners and jitter; seeded, so that a simulation replays. */
  random: Prng;
}

export class AntiEntropy {
  readonly #c: AntiEntropyComponents;
  readonly #signal: AbortSignal;
  readonly #outbound = new Set<string>();
  readonly #inbound = new Set<string>();
  /** Peers to sync with as soon as a session is free. */
  readonly #queue = new Set<string>();
  /** Slots that some session is fetching. */
  readonly #inFlight = new Set<string>();
  readonly #offsets = new Map<string, number>();
  readonly #firstSync = new AbortController();
  readonly #running = new Set<Promise<void>>();

  constructor(components: AntiEntropyComponents, signal: AbortSignal) {
    this.#c = components;
    this.#signal = signal;
  }

  /** Aborts once the first session with any member has completed. */
  get firstSync(): AbortSignal {
    return this.#firstSync.signal;
  }

  /** Remote clock minus ours in ms at the last session; null before. */
  clockOffsetMs(peerId: string): number | null {
    return this.#offsets.get(peerId) ?? null;
  }

  forget(peerId: string): void {
    this.#offsets.delete(peerId);
    this.#queue.delete(peerId);
  }

  /** Starts a session with `peerId` now, or when one of the running ones ends. */
  request(peerId: string): void {
    if (this.#signal.aborted || this.#outbound.has(peerId)) return;
    if (this.#outbound.size >= OUTBOUND_MAX) {
      if (this.#queue.size < limits.RUN_PEERS_MAX) this.#queue.add(peerId);
      return;
    }
    this.#outbound.add(peerId);
    const session = this.#connect(peerId).finally(() => {
      this.#outbound.delete(peerId);
      this.#running.delete(session);
      const [next] = this.#queue;
      if (next === undefined) return;
      this.#queue.delete(next);
      this.request(next);
    });
    this.#running.add(session);
  }

  /** Syncs with a random member every quarter epoch until the signal aborts. */
  async run(): Promise<void> {
    const { clock, transport, random, replica } = this.#c;
    const quarter = replica.run.manifest.schedule.epochMs / 4;
    const periodMs = Math.min(PERIOD_MS_MAX, Math.max(PERIOD_MS_MIN, quarter));
    while (!this.#signal.aborted) {
      await clock.sleep(periodMs * (0.5 + random.nextFloat()), this.#signal).catch(() => undefined);
      const members = transport.connections();
      const partner = members[random.nextBelow(Math.max(1, members.length))];
      if (partner) this.request(partner.peerId);
    }
    await Promise.all(this.#running);
  }

  /** Serves a session that `from` opened. */
  async serve(stream: FrameStream, from: string): Promise<void> {
    if (this.#inbound.size >= limits.SYNC_SESSIONS_MAX || this.#inbound.has(from)) {
      stream.abort(new SyncProtocolError('busy with other sync sessions'));
      return;
    }
    this.#inbound.add(from);
    try {
      await this.#session(stream, from);
    } finally {
      this.#inbound.delete(from);
    }
  }

  async #connect(peerId: string): Promise<void> {
    try {
      const stream = await this.#c.transport.openSync(peerId, this.#signal);
      await this.#session(stream, peerId);
    } catch (error) {
      if (!this.#signal.aborted) {
        this.#c.logger.debug({ peerId, error: String(error) }, 'sync session failed');
      }
    }
  }

  /** Both sides run this: say what is here, send what the other lacks, take what comes. */
  async #session(stream: FrameStream, peerId: string): Promise<void> {
    const { replica, clock } = this.#c;
    const session = new SyncSession(replica.run, replica.log, this.#inFlight);
    const abort = new AbortController();
    const deadline = clock
      .sleep(limits.SYNC_TIMEOUT_MS, AbortSignal.any([abort.signal, this.#signal]))
      .catch(() => undefined)
      .then(() => {
        if (!abort.signal.aborted) stream.abort(new SyncProtocolError('the session took too long'));
      });
    try {
      const outbox = new Outbox(stream);
      outbox.push(session.hello(clock.now()));
      await Promise.all([outbox.drain(), this.#receive(stream, session, outbox, peerId)]);
      this.#firstSync.abort();
    } catch (error) {
      stream.abort(error instanceof Error ? error : new SyncProtocolError(String(error)));
      throw error;
    } finally {
      session.release();
      abort.abort();
      await deadline;
    }
    if (session.isCut) this.request(peerId);
  }

  /** Reads until the remote's End and puts into `outbox` what each frame asks for. */
  async #receive(
    stream: FrameStream,
    session: SyncSession,
    outbox: Outbox,
    peerId: string,
  ): Promise<void> {
    try {
      for await (const frame of stream.frames) {
        const event = session.receive(frame);
        switch (event.kind) {
          case 'have':
            this.#offsets.set(peerId, event.clockMs - this.#c.clock.now());
            outbox.push(session.want());
            break;
          case 'want':
            outbox.push(session.reply());
            outbox.end();
            break;
          case 'update':
            this.#check(this.#c.replica.onSynced(event.update, peerId));
            break;
          case 'equivocation':
            this.#check(this.#c.replica.onSyncedProof(event.equivocation, peerId));
            break;
          case 'end':
            return;
          case 'nothing':
            break;
        }
      }
      throw new SyncProtocolError('the stream ended before the session did');
    } finally {
      outbox.end();
    }
  }

  #check(verdict: Verdict): void {
    if (verdict === 'reject') throw new SyncProtocolError('an update that is not valid');
  }
}

/** Frames waiting to be sent: generators, so that a long reply is encoded as the stream takes it. */
class Outbox {
  readonly #stream: FrameStream;
  readonly #parts: Iterable<Uint8Array>[] = [];
  #isEnded = false;
  #wake: () => void = () => undefined;

  constructor(stream: FrameStream) {
    this.#stream = stream;
  }

  push(frames: Iterable<Uint8Array>): void {
    this.#parts.push(frames);
    this.#wake();
  }

  end(): void {
    this.#isEnded = true;
    this.#wake();
  }

  /** Sends until end() was called and all is sent, then closes the stream's write side. */
  async drain(): Promise<void> {
    for (;;) {
      const frames = this.#parts.shift();
      if (frames) for (const frame of frames) await this.#stream.send(frame);
      else if (this.#isEnded) break;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    await this.#stream.close();
  }
}
