/** Gossip and streams among the members of one run, over one host. */
import './polyfill.js';
import { TopicValidatorResult, type GossipSub, type Message } from '@chainsafe/libp2p-gossipsub';
import type { Connection as NetConnection, PeerId, Stream } from '@libp2p/interface';
import type { Verdict } from '../../protocol/errors.js';
import { updateTopic } from '../../protocol/ids.js';
import * as limits from '../../protocol/limits.js';
import {
  MessageTooLargeError,
  type Connection,
  type FrameStream,
  type Logger,
  type StreamKind,
  type Transport,
  type TransportHandlers,
} from '../interfaces.js';
import { StreamBusyError, TransportStoppedError, UnreachableError, reasonOf } from './errors.js';
import { NetFrameStream } from './frame-stream.js';
import { GossipWatchdog, hasGossipStream } from './gossip-watchdog.js';
import type { Host } from './host.js';
import { openRunStream, STREAMS } from './run-streams.js';

/** How often, in ms, the members are compared with what gossipsub knows; events come at once. */
const RECONCILE_INTERVAL_MS = 200;

/** Messages of a stranger that are dropped before it is blamed for them: it may be let in at this very moment. */
const STRANGE_MESSAGES_MAX = 16;

/** Strangers whose messages are counted, the oldest is forgotten first: as many as may be connected. */
const STRANGERS_MAX = 256;

const KINDS = Object.keys(STREAMS) as StreamKind[];

/** The one place where a verdict becomes gossipsub's: 'defer' drops too, the update comes back by sync. */
const VALIDATOR_RESULTS: Readonly<Record<Verdict, TopicValidatorResult>> = {
  accept: TopicValidatorResult.Accept,
  ignore: TopicValidatorResult.Ignore,
  defer: TopicValidatorResult.Ignore,
  reject: TopicValidatorResult.Reject,
};

/** What exists between start and stop. */
interface Session {
  handlers: TransportHandlers;
  gossip: GossipSub;
  watchdog: GossipWatchdog;
  timer: NodeJS.Timeout;
  /** Removes the event listeners. */
  unlisten: () => void;
}

export class GossipTransport implements Transport {
  readonly #host: Host;
  readonly #topic: string;
  readonly #logger: Logger;
  /** Members whose gossip stream is usable, and the connection on which we told of them. */
  readonly #members = new Map<string, NetConnection>();
  readonly #streams = new Set<NetFrameStream>();
  readonly #inbound: Record<StreamKind, number> = { sync: 0, blob: 0 };
  /** Messages from peers that are no members. */
  readonly #strange = new Map<string, number>();
  #session: Session | null = null;

  constructor(host: Host, runId: string, logger: Logger) {
    this.#host = host;
    this.#topic = updateTopic(runId);
    this.#logger = logger;
  }

  async start(handlers: TransportHandlers): Promise<void> {
    await this.stop();
    const node = this.#host.libp2p;
    const isMember = (peerId: string): boolean => handlers.isMember(peerId);
    const gossip = await this.#host.startGossip(this.#topic, isMember);
    gossip.topicValidators.set(this.#topic, (from, message) =>
      this.#validate(handlers, from, message),
    );
    for (const kind of KINDS) {
      const { protocol, inboundMax, inboundPerPeerMax } = STREAMS[kind];
      const serve = (stream: Stream, connection: NetConnection): Promise<void> =>
        this.#onStream(kind, stream, connection);
      await node.handle(protocol, serve, {
        // One that is ending may overlap with the next one of the same peer.
        maxInboundStreams: inboundPerPeerMax + 1,
        maxOutboundStreams: inboundMax,
        runOnLimitedConnection: true,
      });
    }
    const reconcile = (): void => {
      this.#reconcile();
    };
    gossip.addEventListener('subscription-change', reconcile);
    node.addEventListener('peer:disconnect', reconcile);
    node.addEventListener('connection:close', reconcile);
    const watchdog = new GossipWatchdog(node, gossip, this.#logger);
    watchdog.start();
    this.#session = {
      handlers,
      gossip,
      watchdog,
      timer: setInterval(reconcile, RECONCILE_INTERVAL_MS),
      unlisten: () => {
        gossip.removeEventListener('subscription-change', reconcile);
        node.removeEventListener('peer:disconnect', reconcile);
        node.removeEventListener('connection:close', reconcile);
      },
    };
    gossip.subscribe(this.#topic);
  }

  async stop(): Promise<void> {
    const session = this.#session;
    if (session === null) return;
    this.#session = null;
    clearInterval(session.timer);
    session.unlisten();
    session.watchdog.stop();
    this.#members.clear();
    await this.#host.libp2p.unhandle(KINDS.map((kind) => STREAMS[kind].protocol));
    for (const stream of this.#streams) stream.abort(new TransportStoppedError());
    session.gossip.unsubscribe(this.#topic);
    await this.#host.stopGossip();
  }

  /** @throws MessageTooLargeError beyond GOSSIP_BYTES_MAX; TransportStoppedError. */
  async publish(message: Uint8Array): Promise<number> {
    const session = this.#running();
    if (message.length > limits.GOSSIP_BYTES_MAX) {
      throw new MessageTooLargeError(message.length, limits.GOSSIP_BYTES_MAX);
    }
    const { recipients } = await session.gossip.publish(this.#topic, message);
    return recipients.length;
  }

  /** @throws UnreachableError; TransportStoppedError; the signal's reason. */
  async open(kind: StreamKind, peerId: string, signal: AbortSignal): Promise<FrameStream> {
    this.#running();
    const stream = await openRunStream(this.#host, kind, peerId, signal);
    if (this.#session === null) {
      const error = new TransportStoppedError();
      stream.abort(error);
      throw error;
    }
    return this.#wrap(kind, stream);
  }

  connections(): Connection[] {
    const list: Connection[] = [];
    for (const [peerId, connection] of this.#members) {
      if (connection.status !== 'open') continue;
      list.push({
        peerId,
        address: connection.remoteAddr.toString(),
        direction: connection.direction,
        latencyMs: connection.rtt ?? null,
      });
    }
    return list;
  }

  #running(): Session {
    if (this.#session === null) throw new TransportStoppedError();
    return this.#session;
  }

  #validate(handlers: TransportHandlers, from: PeerId, message: Message): TopicValidatorResult {
    if (message.data.length > limits.GOSSIP_BYTES_MAX) return VALIDATOR_RESULTS.reject;
    const peerId = from.toString();
    if (!handlers.isMember(peerId))
      return VALIDATOR_RESULTS[this.#onStrangeMessage(handlers, peerId)];
    // A copy: the data are a view (a Buffer, whose slice() is one too) on an RPC of many messages.
    return VALIDATOR_RESULTS[handlers.onGossip(Uint8Array.from(message.data), peerId)];
  }

  /** Unread: who goes on is soon below the graylist, where gossipsub does not even check signatures. */
  #onStrangeMessage(handlers: TransportHandlers, peerId: string): Verdict {
    handlers.onStranger?.();
    const count = (this.#strange.get(peerId) ?? 0) + 1;
    const oldest = this.#strange.keys().next().value;
    if (count === 1 && this.#strange.size >= STRANGERS_MAX && oldest !== undefined)
      this.#strange.delete(oldest);
    this.#strange.set(peerId, count);
    return count > STRANGE_MESSAGES_MAX ? 'reject' : 'ignore';
  }

  async #onStream(kind: StreamKind, raw: Stream, connection: NetConnection): Promise<void> {
    const session = this.#session;
    const { inboundMax } = STREAMS[kind];
    if (session === null || this.#inbound[kind] >= inboundMax) {
      raw.abort(new StreamBusyError(`${inboundMax} ${kind} streams are open already`));
      return;
    }
    const peerId = connection.remotePeer.toString();
    if (!session.handlers.isMember(peerId)) {
      session.handlers.onStranger?.();
      raw.abort(new UnreachableError('streams of this run are for its members'));
      return;
    }
    this.#inbound[kind]++;
    const stream = this.#wrap(kind, raw);
    try {
      await session.handlers.onStream(kind, stream, peerId);
    } catch (error) {
      this.#logger.debug({ peerId, reason: reasonOf(error) }, `a ${kind} stream failed`);
      stream.abort(error instanceof Error ? error : new UnreachableError(String(error)));
    } finally {
      this.#inbound[kind]--;
    }
  }

  #wrap(kind: StreamKind, raw: Stream): NetFrameStream {
    const stream = new NetFrameStream(raw, STREAMS[kind]);
    this.#streams.add(stream);
    void stream.done.then(() => this.#streams.delete(stream));
    return stream;
  }

  /** Tells of members that came and went. A member is a subscriber to whom we can send. */
  #reconcile(): void {
    const session = this.#session;
    if (session === null) return;
    const now = new Map<string, NetConnection>();
    for (const id of session.gossip.getSubscribers(this.#topic)) {
      const open = this.#host.libp2p.getConnections(id).filter(({ status }) => status === 'open');
      const connection = open.find(hasGossipStream);
      const isMember = session.handlers.isMember(id.toString());
      if (connection !== undefined && isMember) now.set(id.toString(), connection);
    }
    for (const [peerId, before] of [...this.#members]) {
      // The stream may move to another connection of the same episode; a closed one ends the episode.
      if (now.has(peerId) && before.status === 'open') continue;
      this.#members.delete(peerId);
      session.handlers.onDisconnect(peerId);
    }
    for (const [peerId, connection] of now) {
      const known = this.#members.has(peerId);
      this.#members.set(peerId, connection);
      if (!known) session.handlers.onConnect(peerId);
    }
  }
}
