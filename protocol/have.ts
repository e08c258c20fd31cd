/** Have-vectors: which epochs of which author a log holds, as bitmaps in frames of bounded size. */
import type { Amendment } from './amendment.js';
import { copyOf, fromHex, toHex } from './bytes.js';
import { fromBitmap, toBitmap } from './bitmap.js';
import { SyncProtocolError } from './errors.js';
import { peerIdFromPublicKey, publicKeyFromPeerId } from './identity.js';
import * as limits from './limits.js';
import type { UpdateLog } from './log.js';
import type { Run } from './manifest.js';
import * as wire from './wire/messages.js';

/** Two fields of 32 bytes, their tags and lengths, and the tag and length of the bitmap. */
const ENTRY_OVERHEAD_BYTES = 80;

/** What one side said that it holds, or wants. */
export class HaveVector {
  readonly #epochs = new Map<string, Uint8Array>();
  readonly #digests = new Map<string, string>();
  /** Author -> the epoch from which on its updates do not count. */
  readonly evicted = new Map<string, number>();
  #bytes = 0;

  /**
   * Adds the entries of one frame of `frameBytes`: what it costs its sender counts, whatever is in it.
   * @throws SyncProtocolError beyond a bound.
   */
  add(
    entries: readonly (wire.Held | wire.Wanted)[],
    evicted: readonly wire.Evicted[],
    frameBytes: number,
  ): void {
    this.#bytes += frameBytes;
    if (this.#bytes > limits.HAVE_BYTES_MAX) {
      throw new SyncProtocolError(`a vector of more than ${limits.HAVE_BYTES_MAX} bytes`);
    }
    for (const entry of entries) {
      const author = authorOf(entry.author);
      this.#epochs.set(author, copyOf(entry.epochs));
      if (!('digest' in entry)) continue;
      if (entry.digest.length !== 32) throw new SyncProtocolError('an entry without its digest');
      this.#digests.set(author, toHex(entry.digest));
    }
    for (const { author, fromEpoch } of evicted) this.evicted.set(authorOf(author), fromEpoch);
    if (this.#epochs.size > limits.AUTHORS_MAX || this.evicted.size > limits.EVICTED_MAX) {
      throw new SyncProtocolError(`a vector of more than ${limits.AUTHORS_MAX} authors`);
    }
  }

  authors(): string[] {
    return [...this.#epochs.keys()].sort();
  }

  /** Epochs of `author` from `epochMin` to `epochMax` in ascending order: the range is what this peer can use. */
  epochsOf(author: string, epochMin: number, epochMax: number): number[] {
    return fromBitmap(this.#epochs.get(author) ?? new Uint8Array(), epochMin, epochMax + 1);
  }

  /** Whether it names this epoch of `author`. */
  has(author: string, epoch: number): boolean {
    return (((this.#epochs.get(author)?.[epoch >> 3] ?? 0) >> (epoch & 7)) & 1) === 1;
  }

  /** Hex SHA-256 over the ids of the author's updates; undefined when not said. */
  digestOf(author: string): string | undefined {
    return this.#digests.get(author);
  }
}

/** What a side says of its seals: the certificate that it has adopted, and a digest of the seals that it holds. */
export interface SealSummary {
  /** Null before the first certificate. */
  sealed: { epoch: number; statement: string } | null;
  /** 32 bytes; none when no seal is held. */
  digest: Uint8Array;
}

export const NO_SEALS: SealSummary = { sealed: null, digest: new Uint8Array() };

/** The frame that a side opens with: the digests of its log and its seals, and the run's amendment. */
export function encodeOpening(
  run: Run,
  log: UpdateLog,
  clockMs: number,
  { sealed, digest }: SealSummary,
  amendment: Amendment | null = null,
): Uint8Array {
  return wire.SyncFrame.encode({
    have: {
      ...{ runId: fromHex(run.id), clockMs, authors: [], evicted: [], last: false },
      logDigest: Uint8Array.from(log.digest()),
      admissionsDigest: log.members.digest(),
      sealsDigest: Uint8Array.from(digest),
      ...(sealed !== null && {
        sealed: { epoch: sealed.epoch, statement: fromHex(sealed.statement) },
      }),
      ...(amendment !== null && { amendment: amendment.signed }),
    },
  });
}

/** Those of the first frame, left out of all others. */
const DIGESTS = {
  logDigest: new Uint8Array(),
  admissionsDigest: new Uint8Array(),
  sealsDigest: new Uint8Array(),
};

/** The frames that say what `log` holds. */
export function* encodeHave(run: Run, log: UpdateLog): Generator<Uint8Array> {
  const evicted = log
    .proofs()
    .map(({ author, epoch }) => ({ author: publicKeyFromPeerId(author), fromEpoch: epoch }));
  const entries = log.authors().map((author) => ({
    author: publicKeyFromPeerId(author),
    epochs: toBitmap(log.epochsOf(author)),
    digest: Uint8Array.from(log.authorDigest(author)),
  }));
  const fixed = { runId: fromHex(run.id), clockMs: 0, ...DIGESTS };
  for (const { authors, last } of inFrames(entries)) {
    yield wire.SyncFrame.encode({
      have: { ...fixed, authors, evicted: evicted.splice(0), last },
    });
  }
}

/** The frames that ask for `slots`: author -> epochs in ascending order. */
export function* encodeWant(slots: ReadonlyMap<string, readonly number[]>): Generator<Uint8Array> {
  const entries = [...slots].map(([author, epochs]) => ({
    author: publicKeyFromPeerId(author),
    epochs: toBitmap(epochs),
  }));
  for (const { authors, last } of inFrames(entries)) {
    yield wire.SyncFrame.encode({ want: { authors, last } });
  }
}

/** Cuts entries into frames of about SYNC_CHUNK_BYTES; at least one frame. */
function* inFrames<T extends { epochs: Uint8Array }>(
  entries: readonly T[],
): Generator<{ authors: T[]; last: boolean }> {
  let authors: T[] = [];
  let bytes = 0;
  for (const entry of entries) {
    const size = entry.epochs.length + ENTRY_OVERHEAD_BYTES;
    // The list of evicted authors rides in the first frame: half a frame is left for it.
    if (bytes + size > limits.SYNC_CHUNK_BYTES / 2) {
      yield { authors, last: false };
      authors = [];
      bytes = 0;
    }
    authors.push(entry);
    bytes += size;
  }
  yield { authors, last: true };
}

function authorOf(publicKey: Uint8Array): string {
  if (publicKey.length !== 32) {
    throw new SyncProtocolError(`an author key of ${publicKey.length} bytes`);
  }
  return peerIdFromPublicKey(publicKey);
}
