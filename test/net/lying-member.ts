/**
 * A listed member that lies about seals to real peers: other seals for each of them, certificates that it forged, and
 * bytes that are not what they are asked for. It trains nothing.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { parseAddress } from '../../node/net/addresses.js';
import { GossipTransport } from '../../node/net/gossip-transport.js';
import { createHost, type Host } from '../../node/net/host.js';
import type { NetIdentity } from '../../node/net/identity.js';
import { askRuns } from '../../node/net/introduce.js';
import type { FrameStream, StreamKind } from '../../node/interfaces.js';
import { BlobServer } from '../../node/peer/blob-server.js';
import { SystemClock } from '../../node/clock.js';
import { chunkCount, wholeBlob, type BlobSource, type Chunk } from '../../protocol/blob.js';
import { copyOf, fromHex } from '../../protocol/bytes.js';
import { decodeGossip, encodeSeal } from '../../protocol/gossip.js';
import { publicKeyFromPeerId } from '../../protocol/identity.js';
import { UpdateLog } from '../../protocol/log.js';
import { adapterLayout } from '../../protocol/adapter.js';
import type { Run } from '../../protocol/manifest.js';
import { Members } from '../../protocol/members.js';
import { createSeal, encodeStatement, type Seal, type SealStatement } from '../../protocol/seal.js';
import { RowFormats } from '../../protocol/row-format.js';
import { SyncSession } from '../../protocol/sync.js';
import type * as wire from '../../protocol/wire/messages.js';
import { silent } from './harness.js';

/** Between two rounds of lies, in ms. */
const ROUND_MS = 250;

const SIGNAL_MS = 10_000;

/** Of honest statements so many are remembered. */
const HEARD_MAX = 256;

export class LyingMember {
  /** What it has done. */
  readonly did = { seals: 0, certificates: 0, blobs: 0, sessions: 0 };
  readonly #identity: NetIdentity;
  readonly #host: Host;
  readonly #run: Run;
  readonly #transport: GossipTransport;
  readonly #formats: RowFormats;
  readonly #log: UpdateLog;
  readonly #blobs: BlobServer;
  readonly #stop = new AbortController();
  /** Honest seals, and the sizes of what they name. */
  readonly #heard: Seal[] = [];
  readonly #sizes = new Map<string, number>();
  #lies = 0;
  #rounds: Promise<void> = Promise.resolve();

  private constructor(identity: NetIdentity, host: Host, run: Run) {
    this.#identity = identity;
    this.#host = host;
    this.#run = run;
    this.#transport = new GossipTransport(host, run.id, silent);
    this.#formats = new RowFormats(run);
    this.#log = new UpdateLog({ members: new Members(run.manifest.membership), runId: run.id });
    const sumBytes = Float64Array.BYTES_PER_ELEMENT * adapterLayout(run.manifest.adapter).size;
    const find = (root: string): BlobSource<Chunk> => this.#junk(this.#sizes.get(root) ?? sumBytes);
    const clock = new SystemClock();
    this.#blobs = new BlobServer({ clock, runId: run.id, find }, this.#stop.signal);
  }

  /** Comes into the run at `address` and lies until stop(). */
  static async join(identity: NetIdentity, address: string): Promise<LyingMember> {
    const host = await createHost({ identity, listen: ['/ip4/127.0.0.1/tcp/0'] });
    const [known] = await askRuns(host, address, AbortSignal.timeout(SIGNAL_MS));
    if (known === undefined) throw new Error(`no run at ${address}`);
    const liar = new LyingMember(identity, host, known.run);
    await liar.#transport.start({
      onGossip: (bytes) => {
        liar.#hear(bytes);
        return 'accept';
      },
      onStream: (kind, stream, from) => liar.#serve(kind, stream, from),
      onConnect: () => undefined,
      onDisconnect: () => undefined,
      isMember: () => true,
    });
    await liar.meet(address);
    liar.#rounds = liar.#lieOn();
    return liar;
  }

  async meet(address: string): Promise<void> {
    const signal = AbortSignal.timeout(SIGNAL_MS);
    await this.#host.libp2p.dial(parseAddress(address), { signal });
  }

  async stop(): Promise<void> {
    this.#stop.abort(new Error('the liar leaves'));
    await this.#rounds;
    await this.#transport.stop();
    await this.#host.stop();
  }

  /** Tells each member something else, round by round. */
  async #lieOn(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await delay(ROUND_MS, undefined, { signal }).catch(() => undefined);
      for (const statement of this.#twoLies()) {
        await this.#transport
          .publish(encodeSeal(createSeal(statement, this.#identity)))
          .then(() => (this.did.seals += 1))
          .catch(() => undefined);
      }
      for (const { peerId } of this.#transport.connections()) {
        const open = this.#transport.open('sync', peerId, AbortSignal.timeout(SIGNAL_MS));
        await open.then((stream) => this.#talk(stream)).catch(() => undefined);
      }
    }
  }

  #hear(bytes: Uint8Array): void {
    try {
      const message = decodeGossip(this.#run, this.#formats, bytes);
      if (message.kind !== 'seal' || message.seal.member === this.#identity.peerId) return;
      const { contents } = message.seal.statement;
      if (this.#heard.push(message.seal) > HEARD_MAX) this.#heard.shift();
      this.#sizes.set(contents.root, contents.size);
    } catch {
      // Not for it.
    }
  }

  /** For the newest epoch that others signed: two statements of its own. */
  #twoLies(): SealStatement[] {
    const honest = this.#heard.at(-1)?.statement;
    if (honest === undefined) return [];
    return [0, 1].map(() => this.#lieAbout(honest));
  }

  #lieAbout(honest: SealStatement): SealStatement {
    this.#lies += 1;
    const sum = (this.#lies % 256).toString(16).padStart(2, '0').repeat(32);
    return encodeStatement(this.#run, { ...honest, sum });
  }

  /** Certificates that must not hold: by itself alone, in the names of all, and with seals for another statement. */
  #forgeries(): wire.SealCertificate[] {
    const honest = this.#heard.at(-1)?.statement;
    if (honest === undefined) return [];
    const every = this.#run.manifest.fold.sealEvery;
    const lie = this.#lieAbout({ ...honest, epoch: honest.epoch + every });
    const own = createSeal(lie, this.#identity).signed;
    const names = [...this.#log.members.voters(lie.epoch).keys()].map(publicKeyFromPeerId);
    const others = this.#heard.filter(({ statement }) => statement.id === honest.id);
    const bare = ({ member, signature }: wire.SignedSeal): wire.SealSignature => ({
      member: copyOf(member),
      signature: copyOf(signature),
    });
    return [
      { statement: lie.bytes, signatures: [bare(own)] },
      {
        statement: lie.bytes,
        signatures: names.map((member) => ({ member, signature: copyOf(own.signature) })),
      },
      {
        statement: lie.bytes,
        signatures: [...others.map(({ signed }) => bare(signed)), bare(own)],
      },
    ];
  }

  async #serve(kind: StreamKind, stream: FrameStream, from: string): Promise<void> {
    if (kind === 'sync') return this.#talk(stream);
    this.did.blobs += 1;
    return this.#blobs.serve(stream, from);
  }

  /** One sync session, in which it has adopted a certificate that it forged. */
  async #talk(stream: FrameStream): Promise<void> {
    const forged = this.#forgeries();
    const certificate = forged[this.#lies % Math.max(1, forged.length)] ?? null;
    const [lie] = this.#twoLies();
    const epoch = lie === undefined ? 0 : lie.epoch + this.#run.manifest.fold.sealEvery;
    const session = new SyncSession(this.#run, this.#log, new Set(), {
      summary: {
        sealed: lie === undefined ? null : { epoch, statement: lie.id },
        digest: fromHex('66'.repeat(32)),
      },
      certificate: certificate && { epoch, wire: certificate },
      seals: lie === undefined ? [] : [createSeal(lie, this.#identity).signed],
    });
    this.did.sessions += 1;
    if (certificate !== null) this.did.certificates += 1;
    try {
      await stream.send(session.hello(Date.now()));
      for await (const frame of stream.frames) {
        const { kind } = session.receive(frame);
        const answer =
          kind === 'differs' ? session.vectors() : kind === 'have' ? session.want(-1) : [];
        for (const part of answer) await stream.send(part);
        if (kind !== 'want') continue;
        for (const part of session.reply()) await stream.send(part);
        await stream.close();
        return;
      }
    } catch (error) {
      stream.abort(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** A blob of `size` bytes whose hashes are as false as its bytes. */
  #junk(size: number): BlobSource<Chunk> {
    const hashes = Uint8Array.from(Buffer.alloc(32 * chunkCount(size), 0x66));
    return wholeBlob([new Uint8Array(size).fill(0x66)], hashes);
  }
}
