/** The framing below sync and blob streams: a frame that comes in pieces of a few bytes, and never to its end. */
import { setImmediate } from 'node:timers/promises';
import { streamPair } from '@libp2p/utils';
import { StreamTruncatedError } from '../../node/net/errors.js';
import { NetFrameStream } from '../../node/net/frame-stream.js';
import { STREAMS } from '../../node/net/run-streams.js';
import { varint } from '../wire/encodings.js';
import type { SessionScript } from './cost.js';
import { pick } from './hostile-frames.js';

const { frameBytesMax } = STREAMS.sync;

export const framing: SessionScript = {
  // Moving pieces through a stream of libp2p is the most of it; the smallest has one byte.
  bounds: { fixedMs: 500, usPerByte: 200, stretchMs: 60, fixedBytes: 1e6, bytesPerByte: 4 },
  refusals: [StreamTruncatedError],
  goesOn: false,
  *frames(random, bytesMax) {
    const piece = pick(random, [1, 2, 16, 1_024]);
    const most = Math.min(bytesMax, 4_096 * piece, frameBytesMax - 1);
    yield Uint8Array.from(varint(frameBytesMax));
    for (let bytes = 0; bytes < most; bytes += piece) yield new Uint8Array(piece);
  },
  start: async () => {
    const [remote, local] = await streamPair();
    const stream = new NetFrameStream(local, STREAMS.sync);
    const reading = (async () => {
      for await (const frame of stream.frames) if (frame.length === 0) break;
    })().catch(() => undefined);
    return {
      take: async (frame) => {
        remote.send(Uint8Array.from(frame));
        await setImmediate();
      },
      end: async () => {
        stream.abort(new StreamTruncatedError());
        await Promise.all([reading, stream.done]);
      },
    };
  },
};
