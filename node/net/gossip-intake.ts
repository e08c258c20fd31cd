/**
 * How much gossip one sender may bring in a time, in messages and in bytes (GOSSIP_..., protocol/limits.ts). What
 * is more waits unread in its stream, and flow control stops the sender: nothing is lost that an honest peer says,
 * and nothing piles up here. gossipsub itself reads whatever comes, into a queue without bound.
 */
import type { GossipSubComponents } from '@chainsafe/libp2p-gossipsub';
import type { Stream } from '@libp2p/interface';
import { setMaxListeners } from 'node:events';
import type { Uint8ArrayList } from 'uint8arraylist';
import * as limits from '../../protocol/limits.js';
import { SystemClock } from '../clock.js';
import type { Clock } from '../interfaces.js';
import { SenderBuckets, type TokenBucket } from '../token-bucket.js';
import { StreamTruncatedError } from './errors.js';
import type { InnerGossip, Rpc } from './inner-gossip.js';
import { overriding } from './overriding.js';
import { StreamReader } from './stream-reader.js';

type Registrar = GossipSubComponents['registrar'];

/** What is waited for at a time: a whole window of flow control would come in jerks. */
export const PIECE_BYTES = 64 * 1024;

export class GossipIntake {
  readonly #stop = new AbortController();
  readonly #messages: SenderBuckets;
  readonly #bytes: SenderBuckets;

  constructor(clock: Clock = new SystemClock()) {
    this.#messages = new SenderBuckets(clock, {
      perSecond: limits.GOSSIP_MESSAGES_PER_SECOND,
      burst: limits.GOSSIP_MESSAGES_BURST,
    });
    this.#bytes = new SenderBuckets(clock, {
      perSecond: limits.GOSSIP_BYTES_PER_SECOND,
      burst: limits.GOSSIP_BURST_BYTES,
    });
    // One wait for each connected peer at most.
    setMaxListeners(0, this.#stop.signal);
  }

  /** `registrar` for gossipsub, whose streams then read no faster than they may. */
  slowing(registrar: Registrar): Registrar {
    const handle: Registrar['handle'] = (protocol, handler, options) =>
      registrar.handle(
        protocol,
        (stream, connection) => {
          const bucket = this.#bytes.of(connection.remotePeer.toString());
          return handler(this.#slowed(stream, bucket), connection);
        },
        options,
      );
    return overriding(registrar, { handle });
  }

  /** Makes `gossip` handle no more messages of a sender than it may send. */
  attach(gossip: InnerGossip): void {
    const handle = gossip.handleReceivedRpc.bind(gossip);
    gossip.handleReceivedRpc = async (from, rpc) => {
      await this.#messages.of(from.toString()).take(entriesOf(rpc), this.#stop.signal);
      await handle(from, rpc);
    };
  }

  stop(): void {
    this.#stop.abort(new DOMException('gossip has ended', 'AbortError'));
  }

  #slowed(stream: Stream, bucket: TokenBucket): Stream {
    const reader = new StreamReader(stream);
    const chunks = (): AsyncGenerator<Uint8Array | Uint8ArrayList> => this.#read(reader, bucket);
    // Without listeners it is no message stream to gossipsub, which would queue it, but something to iterate over.
    return overriding(stream, { addEventListener: undefined, [Symbol.asyncIterator]: chunks });
  }

  async *#read(
    reader: StreamReader,
    bucket: TokenBucket,
  ): AsyncGenerator<Uint8Array | Uint8ArrayList> {
    try {
      for await (const chunk of reader) {
        for (let start = 0; start < chunk.byteLength; start += PIECE_BYTES) {
          const piece = partOf(chunk, start, Math.min(start + PIECE_BYTES, chunk.byteLength));
          await bucket.take(piece.byteLength, this.#stop.signal);
          yield piece;
        }
      }
    } catch (error) {
      // A connection that ended; another one to the same peer may go on.
      if (!(error instanceof StreamTruncatedError) && !this.#stop.signal.aborted) throw error;
    }
  }
}

function partOf(
  chunk: Uint8Array | Uint8ArrayList,
  start: number,
  end: number,
): Uint8Array | Uint8ArrayList {
  return chunk instanceof Uint8Array ? chunk.subarray(start, end) : chunk.sublist(start, end);
}

/** Messages, subscriptions and control entries of an RPC: what each may cost a signature or an answer. */
function entriesOf({ messages, subscriptions, control }: Rpc): number {
  const count = messages.length + subscriptions.length;
  if (control === undefined) return count;
  const { ihave, iwant, graft, prune, idontwant } = control;
  const lists: readonly unknown[][] = [ihave, iwant, graft, prune, idontwant];
  return lists.reduce((sum, list) => sum + list.length, count);
}
