/** The framing below sync and blob streams: frames that come in pieces of any size, the last one never to its end. */
import { FrameTooLargeError } from '../../node/net/errors.js';
import { FrameReader } from '../../node/net/frame-reader.js';
import { STREAMS } from '../../node/net/run-streams.js';
import { varint } from '../wire/encodings.js';
import type { SessionScript } from './cost.js';
import { pick } from './hostile-frames.js';

const { frameBytesMax } = STREAMS.sync;

/** Pieces of one sequence at most: measuring each is most of the work. */
const PIECES_MAX = 8_000;

export const framing: SessionScript = {
  // A piece has one byte at least; taking it, and looking at the clock, is what it costs.
  bounds: { fixedMs: 200, usPerByte: 40, stretchMs: 60, fixedBytes: 1e6, bytesPerByte: 2 },
  refusals: [FrameTooLargeError],
  goesOn: false,
  *frames(random, bytesMax) {
    const length = pick(random, [frameBytesMax, frameBytesMax, 1, 0, frameBytesMax + 1]);
    const piece = pick(random, [1, 1, 2, 16, 1_024]);
    const pieces = Math.min(PIECES_MAX, Math.ceil(bytesMax / piece));
    const prefix = Uint8Array.from(varint(length));
    // Small frames have their lengths in the same pieces.
    const bytes = length > 1 ? new Uint8Array(piece) : new Uint8Array(piece).fill(length);
    yield prefix;
    for (let i = 0; i < pieces; i++) yield bytes;
  },
  start: () => {
    const reader = new FrameReader(frameBytesMax);
    return { take: (piece) => reader.take(piece) };
  },
};
