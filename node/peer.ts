/**
 * One peer of one run: drives protocol/ with a Trainer, a Transport, a Store and a Clock. It knows no
 * libp2p, files, HTTP or timers, so that the simulator (node/sim) runs this very file.
 */
import { setMaxListeners } from 'node:events';
import type { Admission } from '../protocol/admission.js';
import { createAmendment } from '../protocol/amendment.js';
import { adapterSha256, initialAdapter } from '../protocol/adapter.js';
import type { BlobSource, Chunk } from '../protocol/blob.js';
import { lastSlotOf } from '../protocol/cohorts.js';
import { InvalidManifestError, NotAMemberError } from '../protocol/errors.js';
import { encodeAmendment, encodeEquivocation } from '../protocol/gossip.js';
import { publicKeyFromPeerId } from '../protocol/identity.js';
import { BLOB_STREAMS_MAX, EPOCHS_MAX } from '../protocol/limits.js';
import type { Run } from '../protocol/manifest.js';
import { Prng } from '../protocol/prng.js';
import type {
  Clock,
  Identity,
  Logger,
  ModelSource,
  PeerState,
  PrivacyGuard,
  Store,
  Trainer,
  Transport,
} from './interfaces.js';
import { AntiEntropy } from './peer/anti-entropy.js';
import { attention } from './peer/attention.js';
import { BlobServer } from './peer/blob-server.js';
import { Door } from './peer/door.js';
import { Epochs } from './peer/epochs.js';
import { Fetcher } from './peer/fetcher.js';
import { Journal } from './peer/journal.js';
import { Replica, type ReplicaHandlers } from './peer/replica.js';
import { Sealing } from './peer/sealing.js';
import { StoredBodies } from './peer/stored-bodies.js';
import { Rest } from './peer/rest.js';
import { epochAt } from './peer/slots.js';
import type { MemberSnapshot, PeerSnapshot } from './peer/snapshot.js';
import { Publisher } from './peer/publisher.js';
import { UpdateFetcher } from './peer/update-fetcher.js';

export interface PeerComponents {
  transport: Transport;
  clock: Clock;
  store: Store;
  trainer: Trainer;
  /** Absent where training is not private. */
  privacy?: PrivacyGuard;
  logger: Logger;
  identity: Identity;
}

/** A newcomer waits this long (or half an epoch, if shorter) for a first sync before it trains. */
const CATCH_UP_MS_MAX = 10_000;

/** While updates keep coming it waits again, so many times at most: members that dribble do not hold it up. */
const CATCH_UP_WAITS_MAX = 60;

/**
 * Waits that may hang on the stop signal at one time: streams both ways, the loops, a write. Node takes
 * more than ten for a leak and warns; beyond this it would be one.
 */
const STOP_LISTENERS_MAX = 4 * BLOB_STREAMS_MAX;

export interface PeerInit {
  run: Run;
  /** Whether rest(true) was the last word before. */
  isResting?: boolean;
  /** By which this peer comes into its run; later its log has it. */
  admission?: Admission | null;
  /** Whether what its own steps make of the adapter is measured now and then; by default it is. */
  measuresPersonal?: boolean;
  /** Whether no earlier process can have signed with this peer's key; by default one may have. */
  isNewKey?: boolean;
  /** Bytes of the log on disk beyond which sealed updates are dropped from it; by default none ever is. */
  logBytesMax?: number;
  /** Files of the base model, for members who lack them; by default they are not shared. */
  sharedModel?: ModelSource | null;
}

export class Peer {
  /** Whom this peer serves. */
  readonly door: Door;
  readonly #c: PeerComponents;
  readonly #run: Run;
  readonly #admission: Admission | null;
  readonly #measuresPersonal: boolean;
  readonly #sharesModel: boolean;
  readonly #stop = new AbortController();
  readonly #isNewKey: boolean;
  readonly #replica: Replica;
  readonly #sealing: Sealing;
  readonly #journal: Journal;
  readonly #publisher: Publisher;
  readonly #antiEntropy: AntiEntropy;
  readonly #fetcher: Fetcher;
  readonly #updateFetcher: UpdateFetcher;
  readonly #blobServer: BlobServer;
  readonly #rest: Rest;
  #epochs: Epochs | null = null;
  #isCatchingUp = false;
  #done: Promise<void> | null = null;
  /** What ended the peer's life; null while it lives, and after stop(). */
  #failure: { error: unknown } | null = null;

  /** @throws InvalidManifestError when this machine draws another initial adapter than the founder's. */
  constructor(components: PeerComponents, init: PeerInit) {
    const { run, isResting = false, admission = null, measuresPersonal = true } = init;
    const { sharedModel = null, isNewKey = false, logBytesMax = Infinity } = init;
    const { adapter } = run.manifest;
    if (adapterSha256(initialAdapter(adapter)) !== adapter.initialSha256) {
      throw new InvalidManifestError(
        'this machine draws another initial adapter than the run names; the manifest is damaged or forged',
      );
    }
    const { transport, clock, store, logger, identity } = components;
    this.#c = components;
    this.#run = run;
    this.#admission = admission;
    this.#measuresPersonal = measuresPersonal;
    this.#sharesModel = sharedModel !== null;
    this.#isNewKey = isNewKey;
    setMaxListeners(STOP_LISTENERS_MAX, this.#stop.signal);
    this.#rest = new Rest(isResting, this.#stop.signal);
    this.#journal = new Journal(store, clock, (error) => this.#fail(error));
    const handlers: ReplicaHandlers = {
      onRecord: (record) => this.#journal.append(record, this.#stop.signal),
      onAnnounced: (header, from) => this.#updateFetcher.onAnnounced(header, from),
      onProof: (proof) => this.#publisher.tell(encodeEquivocation(proof)),
      onOwnFound: ({ epoch }) => this.#onOwnFound(epoch),
    };
    const epochNow = (): number => epochAt(run, clock.now());
    const bodies = new StoredBodies((place) => store.readLog(place));
    const replica = new Replica({ run, epochNow, handlers, bodies, self: identity.peerId });
    this.#replica = replica;
    const tell = (message: Uint8Array): void => this.#publisher.tell(message);
    this.door = new Door({ replica, epochNow, self: identity.peerId, tell });
    const { signal } = this.#stop;
    this.#publisher = new Publisher({ transport, clock, logger }, signal);
    const prng = (label: string): Prng =>
      new Prng(publicKeyFromPeerId(identity.peerId), `${label}/${run.id}/${clock.now()}`);
    const shared = { transport, clock, runId: run.id, replica };
    const onLie = (peerId: string): void => this.#replica.blame(peerId, 'wrong-blob');
    this.#fetcher = new Fetcher({ ...shared, onLie, random: prng('fetcher') }, signal);
    this.#sealing = new Sealing({
      ...{ replica, store, transport, clock, logger, identity, epochNow, tell, logBytesMax },
      journal: this.#journal,
      fetcher: this.#fetcher,
      onAdopted: () => void this.#countOwn().catch((error: unknown) => this.#fail(error)),
    });
    replica.setSeals(this.#sealing);
    this.#updateFetcher = new UpdateFetcher({
      ...shared,
      fetcher: this.#fetcher,
      isSyncing: (slot) => this.#antiEntropy.isFetching(slot),
      onFailed: (from) => this.#antiEntropy.onAnnounced(from),
    });
    const isElsewhere = (slot: string, peerId: string): boolean =>
      this.#updateFetcher.offer(slot, peerId);
    this.#antiEntropy = new AntiEntropy(
      {
        ...{ ...shared, logger, random: prng('anti-entropy'), isElsewhere },
        sealing: this.#sealing,
        onFailure: (error) => {
          if (!signal.aborted) this.#fail(error);
        },
      },
      signal,
    );
    const find = (root: string): BlobSource<Chunk> | undefined =>
      this.#updateFetcher.source(root) ?? this.#sealing.source(root);
    this.#blobServer = new BlobServer({ clock, runId: run.id, find, model: sharedModel }, signal);
  }

  /**
   * Loads what the store holds, joins the run and begins to train. Resolves when the peer is on the
   * network; `done` then settles when it has stopped. @throws NotAMemberError.
   */
  async start(): Promise<void> {
    const { store, transport, identity, clock } = this.#c;
    const startEpoch = this.#isNewKey ? -1 : epochAt(this.#run, clock.now());
    const savedState = await store.loadState();
    await this.#sealing.load(startEpoch, this.#stop.signal);
    const state = await this.#restore(savedState);
    await this.#sealing.begin(state.settledSeal, this.#stop.signal);
    const moments = await store.loadMoments();
    if (this.#admission !== null) this.#replica.admit(this.#admission, identity.peerId);
    // Without an admission on disk the run is somebody else's; with one that no longer counts, `attention` says so.
    const { members } = this.#replica.log;
    if (!members.isOpen && !members.has(identity.peerId) && members.admissions().length === 0)
      throw new NotAMemberError(this.#run.manifest, identity.peerId);
    const epochs = new Epochs(
      {
        ...this.#c,
        replica: this.#replica,
        journal: this.#journal,
        sealing: this.#sealing,
        publisher: this.#publisher,
        rest: this.#rest,
        measuresPersonal: this.#measuresPersonal,
      },
      { state, moments, startEpoch },
      this.#stop.signal,
    );
    this.#epochs = epochs;
    await this.#countOwn();
    await transport.start({
      onGossip: (message, from) => this.#replica.onGossip(message, from),
      onStream: (kind, stream, from) =>
        kind === 'sync'
          ? this.#antiEntropy.serve(stream, from)
          : this.#blobServer.serve(stream, from),
      onConnect: (peerId) => {
        this.#publisher.onConnect();
        // One of the two opens the session, which serves both. Invited, each may be the first to know the other.
        const { mode } = this.#run.manifest.membership;
        if (identity.peerId < peerId || mode === 'invite') this.#antiEntropy.request(peerId);
      },
      onDisconnect: (peerId) => {
        this.#antiEntropy.forget(peerId);
        this.#updateFetcher.forget(peerId);
      },
      isMember: (peerId) => this.door.isMember(peerId),
      onStranger: () => this.door.turnAway(),
    });
    this.#done = this.#live(epochs);
    // Whoever awaits `done` sees the error; a peer that nobody awaits must not crash the process.
    this.#done.catch(() => undefined);
  }

  /** Settles when the peer has stopped; rejects when it cannot go on. */
  get done(): Promise<void> {
    return this.#done ?? Promise.resolve();
  }

  /** Leaves the run. Everything worth keeping is on disk when it resolves. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error('the peer is stopping'));
    await this.#done?.catch(() => undefined);
    try {
      await this.#c.transport.stop();
    } finally {
      // After the last message that could come in.
      await this.#journal.flush();
    }
  }

  /**
   * Makes the run `epochsMax` epochs long, for all its peers. Returns null when the amendment is on disk and
   * under way, or why it cannot be made, in a sentence.
   */
  async extend(epochsMax: number): Promise<string | null> {
    const { identity } = this.#c;
    if (identity.peerId !== this.#run.manifest.founder) {
      return `Only the founder of this run can extend it: ${this.#run.manifest.founder}.`;
    }
    if (this.#run.manifest.training.finalFraction === 0) {
      return 'This run ended with a learning rate of 0 and would learn nothing more; found a new one instead.';
    }
    const epochsMin = this.#replica.epochsMax + 1;
    if (!Number.isSafeInteger(epochsMax) || epochsMax < epochsMin || epochsMax > EPOCHS_MAX) {
      return `The run cannot be given ${epochsMax} epochs: it takes a whole number from ${epochsMin} to ${EPOCHS_MAX}.`;
    }
    const amendment = createAmendment(this.#run, identity, epochsMax);
    this.#replica.admitAmendment(amendment);
    await this.#journal.flush();
    this.#publisher.tell(encodeAmendment(amendment));
    return null;
  }

  /**
   * True ends training after the current step, whose epoch is given up; the peer goes on sharing. False takes it
   * up again: in this slot where there is time, else in the next.
   */
  rest(isResting: boolean): void {
    this.#rest.set(isResting);
  }

  /** The fold of the whole log: [adapterSize] float32. */
  theta(): Float32Array {
    return this.#replica.theta();
  }

  snapshot(): PeerSnapshot {
    const { clock, trainer, transport, identity } = this.#c;
    const { log } = this.#replica;
    const state = this.#epochs?.state;
    const { progress = null, last = null, suspicions = [] } = this.#epochs ?? {};
    const nowMs = clock.now();
    const slot = epochAt(this.#run, nowMs);
    const epoch = Math.min(slot, this.#replica.epochsMax);
    const members = this.#members(epoch);
    const privacy = this.#c.privacy?.report() ?? null;
    const personal = this.#epochs?.personalLoss ?? null;
    return {
      runId: this.#run.id,
      epoch,
      epochsMax: this.#replica.epochsMax,
      cohorts: this.#run.manifest.schedule.cohorts,
      nextUpdateEpoch: this.#nextUpdateEpoch(epoch),
      state: this.#epochs?.runState ?? 'waiting',
      training: {
        device: trainer.device,
        step: (state?.steps ?? 0) + (progress?.step ?? 0),
        tokens: state?.tokens ?? 0,
        loss: progress?.loss ?? last?.loss ?? null,
        tokensPerSecond: last && last.seconds > 0 ? last.tokens / last.seconds : null,
        skippedSteps: this.#epochs?.skippedSteps ?? 0,
      },
      privacy,
      adapter: this.#replica.adapter(this.#stop.signal),
      heldOutLoss: {
        base: state?.heldOutBase ?? null,
        now: state?.heldOutHistory.at(-1)?.loss ?? null,
        personal: personal?.loss ?? null,
        personalEpoch: personal?.epoch ?? null,
        history: state?.heldOutHistory ?? [],
      },
      ...{ members, filtered: this.#replica.filtered() },
      membership: {
        mode: this.#run.manifest.membership.mode,
        admitted: log.members.admitted,
        refused: this.door.refused,
      },
      updates: { published: this.#publisher.published, received: this.#replica.received },
      modelBytesGiven: this.#sharesModel ? this.#blobServer.modelBytes : null,
      lastRecipients: this.#publisher.lastRecipients,
      residualNorm: this.#epochs?.residualNorm() ?? 0,
      suspects: suspicions.map(({ author }) => author),
      attention: attention({
        run: this.#run,
        nowMs,
        slot,
        epoch,
        epochsMax: this.#replica.epochsMax,
        isCatchingUp: this.#isCatchingUp,
        isResting: this.#rest.isResting,
        connectedCount: transport.connections().length,
        isUnheard: this.#publisher.isUnheard,
        clockOffsetsMs: members.flatMap((member) => member.clockOffsetMs ?? []),
        storeProblem: this.#journal.problem,
        trainingProblems: this.#epochs?.problems ?? [],
        sealProblem: this.#sealing.problem,
        last,
        privacy,
        closedEpoch: this.#epochs?.closedEpoch ?? -1,
        isMember: log.members.has(identity.peerId),
        equivocatedEpoch: log.proofAgainst(identity.peerId)?.epoch ?? null,
        copyEpoch: this.#epochs?.copyEpoch ?? null,
        suspicions,
      }),
    };
  }

  /** The next epoch from `epoch` on for which this peer makes an update; null when the run has none left. */
  #nextUpdateEpoch(epoch: number): number | null {
    const { cohorts } = this.#run.manifest.schedule;
    const first = Math.max(0, epoch);
    const slot = lastSlotOf(this.#run, this.#c.identity.peerId, first + cohorts - 1);
    return slot < this.#replica.epochsMax ? slot : null;
  }

  async #restore(state: PeerState | null): Promise<PeerState> {
    let invalid = 0;
    await this.#c.store.loadLog((record, place) => {
      if (!this.#replica.restore(record, place)) invalid += 1;
    });
    if (invalid > 0)
      this.#c.logger.warn({ invalid }, 'records of the log were not valid: left out');
    // A crash between saving the state and appending to the log leaves the update only in the state.
    if (state?.update) this.#replica.restoreOwn(state.update);
    return (
      state ?? {
        epoch: -1,
        residual: new Float32Array(this.#replica.size),
        update: null,
        settledSeal: null,
        waitingSteps: 0,
        steps: 0,
        tokens: 0,
        heldOutBase: null,
        heldOutHistory: [],
      }
    );
  }

  /** An update by this peer came from the swarm that it did not make in this process. */
  #onOwnFound(epoch: number): void {
    this.#epochs?.onOwnFound(epoch);
    this.#countOwn().catch((error: unknown) => this.#fail(error));
  }

  /** The privacy budget has paid at least for what the swarm holds of this peer: its files may be an older copy. */
  async #countOwn(): Promise<void> {
    const [{ privacy, identity }, epochs] = [this.#c, this.#epochs];
    if (!privacy || epochs === null) return;
    const { log } = this.#replica;
    const { stepsRef, cohorts } = this.#run.manifest.schedule;
    const held = log.epochsOf(identity.peerId);
    const sealed = this.#sealing.contents?.epochsOf(identity.peerId) ?? [];
    const unknown = [...held, ...sealed].filter((epoch) => !epochs.knows(epoch));
    // Of sealed updates the steps are not kept; none has more than these behind it.
    const most = stepsRef * cohorts;
    const steps = unknown.map((epoch) => log.get(identity.peerId, epoch)?.steps ?? most);
    const sum = steps.reduce((total, count) => total + count, epochs.state.steps);
    await this.#journal.persist(() => privacy.atLeast(sum), this.#stop.signal);
  }

  async #live(epochs: Epochs): Promise<void> {
    const antiEntropy = this.#antiEntropy.run();
    try {
      await this.#catchUp();
      await epochs.run();
    } finally {
      this.#stop.abort(new Error('the peer has ended'));
      await Promise.all([antiEntropy, this.#fetcher.ended()]);
    }
    if (this.#failure) throw this.#failure.error;
  }

  /** Ends the peer for a reason that no waiting mends: `done` rejects with it. */
  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#stop.abort(new Error('the peer cannot go on'));
  }

  /** An adapter trained from an old fold helps nobody, so a peer that joins asks the others first. */
  async #catchUp(): Promise<void> {
    const { identity, clock } = this.#c;
    const { founder, schedule } = this.#run.manifest;
    const epoch = epochAt(this.#run, clock.now());
    // Later on an empty log at the founder is one that was lost.
    const isFounding = identity.peerId === founder && this.#replica.log.size === 0 && epoch === 0;
    if (isFounding || epoch < 0) return;
    this.#isCatchingUp = true;
    const { firstSync } = this.#antiEntropy;
    const signal = AbortSignal.any([this.#stop.signal, firstSync]);
    const delayMs = Math.min(CATCH_UP_MS_MAX, schedule.epochMs / 2);
    // A large log takes several sessions: go on while it grows.
    for (let i = 0, fetched = -1; i < CATCH_UP_WAITS_MAX && !signal.aborted; i++) {
      const now = this.#antiEntropy.fetched + this.#updateFetcher.fetched;
      if (now === fetched) break;
      fetched = now;
      await clock.sleep(delayMs, signal).catch(() => undefined);
    }
    this.#isCatchingUp = false;
  }

  /** Every author in the log and every connected member, without this peer itself. */
  #members(epoch: number): MemberSnapshot[] {
    const { log } = this.#replica;
    const { contents } = this.#sealing;
    const connected = this.#c.transport.connections().map(({ peerId }) => peerId);
    const ids = new Set([
      ...(contents?.authors() ?? []),
      ...log.authors(),
      ...log.proofs().map((proof) => proof.author),
      ...connected,
    ]);
    ids.delete(this.#c.identity.peerId);
    return [...ids].map((peerId) => {
      // The log begins where the sealed updates end.
      const epochs = [...(contents?.epochsOf(peerId) ?? []), ...log.epochsOf(peerId)];
      return {
        peerId,
        lastUpdateEpoch: epochs.at(-1) ?? null,
        dueEpoch: lastSlotOf(this.#run, peerId, epoch - 1),
        updatesAccepted: epochs.length,
        rejected: this.#replica.rejectedBy(peerId),
        clockOffsetMs: this.#antiEntropy.clockOffsetMs(peerId),
        agreedMs: this.#antiEntropy.agreedMs(peerId),
      };
    });
  }
}
