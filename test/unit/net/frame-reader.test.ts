/** Frames out of chunks that a remote cut as it liked, and what waits for a reader. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { StreamMessageEvent, type Stream } from '@libp2p/interface';
import fc from 'fast-check';
import { Uint8ArrayList } from 'uint8arraylist';
import { FrameTooLargeError, StreamTruncatedError } from '../../../node/net/errors.js';
import { FrameReader } from '../../../node/net/frame-reader.js';
import { StreamReader } from '../../../node/net/stream-reader.js';
import { varint } from '../../wire/encodings.js';

const BYTES_MAX = 300;

function framed(frames: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(frames.flatMap((frame) => [Uint8Array.from(varint(frame.length)), frame]));
}

describe('a frame reader', () => {
  it('gives the same frames however they are cut', () => {
    const frames = fc.array(fc.uint8Array({ maxLength: BYTES_MAX }), { maxLength: 8 });
    const cuts = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 50 });
    fc.assert(
      fc.property(frames, cuts, (sent, sizes) => {
        const bytes = framed(sent);
        const reader = new FrameReader(BYTES_MAX);
        const read: Uint8Array[] = [];
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const size = sizes[i % sizes.length]!;
          const piece = bytes.subarray(at, at + size);
          const halves = [piece.subarray(0, size >> 1), piece.subarray(size >> 1)];
          read.push(...reader.take(i % 2 === 0 ? piece : new Uint8ArrayList(...halves)));
          at += size;
        }
        reader.end();
        assert.deepEqual(read, sent);
      }),
    );
  });

  it('refuses a frame over the bound by its length, and a length without an end', () => {
    for (const prefix of [varint(BYTES_MAX + 1), [0x80, 0x80, 0x80, 0x80], varint(2 ** 28)]) {
      const reader = new FrameReader(BYTES_MAX);
      assert.throws(() => [...reader.take(Uint8Array.from(prefix))], FrameTooLargeError);
    }
  });

  it('tells a stream that ends within a frame, or within a length, from one that is done', () => {
    for (const bytes of [[5, 1, 2], [5], [0x80]]) {
      const reader = new FrameReader(BYTES_MAX);
      assert.deepEqual([...reader.take(Uint8Array.from(bytes))], []);
      assert.throws(() => reader.end(), StreamTruncatedError);
    }
  });

  it('gives frames that share no memory with what came', () => {
    const bytes = framed([Uint8Array.of(1, 2)]);
    const [frame = bytes] = new FrameReader(BYTES_MAX).take(bytes);
    bytes.fill(0);
    assert.deepEqual(frame, Uint8Array.of(1, 2));
    assert.equal(frame.buffer.byteLength, 2);
  });
});

describe('a stream reader', () => {
  /** A stream on which nobody has read yet. */
  function stream(): { reader: StreamReader; receive: (data: Uint8Array) => void } {
    const target = Object.assign(new EventTarget(), {
      ...{ status: 'open', readStatus: 'readable', remoteWriteStatus: 'writable' },
      ...{ readableEnded: false, pause: () => undefined, resume: () => undefined },
    });
    const reader = new StreamReader(target as unknown as Stream);
    return { reader, receive: (data) => target.dispatchEvent(new StreamMessageEvent(data)) };
  }

  it('puts small chunks that wait together, and gives all bytes in order', async () => {
    const { reader, receive } = stream();
    const sent: number[] = [];
    for (let i = 0; i < 100_000; i++) {
      sent.push(i & 255);
      receive(Uint8Array.of(i & 255));
    }
    const large = new Uint8Array(5_000).fill(7);
    receive(large);
    receive(Uint8Array.of(9));
    const expected = Buffer.concat([Uint8Array.from(sent), large, Uint8Array.of(9)]);
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of reader) {
      chunks.push(chunk.subarray());
      bytes += chunk.byteLength;
      if (bytes === expected.length) break;
    }
    assert.ok(Buffer.concat(chunks).equals(expected));
    assert.ok(chunks.length < 10, `${chunks.length} chunks`);
  });
});
