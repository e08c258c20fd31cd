/** The streams of a run: what each is named, how large and long it may be, and how one is opened. */
import type { Stream } from '@libp2p/interface';
import { BLOB_PROTOCOL_ID, SYNC_PROTOCOL_ID } from '../../protocol/ids.js';
import * as limits from '../../protocol/limits.js';
import type { StreamKind } from '../interfaces.js';
import { parsePeerId } from './addresses.js';
import { reasonOf, UnreachableError } from './errors.js';
import type { FrameStreamLimits } from './frame-stream.js';
import type { Host } from './host.js';

export interface StreamRules extends FrameStreamLimits {
  protocol: string;
  /** Streams served at one time: over all peers, and for one of them. */
  inboundMax: number;
  inboundPerPeerMax: number;
}

export const STREAMS: Readonly<Record<StreamKind, StreamRules>> = {
  sync: {
    protocol: SYNC_PROTOCOL_ID,
    frameBytesMax: limits.SYNC_FRAME_BYTES_MAX,
    timeoutMs: limits.SYNC_TIMEOUT_MS,
    // The peer serves half as many: it decides whose session gives way to another's.
    inboundMax: 2 * limits.SYNC_SESSIONS_MAX,
    inboundPerPeerMax: limits.SYNC_SESSIONS_PER_PEER_MAX,
  },
  blob: {
    protocol: BLOB_PROTOCOL_ID,
    frameBytesMax: limits.SYNC_FRAME_BYTES_MAX,
    timeoutMs: limits.BLOB_TIMEOUT_MS,
    inboundMax: limits.BLOB_STREAMS_MAX,
    inboundPerPeerMax: limits.BLOB_STREAMS_PER_PEER_MAX,
  },
};

/** @throws UnreachableError; the signal's reason. */
export async function openRunStream(
  host: Host,
  kind: StreamKind,
  peerId: string,
  signal: AbortSignal,
): Promise<Stream> {
  signal.throwIfAborted();
  const id = parsePeerId(peerId);
  if (id === null) throw new UnreachableError(`"${peerId.slice(0, 64)}" is not a peer id`);
  try {
    return await host.openStream(id, STREAMS[kind].protocol, signal);
  } catch (cause) {
    signal.throwIfAborted();
    throw new UnreachableError(`no ${kind} stream to ${peerId}: ${reasonOf(cause)}`, { cause });
  }
}
