/**
 * Anti-entropy (Demers et al. 1987) between two logs as a state machine: frames in, events and frames
 * out, no I/O. Both sides say what they have (one bit an author and epoch), then send what the other
 * lacks, then End. A missing share p of the set shrinks to about p^2 in a round of random pairs.
 */
import { bytesEqual, fromHex, toHex } from './bytes.js';
import { SyncProtocolError } from './errors.js';
import { peerIdFromPublicKey, publicKeyFromPeerId } from './identity.js';
import * as limits from './limits.js';
import type { UpdateLog } from './log.js';
import type { Run } from './manifest.js';
import { equivocationToWire } from './gossip.js';
import { updateToWire, UPDATE_OVERHEAD_BYTES_MAX } from './update.js';
import { maxUpdateBytes } from './slice.js';
import * as wire from './wire/messages.js';

/** What a received frame means to the peer. Updates and proofs are not checked yet. */
export type SyncEvent =
  | { kind: 'nothing' }
  | { kind: 'have'; clockMs: number }
  | { kind: 'update'; update: wire.Update }
  | { kind: 'equivocation'; equivocation: wire.Equivocation }
  | { kind: 'end'; more: boolean };

interface RemoteHave {
  epochs: Uint8Array;
  digest: Uint8Array;
}

/** One side of one session. Not reusable. */
export class SyncSession {
  readonly #run: Run;
  readonly #log: UpdateLog;
  readonly #updateBytesMax: number;
  #phase: 'have' | 'updates' | 'ended' = 'have';
  #clockMs: number | null = null;
  readonly #have = new Map<string, RemoteHave>();
  readonly #evicted = new Set<string>();
  #haveBytes = 0;
  #updateBytes = 0;
  #partial: Uint8Array[] = [];
  #partialBytes = 0;

  constructor(run: Run, log: UpdateLog) {
    this.#run = run;
    this.#log = log;
    this.#updateBytesMax = maxUpdateBytes(run) + UPDATE_OVERHEAD_BYTES_MAX;
  }

  /** The frames to open with: this side's have-vector. `clockMs` lets the other side see its offset. */
  *hello(clockMs: number): Generator<Uint8Array> {
    const runId = fromHex(this.#run.id);
    const evicted = this.#log.proofs().map(({ author }) => publicKeyFromPeerId(author));
    let authors: wire.HaveAuthor[] = [];
    let bytes = 32 * evicted.length;
    const frame = (last: boolean): Uint8Array => {
      const have = { runId, clockMs, authors, evicted: evicted.splice(0), last };
      authors = [];
      bytes = 0;
      return wire.SyncFrame.encode({ have });
    };
    for (const author of this.#log.authors()) {
      const epochs = toBitmap(this.#log.epochsOf(author));
      if (bytes + epochs.length + HAVE_AUTHOR_OVERHEAD_BYTES > limits.SYNC_CHUNK_BYTES) {
        yield frame(false);
      }
      bytes += epochs.length + HAVE_AUTHOR_OVERHEAD_BYTES;
      const digest = Uint8Array.from(this.#log.authorDigest(author));
      authors.push({ author: publicKeyFromPeerId(author), epochs, digest });
    }
    yield frame(true);
  }

  /** @throws SyncProtocolError when the frame is malformed, out of turn or beyond a bound. */
  receive(bytes: Uint8Array): SyncEvent {
    const { have, chunk, equivocation, end } = decodeFrame(bytes);
    if (this.#phase === 'ended') throw new SyncProtocolError('a frame after the end');
    if (have) return this.#onHave(have, bytes.length);
    if (this.#phase === 'have')
      throw new SyncProtocolError('the first frame must be a have-vector');
    if (equivocation) return { kind: 'equivocation', equivocation };
    if (chunk) return this.#onChunk(chunk);
    if (!end) throw new SyncProtocolError('an empty frame');
    if (this.#partial.length > 0) throw new SyncProtocolError('the end inside an update');
    this.#phase = 'ended';
    return { kind: 'end', more: end.more };
  }

  /** The frames to send once the remote's have-vector is complete: what it lacks, then End. */
  *reply(): Generator<Uint8Array> {
    for (const proof of this.#log.proofs()) {
      if (this.#evicted.has(proof.author)) continue;
      yield wire.SyncFrame.encode({ equivocation: equivocationToWire(proof) });
    }
    let sent = 0;
    for (const [epoch, author] of this.#missing()) {
      const update = this.#log.get(author, epoch);
      if (update === undefined) continue;
      const encoded = wire.Update.encode(updateToWire(update));
      if (sent + encoded.length > limits.SYNC_SESSION_BYTES_MAX) {
        yield wire.SyncFrame.encode({ end: { more: true } });
        return;
      }
      sent += encoded.length;
      yield* chunks(encoded);
    }
    yield wire.SyncFrame.encode({ end: { more: false } });
  }

  /** [epoch, author] of what the remote lacks, in ascending order of epoch. */
  #missing(): [number, string][] {
    const missing: [number, string][] = [];
    for (const author of this.#log.authors()) {
      if (this.#evicted.has(author)) continue;
      const remote = this.#have.get(author);
      const own = this.#log.epochsOf(author);
      const lacking = own.filter((epoch) => !hasBit(remote?.epochs, epoch));
      // The same epochs with other contents: the author signed two updates for one slot. Sending ours
      // lets the remote find the proof.
      const conflict =
        lacking.length === 0 &&
        remote !== undefined &&
        bytesEqual(remote.epochs, toBitmap(own)) &&
        !bytesEqual(remote.digest, this.#log.authorDigest(author));
      for (const epoch of conflict ? own : lacking) missing.push([epoch, author]);
    }
    return missing.sort(([a, x], [b, y]) => a - b || (x < y ? -1 : 1));
  }

  #onHave(have: wire.Have, frameBytes: number): SyncEvent {
    if (this.#phase !== 'have') throw new SyncProtocolError('a second have-vector');
    if (toHex(have.runId) !== this.#run.id) throw new SyncProtocolError('another run');
    this.#haveBytes += frameBytes;
    if (this.#haveBytes > limits.HAVE_BYTES_MAX) {
      throw new SyncProtocolError(`a have-vector of more than ${limits.HAVE_BYTES_MAX} bytes`);
    }
    this.#clockMs ??= have.clockMs;
    for (const key of have.evicted) this.#evicted.add(authorOf(key));
    for (const { author, epochs, digest } of have.authors) {
      if (epochs.length > Math.ceil(this.#run.manifest.schedule.epochsMax / 8)) {
        throw new SyncProtocolError('a have-vector longer than the run');
      }
      this.#have.set(authorOf(author), { epochs: epochs.slice(), digest: digest.slice() });
    }
    if (this.#have.size > limits.AUTHORS_MAX || this.#evicted.size > limits.AUTHORS_MAX) {
      throw new SyncProtocolError(`a have-vector of more than ${limits.AUTHORS_MAX} authors`);
    }
    if (!have.last) return { kind: 'nothing' };
    this.#phase = 'updates';
    return { kind: 'have', clockMs: this.#clockMs };
  }

  #onChunk({ bytes, last }: wire.Chunk): SyncEvent {
    this.#updateBytes += bytes.length;
    this.#partialBytes += bytes.length;
    if (this.#partialBytes > this.#updateBytesMax) {
      throw new SyncProtocolError(`an update of more than ${this.#updateBytesMax} bytes`);
    }
    if (this.#updateBytes > limits.SYNC_SESSION_BYTES_MAX) {
      throw new SyncProtocolError(
        `more than ${limits.SYNC_SESSION_BYTES_MAX} bytes in one session`,
      );
    }
    if (bytes.length === 0 && !last) throw new SyncProtocolError('an empty chunk');
    this.#partial.push(bytes);
    if (!last) return { kind: 'nothing' };
    const encoded = Buffer.concat(this.#partial);
    this.#partial = [];
    this.#partialBytes = 0;
    try {
      return { kind: 'update', update: wire.Update.decode(encoded) };
    } catch (cause) {
      throw new SyncProtocolError('an update that is not a valid protobuf message', { cause });
    }
  }
}

/** Two fields of 32 bytes, their tags and lengths, and the tag and length of the bitmap. */
const HAVE_AUTHOR_OVERHEAD_BYTES = 80;

function decodeFrame(bytes: Uint8Array): wire.SyncFrame {
  try {
    return wire.SyncFrame.decode(bytes, {
      limits: { have$: { authors: limits.AUTHORS_MAX, evicted: limits.AUTHORS_MAX } },
    });
  } catch (cause) {
    throw new SyncProtocolError('a frame that is not a valid protobuf message', { cause });
  }
}

function* chunks(encoded: Uint8Array<ArrayBuffer>): Generator<Uint8Array> {
  for (let start = 0; start < encoded.length; start += limits.SYNC_CHUNK_BYTES) {
    const bytes = encoded.subarray(start, start + limits.SYNC_CHUNK_BYTES);
    const last = start + limits.SYNC_CHUNK_BYTES >= encoded.length;
    yield wire.SyncFrame.encode({ chunk: { bytes, last } });
  }
}

function authorOf(publicKey: Uint8Array): string {
  if (publicKey.length !== 32) {
    throw new SyncProtocolError(`an author key of ${publicKey.length} bytes`);
  }
  return peerIdFromPublicKey(publicKey);
}

/** `epochs` ascending. */
function toBitmap(epochs: readonly number[]): Uint8Array<ArrayBuffer> {
  const bitmap = new Uint8Array(((epochs.at(-1) ?? -1) >> 3) + 1);
  for (const epoch of epochs) bitmap[epoch >> 3] = (bitmap[epoch >> 3] ?? 0) | (1 << (epoch & 7));
  return bitmap;
}

function hasBit(bitmap: Uint8Array | undefined, index: number): boolean {
  return (((bitmap?.[index >> 3] ?? 0) >> (index & 7)) & 1) === 1;
}
