/**
 * Which runs are here and who takes part: what a bootstrap node (many runs) or a peer (its own run)
 * knows. Bounded in runs, peers and bytes; entries that nobody renews expire.
 */
import { checkAdmission, type Refusal } from '../../protocol/admission.js';
import { UpdateRejectedError } from '../../protocol/errors.js';
import { decodeManifest } from '../../protocol/manifest-codec.js';
import type { Run } from '../../protocol/manifest.js';
import { isListed } from '../../protocol/members.js';
import type { SignedAdmission } from '../../protocol/wire/messages.js';
import { RUNS_MAX, RUN_PEERS_MAX } from '../../protocol/limits.js';
import { cleanAddresses } from './addresses.js';
import { IntroduceError, NotAdmittedError } from './errors.js';

/** A peer is listed for this long after it last announced itself, in ms (peers do so every 30 s). */
export const PEER_EXPIRY_MS = 60 * 60_000;

/** A run is listed for this long after a member last announced itself, in ms. */
export const RUN_EXPIRY_MS = 24 * 60 * 60_000;

/** Manifest bytes of all runs together; the snapshot is one file and is read into memory. */
export const MANIFESTS_BYTES_MAX = 16 * 1024 * 1024;

/** Runs that one peer may bring in, so that no single peer fills the list. */
export const RUNS_PER_PEER_MAX = 8;

const NO_ROOM = 'no room for another run';

/** How to reach a member: a peer id and multiaddrs without their /p2p part. */
export interface PeerAddresses {
  peerId: string;
  addresses: string[];
}

/** A run and the members known here, the most recently seen first. */
export interface KnownRun {
  run: Run;
  peers: PeerAddresses[];
}

/** What a member says of itself. */
export interface Announcement {
  /** 64 hex digits. */
  runId: string;
  /** Encoded manifest, for a receiver that does not know the run; null when it is left out. */
  manifest: Uint8Array | null;
  addresses: readonly string[];
  /** How it became a member, where it was invited. */
  admission?: SignedAdmission | null;
}

/** Whom a member lets into its run: node/peer/door.ts. */
export interface Door {
  /** By which this peer itself is a member; null when the manifest lists it. */
  readonly admission: SignedAdmission | null;
  isMember(peerId: string): boolean;
  /** Null when `peerId`, as its connection proved it, is a member now, else why not. */
  knock(peerId: string, admission: SignedAdmission | null): Refusal | null;
  /** What a peer that we asked says of itself. */
  meet(admission: SignedAdmission): void;
}

/** JSON form: what a bootstrap node keeps on disk. Manifests in base64. */
export interface RegistrySnapshot {
  runs: {
    manifest: string;
    offeredBy: string;
    seenMs: number;
    peers: { peerId: string; addresses: string[]; seenMs: number }[];
  }[];
}

interface Member {
  addresses: string[];
  seenMs: number;
}

interface Entry {
  run: Run;
  offeredBy: string;
  /** Never expires: a peer's own run. */
  pinned: boolean;
  seenMs: number;
  members: Map<string, Member>;
}

export interface RegistryInit {
  /** The run of a peer, which then takes no other; null for a bootstrap node. */
  own: Run | null;
  /** Of the own run; without one, as at a bootstrap node, whoever shows a valid admission is taken for a member. */
  door?: Door;
  /** Milliseconds since 1970. */
  now?: () => number;
  /** Called after each change that a snapshot would show. */
  onChange?: () => void;
}

export class RunRegistry {
  readonly #entries = new Map<string, Entry>();
  readonly #own: Run | null;
  readonly #door: Door | null;
  readonly #now: () => number;
  readonly #onChange: () => void;

  constructor(init: RegistryInit) {
    this.#own = init.own;
    this.#door = init.door ?? null;
    this.#now = init.now ?? Date.now;
    this.#onChange = init.onChange ?? ((): void => undefined);
    if (init.own !== null) this.#add(init.own, '', true);
  }

  /** The runs known here, or the one with `runId`. */
  list(runId: string | null): KnownRun[] {
    this.#expire();
    const chosen = runId === null ? [...this.#entries.values()] : [this.#entries.get(runId)];
    const known: KnownRun[] = [];
    for (const entry of chosen) {
      if (entry === undefined) continue;
      const members = [...entry.members].sort(([, a], [, b]) => b.seenMs - a.seenMs);
      const peers = members.map(([peerId, { addresses }]) => ({ peerId, addresses }));
      known.push({ run: entry.run, peers });
    }
    return known;
  }

  /**
   * Lists `peerId` (as its connection proved it) as a member. False when the run is not known here and
   * no manifest came along.
   * @throws IntroduceError when the announcement cannot be taken; NotAdmittedError; InvalidManifestError.
   */
  announce(peerId: string, announcement: Announcement): boolean {
    this.#expire();
    const { runId, manifest } = announcement;
    const known = this.#entries.get(runId);
    if (known === undefined && manifest === null) return false;
    const run = known?.run ?? this.#decodeOffer(peerId, runId, manifest ?? new Uint8Array());
    // Checked first, so that an announcement that is refused takes no room.
    const refusal = this.#knock(run, peerId, announcement.admission ?? null);
    if (refusal !== null) throw new NotAdmittedError(refusal, run.manifest, peerId);
    const addresses = usableAddresses(peerId, announcement.addresses);
    this.#note(known ?? this.#add(run, peerId, false), peerId, addresses, this.#now());
    return true;
  }

  /** Whether `peerId` may hear who else takes part in `run`. */
  isPrivy(run: Run, peerId: string): boolean {
    if (this.#door !== null) return this.#door.isMember(peerId);
    const isListedHere = this.#entries.get(run.id)?.members.has(peerId) === true;
    return isListedHere || isListed(run.manifest.membership, peerId);
  }

  /** Whether `peerId` is listed as a member of a run. */
  isMember(peerId: string): boolean {
    this.#expire();
    return [...this.#entries.values()].some(({ members }) => members.has(peerId));
  }

  /** Whether `from` may take part in a run that lists `to` as a member. */
  mayMeet(from: string, to: string): boolean {
    this.#expire();
    return [...this.#entries.values()].some(
      ({ run, members }) => members.has(to) && mayTakePart(run, from),
    );
  }

  snapshot(): RegistrySnapshot {
    this.#expire();
    const runs = [...this.#entries.values()].map(({ run, offeredBy, seenMs, members }) => ({
      manifest: Buffer.from(run.bytes).toString('base64'),
      offeredBy,
      seenMs,
      peers: [...members].map(([peerId, member]) => ({ peerId, ...member })),
    }));
    return { runs };
  }

  /** Takes back what snapshot() gave, through the same checks as what peers announce. */
  restore(snapshot: RegistrySnapshot): void {
    const now = this.#now();
    for (const { manifest, offeredBy, seenMs, peers } of snapshot.runs.slice(0, RUNS_MAX)) {
      const run = decodeManifest(Buffer.from(manifest, 'base64'));
      const entry = this.#entries.get(run.id) ?? this.#add(run, offeredBy, false);
      // A clock that was ahead when this was written must not keep an entry for longer.
      entry.seenMs = Math.min(seenMs, now);
      for (const peer of peers) {
        // The invited showed their admissions when they came.
        const isRefused =
          run.manifest.membership.mode === 'allowlist' && !mayTakePart(run, peer.peerId);
        if (isRefused) throw new IntroduceError(`${peer.peerId} is on no list`);
        const addresses = usableAddresses(peer.peerId, peer.addresses);
        this.#note(entry, peer.peerId, addresses, Math.min(peer.seenMs, now));
      }
    }
    this.#expire();
  }

  /** Null for a member. */
  #knock(run: Run, peerId: string, admission: SignedAdmission | null): Refusal | null {
    if (this.#door !== null) return this.#door.knock(peerId, admission);
    if (isListed(run.manifest.membership, peerId)) return null;
    if (admission === null) return 'not-a-member';
    try {
      return checkAdmission(run, admission).member === peerId ? null : 'bad-admission';
    } catch (error) {
      if (error instanceof UpdateRejectedError) return 'bad-admission';
      throw error;
    }
  }

  /** The offered run, for which there is room then; what is refused without decoding costs nothing. */
  #decodeOffer(peerId: string, runId: string, manifest: Uint8Array): Run {
    if (this.#own !== null) throw new IntroduceError('this peer introduces its own run alone');
    const offered = [...this.#entries.values()].filter(({ offeredBy }) => offeredBy === peerId);
    if (offered.length >= RUNS_PER_PEER_MAX) throw new IntroduceError(NO_ROOM);
    const run = decodeManifest(manifest);
    if (run.id !== runId) throw new IntroduceError('the manifest is that of another run');
    this.#makeRoom(run.bytes.length);
    return run;
  }

  /** Forgets runs without a living member, the one unheard of for longest first, until one more fits. */
  #makeRoom(manifestBytes: number): void {
    const isFull = (): boolean => {
      let bytes = manifestBytes;
      for (const { run } of this.#entries.values()) bytes += run.bytes.length;
      return this.#entries.size >= RUNS_MAX || bytes > MANIFESTS_BYTES_MAX;
    };
    const deserted = [...this.#entries]
      .filter(([, { pinned, members }]) => !pinned && members.size === 0)
      .sort(([, a], [, b]) => b.seenMs - a.seenMs);
    while (isFull()) {
      const next = deserted.pop();
      if (next === undefined) throw new IntroduceError(NO_ROOM);
      this.#entries.delete(next[0]);
    }
  }

  #add(run: Run, offeredBy: string, pinned: boolean): Entry {
    const entry: Entry = { run, offeredBy, pinned, seenMs: this.#now(), members: new Map() };
    this.#entries.set(run.id, entry);
    return entry;
  }

  #note(entry: Entry, peerId: string, addresses: string[], seenMs: number): void {
    entry.members.set(peerId, { addresses, seenMs });
    entry.seenMs = Math.max(entry.seenMs, seenMs);
    if (entry.members.size > RUN_PEERS_MAX) {
      // Members that are alive announce themselves again, so the one unheard of for longest is the loss.
      const oldest = [...entry.members].reduce((a, b) => (b[1].seenMs < a[1].seenMs ? b : a));
      entry.members.delete(oldest[0]);
    }
    this.#onChange();
  }

  #expire(): void {
    const now = this.#now();
    for (const [runId, { pinned, seenMs, members }] of this.#entries) {
      for (const [peerId, member] of members) {
        if (now - member.seenMs > PEER_EXPIRY_MS) members.delete(peerId);
      }
      if (!pinned && now - seenMs > RUN_EXPIRY_MS) this.#entries.delete(runId);
    }
  }
}

/** What of `addresses` can be dialled. @throws IntroduceError when that is nothing. */
function usableAddresses(peerId: string, addresses: readonly string[]): string[] {
  const clean = cleanAddresses(peerId, addresses);
  if (clean.length === 0) throw new IntroduceError(`no usable address of ${peerId}`);
  return clean;
}

/** As far as the manifest says: the members of a run with invites judge for themselves who comes. */
function mayTakePart({ manifest: { membership } }: Run, peerId: string): boolean {
  return membership.mode === 'invite' || isListed(membership, peerId);
}
