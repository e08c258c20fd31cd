/** Frames of a libp2p stream, however the bytes of them are cut. */
import assert from 'node:assert/strict';
import { streamPair } from '@libp2p/utils';
import * as lengthPrefixed from 'it-length-prefixed';
import { FrameTooLargeError, StreamTruncatedError } from '../../node/net/errors.js';
import { NetFrameStream } from '../../node/net/frame-stream.js';
import type { FuzzTarget, FuzzTargets } from './oracle.js';

const LIMITS = { frameBytesMax: 300, timeoutMs: 60_000 };

const FRAMES_MAX = 64;

function encoded(frames: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat([...lengthPrefixed.encode(frames)].map((part) => part.subarray()));
}

/** The first byte says where the rest is cut in two. */
function seed(frames: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat([Uint8Array.of(3), encoded(frames)]);
}

const frames: FuzzTarget = {
  seeds: [
    seed([new Uint8Array(5).fill(1), new Uint8Array(130).fill(2), new Uint8Array(0)]),
    seed([new Uint8Array(LIMITS.frameBytesMax)]),
  ],
  refusals: [StreamTruncatedError, FrameTooLargeError],
  run: async (bytes) => {
    const [remote, local] = await streamPair();
    const stream = new NetFrameStream(local, LIMITS);
    const [cut = 0, sent] = [bytes[0], bytes.subarray(1)];
    const writing = (async () => {
      for (const part of [sent.subarray(0, cut), sent.subarray(cut)]) {
        if (part.length > 0 && remote.status === 'open') remote.send(part);
      }
      await remote.close().catch(() => undefined);
    })();
    const received: Uint8Array[] = [];
    try {
      for await (const frame of stream.frames) {
        assert.ok(frame.length <= LIMITS.frameBytesMax);
        received.push(frame);
        // So do the readers: a session refuses an empty frame, and bounds those that say nothing.
        if (frame.length === 0 || received.length === FRAMES_MAX) break;
      }
      // Lengths may be written in more bytes than they need: then there is less to write again.
      assert.ok(encoded(received).length <= sent.length);
    } finally {
      stream.abort(new StreamTruncatedError());
      await Promise.all([writing, stream.done]);
    }
  },
};

export const streamTargets: FuzzTargets = { frames };
