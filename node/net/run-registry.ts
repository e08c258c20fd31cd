/**
 * Which runs are here and who takes part: what a bootstrap node (many runs) or a peer (its own run)
 * knows. Bounded in runs, peers and bytes; entries that nobody renews expire, and places.ts says who keeps a place.
 */
import { bytesEqual, fromHex, sha256 } from '../../protocol/bytes.js';
import { checkAdmission, type Admission, type Refusal } from '../../protocol/admission.js';
import { UpdateRejectedError } from '../../protocol/errors.js';
import { decodeManifest } from '../../protocol/manifest-codec.js';
import type { Run } from '../../protocol/manifest.js';
import { isListed } from '../../protocol/members.js';
import type { SignedAdmission } from '../../protocol/wire/messages.js';
import * as limits from '../../protocol/limits.js';
import { SystemClock } from '../clock.js';
import type { Clock } from '../interfaces.js';
import { cleanAddresses } from './addresses.js';
import { DecodedManifests } from './decoded-manifests.js';
import { IntroduceError, NotAdmittedError } from './errors.js';
import { OriginRates } from './origin-rates.js';
import { lotsAt, sample, secretFrom, surplus, type Place, type Room } from './places.js';

/** A peer is listed for this long after it last announced itself, in ms (peers do so every 30 s). */
export const PEER_EXPIRY_MS = 60 * 60_000;

/** A run is listed for this long after a member last announced itself, in ms. */
export const RUN_EXPIRY_MS = 24 * 60 * 60_000;

/** Manifest bytes of all runs together; the snapshot is one file and is read into memory. */
export const MANIFESTS_BYTES_MAX = 16 * 1024 * 1024;

/** Runs that one peer may bring in, and runs that it may be listed in: a peer takes part in one. */
export const RUNS_PER_PEER_MAX = 8;

/** Members that missed six announcements are gone, in ms: their places are the first to be given away. */
export const PEER_ABSENT_MS = 3 * 60_000;

/** The same for a run in which nobody announced itself, in ms: its peers may all be starting again. */
export const RUN_ABSENT_MS = 10 * 60_000;

const MEMBER_ROOM: Room = { capacity: limits.RUN_PEERS_MAX, absentMs: PEER_ABSENT_MS };

/** Runs take room by their bytes, each at least its part of them, so that these bound the number as well. */
const RUN_ROOM: Room = { capacity: MANIFESTS_BYTES_MAX, absentMs: RUN_ABSENT_MS };
const RUN_COST_MIN = MANIFESTS_BYTES_MAX / limits.RUNS_MAX;

/** Members named for each run to whoever asks for all runs: enough to get in. */
const PEERS_OF_MANY = 8;

export const CHECK_RATES = {
  perKey: {
    burst: limits.INTRODUCTION_CHECKS_BURST,
    perSecond: limits.INTRODUCTION_CHECKS_PER_MINUTE / 60,
  },
  perOrigin: {
    burst: limits.NETWORK_INTRODUCTION_CHECKS_BURST,
    perSecond: limits.NETWORK_INTRODUCTION_CHECKS_PER_MINUTE / 60,
  },
};

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
  /** Where its connection comes from (origin.ts). */
  origin: string;
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
    origin: string;
    sinceMs: number;
    seenMs: number;
    peers: {
      peerId: string;
      addresses: string[];
      origin: string;
      sinceMs: number;
      seenMs: number;
      invitation: string | null;
    }[];
  }[];
}

/** Of a run or a member: when it was last announced, and its place. */
interface Listed extends Place {
  seenMs: number;
  aliveMs: number;
}

interface Member extends Listed {
  peerId: string;
  addresses: string[];
  /** The invitation that it used; null when it was not invited, or not by what is known here. */
  invitation: string | null;
}

interface Entry extends Listed {
  run: Run;
  offeredBy: string;
  /** Never expires: a peer's own run. */
  pinned: boolean;
  members: Map<string, Member>;
}

export interface RegistryInit {
  /** The run of a peer, which then takes no other; null for a bootstrap node. */
  own: Run | null;
  /** Of the own run; without one, as at a bootstrap node, whoever shows a valid admission is taken for a member. */
  door?: Door;
  clock?: Clock;
  /** In [0, 1). */
  random?: () => number;
  /** Peer ids that are connected now: those are there, although they say nothing. */
  connected?: () => ReadonlySet<string>;
  /** Called after each change that a snapshot would show. */
  onChange?: () => void;
}

export class RunRegistry {
  readonly #entries = new Map<string, Entry>();
  readonly #own: Run | null;
  readonly #door: Door | null;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #secret: string;
  readonly #connected: () => ReadonlySet<string>;
  readonly #onChange: () => void;
  readonly #decoded = new DecodedManifests();
  readonly #checks: OriginRates;

  constructor(init: RegistryInit) {
    this.#own = init.own;
    this.#door = init.door ?? null;
    this.#clock = init.clock ?? new SystemClock();
    this.#random = init.random ?? Math.random;
    this.#secret = secretFrom(this.#random);
    this.#connected = init.connected ?? ((): ReadonlySet<string> => new Set());
    this.#onChange = init.onChange ?? ((): void => undefined);
    this.#checks = new OriginRates(this.#clock, CHECK_RATES);
    if (init.own !== null) {
      const entry = entryOf(init.own, '', '', this.#now());
      this.#entries.set(init.own.id, { ...entry, pinned: true });
    }
  }

  /** All that is known of the runs here, or of the one with `runId`. */
  list(runId: string | null): KnownRun[] {
    return this.#chosen(runId).map(({ run, members }) => ({
      run,
      peers: [...members.values()].sort((a, b) => b.seenMs - a.seenMs).map(addressesOf),
    }));
  }

  /**
   * What `peerId` is told: members of the run with `runId`, or of all runs whose manifests have `bytesMax` together.
   * Samples, in which long-standing ones and newcomers of many networks are mixed (places.ts).
   */
  introduce(peerId: string, runId: string | null, bytesMax: number): KnownRun[] {
    const nowMs = this.#now();
    const entries = this.#chosen(runId);
    this.#noteConnected(entries, nowMs);
    const chosen =
      runId === null
        ? sample(
            entries.map((entry) => ({ ...entry, cost: entry.run.bytes.length })),
            bytesMax,
            RUN_ROOM,
            nowMs,
            this.#random,
          )
        : entries;
    const count = runId === null ? PEERS_OF_MANY : limits.INTRODUCED_PEERS_MAX;
    return chosen.map(({ run, members }) => {
      const others = [...members.values()].filter((member) => member.peerId !== peerId);
      const peers = sample(others, count, MEMBER_ROOM, nowMs, this.#random);
      return { run, peers: peers.map(addressesOf) };
    });
  }

  /**
   * Takes note of `peerId` (as its connection proved it) as a member, and lists it if it gets a place. False when the
   * run is not known here and no manifest came along. What costs least is looked at first.
   * @throws IntroduceError when the announcement cannot be taken; NotAdmittedError; InvalidManifestError.
   */
  announce(peerId: string, announcement: Announcement): boolean {
    this.#expire();
    const { runId, manifest, origin } = announcement;
    const known = this.#entries.get(runId);
    if (known === undefined && manifest === null) return false;
    const admission = announcement.admission ?? null;
    const isPlain = known !== undefined && admission === null;
    // Checked first, so that an announcement that is refused takes no room.
    const early = isPlain ? this.#admit(known.run, peerId, origin, null) : undefined;
    const addresses = usableAddresses(peerId, announcement.addresses);
    if (known?.members.has(peerId) !== true) this.#checkShare(peerId);
    const run = known?.run ?? this.#decodeOffer(peerId, announcement);
    const invitation = early === undefined ? this.#admit(run, peerId, origin, admission) : early;
    const entry = known ?? this.#makeRoom(entryOf(run, peerId, origin, this.#now()));
    this.#note(entry, { peerId, addresses, origin, invitation }, this.#now());
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
    const runs = [...this.#entries.values()].map(
      ({ run, offeredBy, origin, sinceMs, seenMs, members }) => ({
        manifest: Buffer.from(run.bytes).toString('base64'),
        ...{ offeredBy, origin, sinceMs, seenMs },
        peers: [...members.values()].map((member) => ({
          ...addressesOf(member),
          origin: member.origin,
          sinceMs: member.sinceMs,
          seenMs: member.seenMs,
          invitation: member.invitation,
        })),
      }),
    );
    return { runs };
  }

  /** Takes back what snapshot() gave, through the same checks as what peers announce. */
  restore(snapshot: RegistrySnapshot): void {
    const now = this.#now();
    // A clock that was ahead when this was written must not keep an entry for longer.
    const past = (ms: number): number => Math.min(ms, now);
    for (const saved of snapshot.runs.slice(0, limits.RUNS_MAX)) {
      const run = decodeManifest(Buffer.from(saved.manifest, 'base64'));
      const entry =
        this.#entries.get(run.id) ??
        this.#makeRoom({
          ...entryOf(run, saved.offeredBy, saved.origin, now),
          sinceMs: past(saved.sinceMs),
        });
      entry.seenMs = past(saved.seenMs);
      for (const { seenMs, sinceMs, ...peer } of saved.peers) {
        // The invited showed their admissions when they came.
        const isRefused =
          run.manifest.membership.mode === 'allowlist' && !mayTakePart(run, peer.peerId);
        if (isRefused) throw new IntroduceError(`${peer.peerId} is on no list`);
        const addresses = usableAddresses(peer.peerId, peer.addresses);
        this.#note(entry, { ...peer, addresses }, past(seenMs), past(sinceMs));
      }
    }
    this.#expire();
  }

  /** The invitation by which `peerId` is a member; null when it needs none. @throws NotAdmittedError. */
  #admit(run: Run, peerId: string, origin: string, message: SignedAdmission | null): string | null {
    const refuse = (refusal: Refusal): never => {
      throw new NotAdmittedError(refusal, run.manifest, peerId);
    };
    if (this.#door !== null) {
      if (message !== null && !this.#door.isMember(peerId)) this.#spendCheck(peerId, origin);
      const refusal = this.#door.knock(peerId, message);
      return refusal === null ? null : refuse(refusal);
    }
    if (isListed(run.manifest.membership, peerId)) return null;
    const members = this.#entries.get(run.id)?.members;
    const listed = members?.get(peerId);
    if (listed !== undefined) return listed.invitation;
    if (message === null) return refuse('not-a-member');
    this.#spendCheck(peerId, origin);
    const admission = admissionIn(run, message);
    if (admission?.member !== peerId) return refuse('bad-admission');
    // An invitation is for one: whoever has it could else fill the list with names.
    const isUsed = [...(members?.values() ?? [])].some(
      ({ invitation }) => invitation === admission.invitation,
    );
    return isUsed ? refuse('used') : admission.invitation;
  }

  /** @throws IntroduceError when `peerId` is listed in as many runs as it may be. */
  #checkShare(peerId: string): void {
    const runs = [...this.#entries.values()].filter(({ members }) => members.has(peerId));
    if (runs.length >= RUNS_PER_PEER_MAX) {
      throw new IntroduceError(`a peer is listed in ${RUNS_PER_PEER_MAX} runs at most`);
    }
  }

  /** The offered run; what is refused without decoding costs nothing. */
  #decodeOffer(peerId: string, { runId, manifest, origin }: Announcement): Run {
    if (this.#own !== null) throw new IntroduceError('this peer introduces its own run alone');
    const offered = [...this.#entries.values()].filter(({ offeredBy }) => offeredBy === peerId);
    if (offered.length >= RUNS_PER_PEER_MAX) throw new IntroduceError(NO_ROOM);
    const recalled = this.#decoded.recall(runId);
    if (recalled !== null) return recalled;
    const bytes = manifest ?? new Uint8Array();
    if (bytes.length > limits.MANIFEST_BYTES_MAX) throw new IntroduceError('a manifest too long');
    this.#spendCheck(peerId, origin);
    if (!bytesEqual(sha256(bytes), fromHex(runId))) {
      throw new IntroduceError('the manifest is that of another run');
    }
    return this.#decoded.decode(runId, bytes);
  }

  /** @throws IntroduceError when `peerId`, or its network, had as much checked as it may. */
  #spendCheck(peerId: string, origin: string): void {
    if (this.#checks.tryTake(peerId, origin)) return;
    throw new IntroduceError('too many manifests and admissions to check, of this peer or network');
  }

  /** Adds a run, for which others may give way. @throws IntroduceError when it is the one that must. */
  #makeRoom(entry: Entry): Entry {
    const nowMs = this.#now();
    const rivals = [...this.#entries.values()].filter(({ pinned }) => !pinned);
    const evicted = surplus([...rivals, entry], RUN_ROOM, nowMs, lotsAt(this.#secret, nowMs));
    if (evicted.includes(entry)) throw new IntroduceError(NO_ROOM);
    for (const { run } of evicted) this.#entries.delete(run.id);
    this.#entries.set(entry.run.id, entry);
    return entry;
  }

  /** Lists a member, or what is new of one; whoever has to give way for it may be itself. */
  #note(
    entry: Entry,
    what: Pick<Member, 'peerId' | 'addresses' | 'origin' | 'invitation'>,
    seenMs: number,
    restoredMs: number | null = null,
  ): void {
    const nowMs = this.#now();
    const { members } = entry;
    const known = members.get(what.peerId);
    // Age is that of a key in its place: who has aged in one network has not in the next.
    const sinceMs = restoredMs ?? (known?.origin === what.origin ? known.sinceMs : nowMs);
    // Whoever was here when this node went down gets the time to come back.
    members.set(what.peerId, { ...what, cost: 1, sinceMs, seenMs, aliveMs: nowMs });
    entry.seenMs = Math.max(entry.seenMs, seenMs);
    entry.aliveMs = nowMs;
    if (members.size > limits.RUN_PEERS_MAX) this.#noteConnected([entry], nowMs);
    const lots = lotsAt(this.#secret, nowMs);
    for (const { peerId } of surplus([...members.values()], MEMBER_ROOM, nowMs, lots)) {
      members.delete(peerId);
    }
    this.#onChange();
  }

  #noteConnected(entries: readonly Entry[], nowMs: number): void {
    const connected = this.#connected();
    for (const { members } of entries) {
      for (const member of members.values()) {
        if (connected.has(member.peerId)) member.aliveMs = nowMs;
      }
    }
  }

  #chosen(runId: string | null): Entry[] {
    this.#expire();
    if (runId === null) return [...this.#entries.values()];
    const entry = this.#entries.get(runId);
    return entry === undefined ? [] : [entry];
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

  #now(): number {
    return this.#clock.now();
  }
}

function entryOf(run: Run, offeredBy: string, origin: string, nowMs: number): Entry {
  const cost = Math.max(RUN_COST_MIN, run.bytes.length);
  const times = { sinceMs: nowMs, seenMs: nowMs, aliveMs: nowMs };
  return { run, offeredBy, origin, cost, ...times, pinned: false, members: new Map() };
}

function addressesOf({ peerId, addresses }: Member): PeerAddresses {
  return { peerId, addresses };
}

/** What `message` says; null when it does not hold. */
function admissionIn(run: Run, message: SignedAdmission): Admission | null {
  try {
    return checkAdmission(run, message);
  } catch (error) {
    if (error instanceof UpdateRejectedError) return null;
    throw error;
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
