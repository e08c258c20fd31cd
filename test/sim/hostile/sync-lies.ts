/** What a hostile member says in a sync session: other digests, vectors of what nobody has, slow, wrong or no answers. */
import type { FrameStream } from '../../../node/interfaces.js';
import { fromHex, sha256 } from '../../../protocol/bytes.js';
import { equivocationToWire } from '../../../protocol/gossip.js';
import { publicKeyFromPeerId } from '../../../protocol/identity.js';
import { equivocationProof } from '../../../protocol/equivocation.js';
import type { Prng } from '../../../protocol/prng.js';
import { updateToWire } from '../../../protocol/update.js';
import * as wire from '../../../protocol/wire/messages.js';
import type { HostileMember } from './member.js';
import { makeUpdate, throwAwayProof } from './messages.js';
import { inventedSeals } from './seal-lies.js';
import { between, pick } from './settings.js';

const LIES = [
  /** Gives what it heard, and its own updates that it told nobody. */
  'gives-all',
  /** Says that its log is the same, whatever the other has. */
  'same',
  /** Says that it holds every epoch of everybody, and then gives little, nothing, or something else. */
  'holds-all',
  /** Says that everybody was evicted. */
  'all-evicted',
  /** Asks for everything, of everybody. */
  'wants-all',
  /** Gives proofs of its own and of throw-away keys. */
  'proofs',
  /** Says nothing, or stops in the middle. */
  'silent',
  'stops',
  /** One frame every nine seconds. */
  'trickles',
  /** Frames of kinds that do not exist yet. */
  'unknown-frames',
  /** A certificate and seals of its own invention. */
  'invents-seals',
  /** A clock at the beginning or the end of time. */
  'clock',
] as const;
export type SyncLie = (typeof LIES)[number];

/** Within every deadline of the reader, in ms. */
const TRICKLE_MS = 9_000;
/** A clock value that a frame can just hold. */
const CLOCK_MS_MAX = Number.MAX_SAFE_INTEGER;

/** One side of one session; ends when the other does. */
export async function talkSync(
  member: HostileMember,
  stream: FrameStream,
  random: Prng,
  chosen: SyncLie | null = null,
): Promise<void> {
  const lie = chosen ?? pick(random, LIES);
  if (lie === 'silent') return;
  const session = new LyingSession(member, stream, random, lie);
  await session.talk();
}

class LyingSession {
  readonly #member: HostileMember;
  readonly #stream: FrameStream;
  readonly #random: Prng;
  readonly #lie: SyncLie;
  #isOpened = false;
  #hasAsked = false;

  constructor(member: HostileMember, stream: FrameStream, random: Prng, lie: SyncLie) {
    this.#member = member;
    this.#stream = stream;
    this.#random = random;
    this.#lie = lie;
  }

  async talk(): Promise<void> {
    for await (const bytes of this.#stream.frames) {
      const frame = wire.SyncFrame.decode(bytes);
      if (frame.have) await this.#onHave(frame.have);
      if (frame.want?.last) await this.#reply();
      if (frame.end) return;
    }
  }

  /** The other's opening first: who lies about a digest must know the true one. */
  async #onHave(have: wire.Have): Promise<void> {
    if (!this.#isOpened) {
      this.#isOpened = true;
      await this.#open(have);
    }
    const isSame = this.#lie === 'same';
    if ((have.last || isSame) && !this.#hasAsked) {
      this.#hasAsked = true;
      await this.#send(wire.SyncFrame.encode({ want: { authors: this.#wishes(), last: true } }));
    }
  }

  async #open({ logDigest, admissionsDigest, sealsDigest, sealed }: wire.Have): Promise<void> {
    const random = this.#random;
    const clocks = [0, 1, CLOCK_MS_MAX];
    const clockMs = this.#lie === 'clock' ? pick(random, clocks) : this.#member.place.now();
    const other = sha256(Uint8Array.of(random.nextBelow(256)));
    const digests =
      this.#lie === 'same'
        ? { logDigest, admissionsDigest, sealsDigest, ...(sealed && { sealed }) }
        : {
            logDigest: other,
            admissionsDigest: pick(random, [admissionsDigest, other]),
            sealsDigest: pick(random, [sealsDigest, other]),
            ...this.#sealed(sealed),
          };
    const runId = fromHex(this.#member.run.id);
    const opening = { runId, clockMs, authors: [], evicted: [], last: false, ...digests };
    await this.#send(wire.SyncFrame.encode({ have: opening }));
    if (this.#lie === 'unknown-frames') {
      // Field 2000, a varint: what a later version may send.
      for (let i = 0; i < 20; i++) await this.#send(Uint8Array.of(0x80, 0x7d, i));
    }
    if (this.#lie === 'invents-seals') {
      for (const frame of inventedSeals(this.#member, random)) await this.#send(frame);
    }
    if (this.#lie !== 'same') await this.#vectors(runId);
  }

  async #vectors(runId: Uint8Array<ArrayBuffer>): Promise<void> {
    const { identity } = this.#member;
    const all = this.#authors();
    const authors = (this.#lie === 'gives-all' ? this.#held() : all.map(everyEpoch)).map(
      (held) => ({
        ...held,
        digest: sha256(held.author),
      }),
    );
    const named = this.#lie === 'all-evicted' ? [...all] : [];
    if (this.#lie === 'proofs') named.push(publicKeyFromPeerId(identity.peerId));
    const evicted = named.map((author) => ({ author, fromEpoch: this.#random.nextBelow(4) }));
    const none = new Uint8Array();
    const digests = { logDigest: none, admissionsDigest: none, sealsDigest: none };
    const fixed = { runId, clockMs: 0, ...digests };
    await this.#send(wire.SyncFrame.encode({ have: { ...fixed, authors, evicted, last: true } }));
  }

  /** The certificate that it says it has adopted: the other's, none, or one that nobody has. */
  #sealed(theirs: wire.SealName | undefined): Pick<wire.Have, 'sealed'> {
    const { sealEvery } = this.#member.run.manifest.fold;
    if (sealEvery === 0 || this.#random.nextFloat() < 0.3) return {};
    const epoch = sealEvery * between(this.#random, 1, 10);
    const sealed = pick(this.#random, [theirs, { epoch, statement: sha256(Uint8Array.of(epoch)) }]);
    return sealed ? { sealed } : {};
  }

  /** What the other should send: often nothing, for it is told everything anyway. */
  #wishes(): wire.Wanted[] {
    return this.#lie === 'wants-all' ? this.#authors().map(everyEpoch) : [];
  }

  async #reply(): Promise<void> {
    const { updates } = this.#member;
    if (this.#lie === 'stops') {
      this.#stream.abort(new Error('had enough'));
      return;
    }
    if (this.#lie === 'proofs' && this.#member.givesProofs) await this.#proofs();
    const isMean = this.#lie !== 'gives-all' && this.#lie !== 'trickles';
    const count = isMean ? between(this.#random, 0, 3) : updates.length;
    for (const update of updates.slice(-count || updates.length)) {
      const bytes = wire.Update.encode(updateToWire(update));
      await this.#send(wire.SyncFrame.encode({ chunk: { bytes, last: true } }));
      if (isMean && this.#random.nextFloat() < 0.3) break;
    }
    await this.#send(wire.SyncFrame.encode({ end: {} }));
    await this.#stream.close();
  }

  async #proofs(): Promise<void> {
    const { run } = this.#member;
    const label = `sync/${this.#random.nextUint32()}`;
    const proofs = [throwAwayProof(run, label)];
    if (this.#member.temper === 'reckless' && this.#random.nextFloat() < 0.3) {
      const [a, b] = [1, 2].map((salt) => makeUpdate(this.#member, { epoch: 0, salt: `${salt}` }));
      if (a && b) proofs.push(equivocationProof(a, b));
    }
    for (const proof of proofs) await this.#send(wire.SyncFrame.encode(equivocationToWire(proof)));
  }

  async #send(frame: Uint8Array): Promise<void> {
    if (this.#lie === 'trickles') await this.#member.place.sleep(TRICKLE_MS);
    await this.#stream.send(frame);
  }

  /** Public keys of everybody whom it has heard of, and of itself. */
  #authors(): Uint8Array<ArrayBuffer>[] {
    const { updates, peerId } = this.#member;
    const ids = new Set([peerId, ...updates.map(({ author }) => author)]);
    return [...ids].sort().map((id) => Uint8Array.from(publicKeyFromPeerId(id)));
  }

  #held(): wire.Wanted[] {
    const byAuthor = new Map<string, number[]>();
    for (const { author, epoch } of this.#member.updates)
      byAuthor.set(author, [...(byAuthor.get(author) ?? []), epoch]);
    return [...byAuthor].map(([author, epochs]) => {
      const bitmap = new Uint8Array((Math.max(...epochs) >> 3) + 1);
      for (const epoch of epochs)
        bitmap[epoch >> 3] = (bitmap[epoch >> 3] ?? 0) | (1 << (epoch & 7));
      return { author: Uint8Array.from(publicKeyFromPeerId(author)), epochs: bitmap };
    });
  }
}

/** A bitmap of 64 epochs, all set: more than any of these runs has. */
function everyEpoch(author: Uint8Array<ArrayBuffer>): wire.Wanted {
  return { author, epochs: new Uint8Array(8).fill(0xff) };
}
