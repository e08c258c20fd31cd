/** A hostile member: on the allowlist, with a real key, and free to send any frame to anybody at any instant. */
import type { FrameStream, Identity, StreamKind, Transport } from '../../../node/interfaces.js';
import { createAdmission, type Invitation } from '../../../protocol/admission.js';
import { toHex } from '../../../protocol/bytes.js';
import { decodeGossip, encodeAdmission } from '../../../protocol/gossip.js';
import { GOSSIP_BYTES_MAX } from '../../../protocol/limits.js';
import type { Run } from '../../../protocol/manifest.js';
import type { Prng } from '../../../protocol/prng.js';
import type { Seal, SealStatement } from '../../../protocol/seal.js';
import { RowFormats } from '../../../protocol/row-format.js';
import type { Signer, Update } from '../../../protocol/update.js';
import { serveBlob } from './blob-lies.js';
import type { Temper } from './settings.js';
import { talkSync, type SyncLie } from './sync-lies.js';

/** Messages that a member remembers to say again. */
const HEARD_MAX = 400;

/** Where a hostile member is: in a simulated swarm, or on a real network. */
export interface HostilePlace {
  run: Run;
  /** `only`: whom alone to tell, where the network can. */
  transport: Pick<Transport, 'start' | 'open'> & {
    publish(message: Uint8Array, only?: ReadonlySet<string> | null): Promise<number>;
  };
  /** The true time, in ms since 1970. */
  now(): number;
  sleep(delayMs: number): Promise<void>;
}

export class HostileMember {
  readonly formats: RowFormats;
  /** Gossip as it came, oldest first. */
  readonly heard: Uint8Array[] = [];
  /** Updates of anybody that came, and its own, told or held back. */
  updates: Update[] = [];
  /** Body root in hex -> an update whose body it has. */
  readonly bodies = new Map<string, Update>();
  /** Whether it gives proofs that nobody holds yet in sync sessions. */
  givesProofs = true;
  /** Honest members' seals as they came. */
  readonly seals: Seal[] = [];
  /** Epoch -> the statement that it sealed first. */
  readonly sealed = new Map<number, SealStatement>();
  /** Epoch -> the first update that it signed for it. */
  readonly #slots = new Map<number, Update>();
  /** By which it came in, in a run with invites. */
  invited: { invitation: Invitation; oneTime: Signer } | null = null;

  constructor(
    readonly place: HostilePlace,
    readonly identity: Identity,
    readonly temper: Temper,
    /** Of how it answers: what it does of its own accord draws from its fault. */
    readonly random: Prng,
  ) {
    this.formats = new RowFormats(place.run);
  }

  get run(): Run {
    return this.place.run;
  }

  get peerId(): string {
    return this.identity.peerId;
  }

  /** The slot of the true time. */
  get epochNow(): number {
    const { startMs, epochMs } = this.run.manifest.schedule;
    return Math.floor((this.place.now() - startMs) / epochMs);
  }

  async start(): Promise<void> {
    await this.place.transport.start({
      onGossip: (message) => {
        this.#hear(message);
        // On a mesh it passes on what it likes.
        return this.random.nextFloat() < 0.5 ? 'accept' : 'ignore';
      },
      onStream: (kind, stream) => this.#serve(kind, stream),
      onConnect: () => undefined,
      onDisconnect: () => undefined,
      isMember: () => true,
    });
    if (this.invited === null) return;
    const { invitation, oneTime } = this.invited;
    this.tell(encodeAdmission(createAdmission(invitation, oneTime, this.identity, 0)));
  }

  /** What it signs for a slot: `make`s it, unless it takes care and has signed for that slot before. */
  sign(epoch: number, make: () => Update): Update {
    const held = this.#slots.get(epoch);
    if (held !== undefined && this.temper !== 'reckless') return held;
    const update = make();
    this.#slots.set(epoch, held ?? update);
    this.remember(update);
    return update;
  }

  remember(update: Update): void {
    if (this.updates.length < HEARD_MAX) this.updates.push(update);
    this.bodies.set(toHex(update.bodyRoot), update);
  }

  /** From now on it gives nothing new: `held` are the ids of the updates on the disks of honest peers. */
  quieten(held: ReadonlySet<string>): void {
    this.givesProofs = false;
    this.updates = this.updates.filter(({ id }) => held.has(id));
    for (const [root, { id }] of this.bodies) if (!held.has(id)) this.bodies.delete(root);
  }

  /** Tells these peers alone (null: all), if it is small enough for gossip. */
  tell(message: Uint8Array, only: ReadonlySet<string> | null = null): void {
    if (message.length <= GOSSIP_BYTES_MAX)
      void this.place.transport.publish(message, only).catch(() => undefined);
  }

  /** Opens a sync session with `peerId` and lies in it, as `random` says or in one way. Never rejects. */
  async openSync(peerId: string, random: Prng, lie: SyncLie | null = null): Promise<void> {
    try {
      const stream = await this.place.transport.open('sync', peerId, new AbortController().signal);
      await talkSync(this, stream, random, lie);
    } catch {
      // Whom it talked to had enough of it, which is its right.
    }
  }

  async #serve(kind: StreamKind, stream: FrameStream): Promise<void> {
    if (kind === 'sync') await talkSync(this, stream, this.random);
    else await serveBlob(this, stream, this.random);
  }

  #hear(message: Uint8Array): void {
    if (this.heard.length < HEARD_MAX) this.heard.push(message);
    try {
      const decoded = decodeGossip(this.run, this.formats, message);
      if (decoded.kind === 'update') this.remember(decoded.update);
      if (decoded.kind === 'seal' && this.seals.length < HEARD_MAX) this.seals.push(decoded.seal);
    } catch {
      // Another hostile member's nonsense.
    }
  }
}
