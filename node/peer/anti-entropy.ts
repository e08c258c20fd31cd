/**
 * Keeps this peer's log equal to the others': a sync session with each member that connects, with a
 * random one every quarter epoch, and at once when an announced update could not be fetched.
 */
import { SyncProtocolError, type Verdict } from '../../protocol/errors.js';
import * as limits from '../../protocol/limits.js';
import type { Prng } from '../../protocol/prng.js';
import { SyncSession, type Reservations } from '../../protocol/sync.js';
import type { Clock, FrameStream, Logger, Transport } from '../interfaces.js';
import type { Replica } from './replica.js';
import type { Sealing } from './sealing.js';
import { Seats } from './seats.js';
import { openStream } from './streams.js';
import { SenderBuckets } from '../token-bucket.js';

/** Bounds on the pause between two periodic syncs; a quarter epoch lies in between for usual epochs. */
const PERIOD_MS_MIN = 250;
const PERIOD_MS_MAX = 60_000;

/** Outbound sessions at one time: more would compete for the same updates. */
const OUTBOUND_MAX = 2;

/** What one session asked for is left to it for so long; then others may fetch it too. */
const RESERVATION_MS = 10_000;

/** A peer whose announcements led to so many sessions in a row without anything new is not believed. */
const EMPTY_MAX = 8;

/** Peers about whom such things are remembered; the oldest is forgotten first. */
const REMEMBERED_MAX = 1024;

export interface AntiEntropyComponents {
  transport: Transport;
  clock: Clock;
  logger: Logger;
  replica: Replica;
  sealing: Sealing;
  /** Decides partners and jitter; seeded, so that a simulation replays. */
  random: Prng;
  /** What ended the work on seals, other than the stop signal. */
  onFailure: (error: unknown) => void;
  /** Whether the update of a slot ("author/epoch"), which `peerId` holds, comes another way than by sync. */
  isElsewhere: (slot: string, peerId: string) => boolean;
}

export class AntiEntropy {
  readonly #c: AntiEntropyComponents;
  readonly #signal: AbortSignal;
  readonly #outbound = new Set<string>();
  readonly #inbound: Seats;
  /** Peers to sync with as soon as a session is free. */
  readonly #queue = new Set<string>();
  /** Slots that some session is fetching. */
  readonly #inFlight = new Set<string>();
  /** Peers whose last session brought less than half of what was asked: what they promise blocks nobody. */
  readonly #unreliable = new Map<string, true>();
  /** Sessions in a row, after an announcement, that brought nothing new. */
  readonly #empty = new Map<string, number>();
  /** Peers that announced something since their last session began. */
  readonly #announced = new Set<string>();
  readonly #offsets = new Map<string, number>();
  /** When the log of a connected member was last seen to equal this one, ms since 1970. */
  readonly #agreed = new Map<string, number>();
  readonly #opens: SenderBuckets;
  readonly #firstSync = new AbortController();
  #fetched = 0;
  readonly #running = new Set<Promise<void>>();

  constructor(components: AntiEntropyComponents, signal: AbortSignal) {
    this.#c = components;
    this.#signal = signal;
    this.#inbound = new Seats(components.clock, limits.SYNC_SESSIONS_MAX);
    this.#opens = new SenderBuckets(components.clock, {
      perSecond: limits.SYNC_OPENS_PER_SECOND,
      burst: limits.SYNC_OPENS_BURST,
    });
  }

  /** Updates that came by sync and were new. */
  get fetched(): number {
    return this.#fetched;
  }

  /** Aborts once a first session with any member has completed that left nothing for another one. */
  get firstSync(): AbortSignal {
    return this.#firstSync.signal;
  }

  /** Remote clock minus ours in ms at the last session; null before. */
  clockOffsetMs(peerId: string): number | null {
    return this.#offsets.get(peerId) ?? null;
  }

  /** When the adapter of a connected member was last seen to equal this peer's, ms since 1970; null before. */
  agreedMs(peerId: string): number | null {
    return this.#agreed.get(peerId) ?? null;
  }

  forget(peerId: string): void {
    this.#offsets.delete(peerId);
    this.#agreed.delete(peerId);
    this.#queue.delete(peerId);
    this.#announced.delete(peerId);
  }

  /** Whether some session is fetching the update of a slot ("author/epoch"). */
  isFetching(slot: string): boolean {
    return this.#inFlight.has(slot);
  }

  /** `peerId` announced an update: asks it for its log, unless its announcements have led nowhere for long. */
  onAnnounced(peerId: string): void {
    if ((this.#empty.get(peerId) ?? 0) >= EMPTY_MAX) return;
    if (this.#announced.size < limits.RUN_PEERS_MAX) this.#announced.add(peerId);
    this.request(peerId);
  }

  /** Starts a session with `peerId` now, or when the running ones leave room (and its own has ended). */
  request(peerId: string): void {
    if (this.#signal.aborted) return;
    if (this.#outbound.has(peerId) || this.#outbound.size >= OUTBOUND_MAX) {
      if (this.#queue.size < limits.RUN_PEERS_MAX) this.#queue.add(peerId);
      return;
    }
    this.#outbound.add(peerId);
    const session = this.#connect(peerId).finally(() => {
      this.#outbound.delete(peerId);
      this.#running.delete(session);
      const next = [...this.#queue].find((waiting) => !this.#outbound.has(waiting));
      if (next === undefined) return;
      this.#queue.delete(next);
      this.request(next);
    });
    this.#running.add(session);
  }

  /** Syncs with a random member every quarter epoch until the signal aborts. */
  async run(): Promise<void> {
    const { clock, transport, random, replica, sealing } = this.#c;
    const quarter = replica.run.manifest.schedule.epochMs / 4;
    const periodMs = Math.min(PERIOD_MS_MAX, Math.max(PERIOD_MS_MIN, quarter));
    while (!this.#signal.aborted) {
      await clock.sleep(periodMs * (0.5 + random.nextFloat()), this.#signal).catch(() => undefined);
      // Only the stop signal ends it early.
      await sealing.turn(this.#signal).catch((error: unknown) => this.#c.onFailure(error));
      const members = transport.connections();
      const partner = members[random.nextBelow(Math.max(1, members.length))];
      if (partner) this.request(partner.peerId);
    }
    await Promise.all(this.#running);
  }

  /** Serves a session that `from` opened. */
  async serve(stream: FrameStream, from: string): Promise<void> {
    const onLost = (): void => stream.abort(new SyncProtocolError('others have waited for longer'));
    const isWelcome = !this.#signal.aborted && this.#opens.of(from).tryTake(1);
    if (!isWelcome || !this.#inbound.take(from, onLost)) {
      stream.abort(new SyncProtocolError('busy with other sync sessions, or leaving'));
      return;
    }
    const session = this.#session(stream, from).finally(() => this.#inbound.release(from, onLost));
    // run() waits for it: nothing comes in after it has returned.
    const ended = session.catch(() => undefined).finally(() => this.#running.delete(ended));
    this.#running.add(ended);
    await session;
  }

  async #connect(peerId: string): Promise<void> {
    try {
      const stream = await openStream(this.#c, 'sync', peerId, this.#signal);
      await this.#session(stream, peerId);
    } catch (error) {
      if (!this.#signal.aborted) {
        this.#c.logger.debug({ peerId, error: String(error) }, 'sync session failed');
      }
    }
  }

  /** What is on its way when a session with `peerId` begins. Who is unreliable keeps nobody from anything. */
  #reservations(peerId: string): Reservations {
    if (this.#unreliable.has(peerId)) return new Set<string>();
    const inFlight = this.#inFlight;
    return {
      has: (slot) => inFlight.has(slot) || this.#c.isElsewhere(slot, peerId),
      add: (slot) => inFlight.add(slot),
      delete: (slot) => inFlight.delete(slot),
    };
  }

  /** Both sides run this: say what is here, send what the other lacks, take what comes. */
  async #session(stream: FrameStream, peerId: string): Promise<void> {
    const { replica, sealing, clock } = this.#c;
    const reservations = this.#reservations(peerId);
    const session = new SyncSession(replica.run, replica.log, reservations, sealing.held());
    const isAnnounced = this.#announced.delete(peerId);
    const counts = { new: 0 };
    const end = this.#limit(stream, session);
    try {
      const outbox = new Outbox(stream);
      outbox.push([session.hello(clock.now(), replica.amendment)]);
      await Promise.all([outbox.drain(), this.#receive(stream, session, outbox, peerId, counts)]);
    } catch (error) {
      stream.abort(error instanceof Error ? error : new SyncProtocolError(String(error)));
      throw error;
    } finally {
      session.release();
      await end();
      this.#judge(peerId, session.wanted, counts.new, isAnnounced);
    }
    // Without progress another session would be as idle: the remote does not send what it says it has.
    if (session.isCut && counts.new > 0) this.request(peerId);
    else if (!session.isCut && !session.hasSkipped) this.#firstSync.abort('the first sync is done');
  }

  /** Cuts the session when its time is over and frees what it asked for before. Call the result at its end. */
  #limit(stream: FrameStream, session: SyncSession): () => Promise<void> {
    const ended = new AbortController();
    const onStop = (): void => ended.abort(this.#signal.reason);
    this.#signal.addEventListener('abort', onStop, { once: true });
    if (this.#signal.aborted) onStop();
    let isOver = false;
    const wait = async (): Promise<void> => {
      await this.#c.clock.sleep(RESERVATION_MS, ended.signal);
      session.release();
      await this.#c.clock.sleep(limits.SYNC_TIMEOUT_MS - RESERVATION_MS, ended.signal);
    };
    const waiting = wait()
      .catch(() => undefined)
      .then(() => {
        if (!isOver) stream.abort(new SyncProtocolError('the session took too long'));
      });
    return async () => {
      isOver = true;
      this.#signal.removeEventListener('abort', onStop);
      // A reason of its own: else each session would make a DOMException with its stack.
      ended.abort('the session has ended');
      await waiting;
    };
  }

  /** Remembers what a session was worth. */
  #judge(peerId: string, wanted: number, brought: number, isAnnounced: boolean): void {
    this.#unreliable.delete(peerId);
    if (2 * brought < wanted) remember(this.#unreliable, peerId, true);
    if (brought > 0) this.#empty.delete(peerId);
    else if (isAnnounced) remember(this.#empty, peerId, (this.#empty.get(peerId) ?? 0) + 1);
  }

  /** Reads until the remote's End and puts into `outbox` what each frame asks for. */
  async #receive(
    stream: FrameStream,
    session: SyncSession,
    outbox: Outbox,
    peerId: string,
    counts: { new: number },
  ): Promise<void> {
    const { replica, sealing } = this.#c;
    try {
      for await (const frame of stream.frames) {
        this.#signal.throwIfAborted();
        const event = session.receive(frame);
        switch (event.kind) {
          case 'differs':
            outbox.push(session.vectors());
            break;
          case 'have':
            this.#offsets.set(peerId, event.clockMs - this.#c.clock.now());
            if (session.isSame) this.#agreed.set(peerId, this.#c.clock.now());
            if (event.amendment !== null)
              this.#check(replica.onSyncedAmendment(event.amendment, peerId));
            if (session.isSame) outbox.push(session.sealFrames());
            outbox.push(session.want(replica.newestWelcome, sealing.wantedFrom));
            break;
          case 'want':
            outbox.push(session.reply());
            outbox.end();
            break;
          case 'admission':
            this.#check(replica.onSyncedAdmission(event.admission, peerId));
            break;
          case 'update':
            if (this.#check(replica.onSynced(event.update, peerId)) === 'accept') {
              counts.new += 1;
              this.#fetched += 1;
            }
            break;
          case 'equivocation':
            this.#check(replica.onSyncedProof(event.equivocation, peerId));
            break;
          case 'sealEquivocation':
            this.#check(replica.onSyncedSealProof(event.equivocation, peerId));
            break;
          case 'certificate':
            this.#check(replica.onSyncedCertificate(event.certificate, peerId));
            break;
          case 'seal':
            this.#check(replica.onSyncedSeal(event.seal, peerId));
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

  #check(verdict: Verdict): Verdict {
    if (verdict === 'reject') throw new SyncProtocolError('an update that is not valid');
    return verdict;
  }
}

/** Sets an entry of a table of strangers, who come and go: the oldest entry makes room. */
function remember<T>(table: Map<string, T>, peerId: string, value: T): void {
  const oldest = table.keys().next().value;
  if (table.size >= REMEMBERED_MAX && !table.has(peerId) && oldest !== undefined)
    table.delete(oldest);
  table.set(peerId, value);
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
