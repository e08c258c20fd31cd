/** Several frames of a stream in one input: each after its length in two bytes, little-endian. */

/** Frames of one input. */
const FRAMES_MAX = 64;

export function inFrames(frames: Iterable<Uint8Array>): Uint8Array {
  const parts = [...frames].flatMap((frame) => [
    Uint8Array.of(frame.length & 255, frame.length >> 8),
    frame,
  ]);
  return Buffer.concat(parts);
}

/** The frames of any bytes at all; the last one may be cut short. */
export function framesOf(bytes: Uint8Array): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let at = 0; at + 2 <= bytes.length && frames.length < FRAMES_MAX;) {
    const length = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
    frames.push(bytes.subarray(at + 2, at + 2 + length));
    at += 2 + length;
  }
  return frames;
}
