/**
 * Members of a run as somebody reaches them who has yet to take part in it, for want of the base model: who they are,
 * by those who know the run, and streams to them without gossip.
 */
import { multiaddr } from '@multiformats/multiaddr';
import { RUN_PEERS_MAX } from '../../protocol/limits.js';
import type { Run } from '../../protocol/manifest.js';
import type { SignedAdmission } from '../../protocol/wire/messages.js';
import type { FrameStream, StreamKind } from '../interfaces.js';
import { NetFrameStream } from './frame-stream.js';
import type { Host } from './host.js';
import { announce, askRuns } from './introduce.js';
import { openRunStream, STREAMS } from './run-streams.js';
import type { PeerAddresses } from './run-registry.js';

/** One contact may take this long to say who the members are, and one member to be connected, in ms. */
const ASK_MS_MAX = 10_000;

export interface MemberStreamsInit {
  host: Host;
  run: Run;
  /** Multiaddrs of bootstrap nodes or members. */
  contacts: readonly string[];
  /** Members that are known already. */
  members: readonly PeerAddresses[];
  /** By which this peer is a member; null where the manifest lists it, or the run is open. */
  admission: SignedAdmission | null;
}

export class MemberStreams {
  readonly #init: MemberStreamsInit;
  /** At most RUN_PEERS_MAX. */
  readonly #known = new Map<string, PeerAddresses>();
  /** Names that did not answer: they make room for others. */
  readonly #failed = new Set<string>();
  /** Open connections on which this peer has said how it came into the run. */
  readonly #met = new WeakSet<object>();

  constructor(init: MemberStreamsInit) {
    this.#init = init;
    this.#note(init.members);
  }

  /** Peer ids of the members that were named so far. */
  get known(): string[] {
    return [...this.#known.keys()];
  }

  /** Asks all contacts at once for members; one that does not answer is left out. Rejects with the signal's reason. */
  async ask(signal: AbortSignal): Promise<void> {
    const { host, run, contacts } = this.#init;
    const asking = contacts.map(async (contact) => {
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(ASK_MS_MAX)]);
      const runs = await askRuns(host, contact, deadline, run.id).catch(() => []);
      this.#note(runs.find((known) => known.run.id === run.id)?.peers ?? []);
    });
    await Promise.all(asking);
    signal.throwIfAborted();
  }

  /** Whether there is a connection to `peerId`, on which it takes this peer for a member. Rejects with the signal's reason. */
  async reach(peerId: string, signal: AbortSignal): Promise<boolean> {
    const { host, run, admission } = this.#init;
    const targets = (this.#known.get(peerId)?.addresses ?? []).map((address) =>
      multiaddr(`${address}/p2p/${peerId}`),
    );
    if (targets.length === 0) return false;
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(ASK_MS_MAX)]);
    try {
      const connection = await host.libp2p.dial(targets, { signal: deadline });
      this.#failed.delete(peerId);
      if (run.manifest.membership.mode !== 'invite' || this.#met.has(connection)) return true;
      const door = { admission, meet: (): void => undefined };
      this.#note(await announce(host, connection.remotePeer, run, door, deadline));
      this.#met.add(connection);
      return true;
    } catch {
      signal.throwIfAborted();
      this.#failed.add(peerId);
      return false;
    }
  }

  /** Opens a stream, as Transport does. @throws UnreachableError; the signal's reason. */
  async open(kind: StreamKind, peerId: string, signal: AbortSignal): Promise<FrameStream> {
    const stream = await openRunStream(this.#init.host, kind, peerId, signal);
    return new NetFrameStream(stream, STREAMS[kind]);
  }

  #note(peers: readonly PeerAddresses[]): void {
    for (const peer of peers) {
      if (peer.peerId === this.#init.host.peerId) continue;
      if (!this.#known.has(peer.peerId) && this.#known.size >= RUN_PEERS_MAX) {
        const [failed] = this.#failed;
        if (failed === undefined) continue;
        this.#failed.delete(failed);
        this.#known.delete(failed);
      }
      this.#known.set(peer.peerId, peer);
    }
  }
}
