/** A member that states, for what the others seal, contents and an adapter of its own invention, and gives both to whoever asks. */
import type { FrameStream } from '../../../node/interfaces.js';
import type { SimTransport } from '../../../node/sim/network.js';
import {
  chunkHashes,
  decodeBlobOpen,
  encodeBlobAbsent,
  encodeBlobChunk,
} from '../../../protocol/blob.js';
import { fromHex, littleEndian, sha256, toHex } from '../../../protocol/bytes.js';
import { blobRoot } from '../../../protocol/blob.js';
import { encodeSeal } from '../../../protocol/gossip.js';
import { publicKeyFromPeerId } from '../../../protocol/identity.js';
import { UpdateLog } from '../../../protocol/log.js';
import type { Manifest } from '../../../protocol/manifest.js';
import {
  createSeal,
  encodeStatement,
  sealDue,
  sealDueFrom,
  type Seal,
} from '../../../protocol/seal.js';
import { SealContents } from '../../../protocol/seal-contents.js';
import * as wire from '../../../protocol/wire/messages.js';
import type { Identity } from '../../../node/interfaces.js';
import { adapterSize, testUpdate } from '../../support/runs.js';
import type { Swarm } from '../swarm.js';

const SEAL_EVERY = 3;
const SEAL_AFTER = 2;

/** A manifest by which members seal. */
export function sealing(manifest: Manifest, epochsMax: number): Manifest {
  return {
    ...manifest,
    schedule: { ...manifest.schedule, epochsMax },
    fold: { ...manifest.fold, sealEvery: SEAL_EVERY, sealAfter: SEAL_AFTER },
  };
}

/** Epochs at whose very beginning a seal falls due, up to `end`. */
export function sealInstants({ run }: Swarm, end: number): number[] {
  const first = sealDueFrom(run, SEAL_EVERY);
  const count = Math.ceil((end - first) / SEAL_EVERY);
  return Array.from({ length: count }, (_, i) => first + i * SEAL_EVERY);
}

/** What the liar wants every coordinate of everybody's adapter to be, but for what it began with. */
export const FORGED_VALUE = 7;
/** A sum is in units of 2^-32, and is subtracted. */
const UNITS = 2 ** 32;

/** What the liar says of one epoch, and what it gives for it. */
interface Invention {
  seal: Seal;
  /** Root in hex -> bytes. */
  blobs: ReadonlyMap<string, Uint8Array>;
}

export class BaseLiar {
  readonly #swarm: Swarm;
  readonly #identity: Identity;
  readonly #transport: SimTransport;
  readonly #inventions = new Map<number, Invention>();

  constructor(swarm: Swarm, identity: Identity) {
    this.#swarm = swarm;
    this.#identity = identity;
    this.#transport = swarm.network.transport(identity.peerId);
  }

  async start(): Promise<void> {
    await this.#transport.start({
      onGossip: () => 'ignore',
      onStream: (kind, stream) => (kind === 'sync' ? this.#talk(stream) : this.#give(stream)),
      onConnect: () => undefined,
      onDisconnect: () => undefined,
      isMember: () => true,
    });
  }

  /** Speaks to everybody at once, before they have said anything to each other. */
  speakFirst(): void {
    const { seal } = this.#invention();
    void this.#transport.publish(encodeSeal(seal));
    for (const { peerId } of this.#swarm.nodes) {
      const { signal } = new AbortController();
      void this.#transport.open('sync', peerId, signal).then(
        (stream) => this.#talk(stream).catch(() => undefined),
        () => undefined,
      );
    }
  }

  /** Of the newest epoch that is due. */
  #invention(): Invention {
    const { run, time } = this.#swarm;
    const { startMs, epochMs, epochsMax } = run.manifest.schedule;
    const now = Math.floor((time.nowMs - startMs) / epochMs);
    const epoch = Math.max(SEAL_EVERY, sealDue(run, now, epochsMax));
    const known = this.#inventions.get(epoch);
    if (known !== undefined) return known;
    const log = new UpdateLog();
    for (let i = 0; i < epoch; i++) log.insert(testUpdate(run, this.#identity, i));
    const contents = SealContents.of(log, null, epoch);
    const sum = new Float64Array(adapterSize(run)).fill(-FORGED_VALUE * UNITS);
    const sumBytes = Uint8Array.from(littleEndian(sum));
    const sumRoot = toHex(blobRoot(chunkHashes([sumBytes])));
    const statement = encodeStatement(run, {
      ...{ epoch, previous: null, contents: contents.name, sum: sumRoot, updates: epoch },
    });
    const invention = {
      seal: createSeal(statement, this.#identity),
      blobs: new Map([
        [contents.name.root, contents.bytes],
        [sumRoot, sumBytes],
      ]),
    };
    this.#inventions.set(epoch, invention);
    return invention;
  }

  /** Its own signature, and those of all others: forged. */
  #certificate({ statement, signed }: Seal): wire.SealCertificate {
    const forged = this.#swarm.nodes.map(({ peerId }) => ({
      member: Uint8Array.from(publicKeyFromPeerId(peerId)),
      signature: new Uint8Array(64).fill(1),
    }));
    const own = { member: signed.member, signature: signed.signature };
    const signatures = [own, ...forged].sort((a, b) => Buffer.compare(a.member, b.member));
    return { statement: statement.bytes, signatures };
  }

  async #talk(stream: FrameStream): Promise<void> {
    const { run, time } = this.#swarm;
    const { seal } = this.#invention();
    const none = new Uint8Array();
    const fixed = { runId: fromHex(run.id), authors: [], evicted: [], admissionsDigest: none };
    const sealed = { epoch: seal.statement.epoch, statement: fromHex(seal.statement.id) };
    const opening = { ...fixed, clockMs: time.nowMs, last: false, sealed };
    const digest = sha256(Uint8Array.of(seal.statement.epoch));
    const send = (frame: wire.SyncFrame): Promise<void> =>
      stream.send(wire.SyncFrame.encode(frame));
    await send({ have: { ...opening, logDigest: digest, sealsDigest: digest } });
    await send({ seal: seal.signed });
    await send({ certificate: this.#certificate(seal) });
    await send({ have: { ...fixed, clockMs: 0, last: true, logDigest: none, sealsDigest: none } });
    await send({ want: { authors: [], last: true } });
    await send({ end: {} });
    for await (const frame of stream.frames) if (wire.SyncFrame.decode(frame).end) break;
    await stream.close();
  }

  async #give(stream: FrameStream): Promise<void> {
    let bytes: Uint8Array | undefined;
    for await (const frame of stream.frames) {
      const { open, want } = wire.BlobFrame.decode(frame);
      if (open) {
        const root = decodeBlobOpen(this.#swarm.run.id, frame);
        const blobs = [...this.#inventions.values()].map((invention) => invention.blobs.get(root));
        bytes = blobs.find((blob) => blob !== undefined);
        if (bytes === undefined) return stream.send(encodeBlobAbsent());
        const offer = { hashes: chunkHashes([bytes]), held: Uint8Array.of(1) };
        await stream.send(wire.BlobFrame.encode({ offer }));
      }
      if (want && bytes) await stream.send(encodeBlobChunk(want.index, bytes));
    }
  }
}
