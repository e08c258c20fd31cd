/** What a hostile member answers when it is asked for the body of an update: nothing, late, wrong, or right. */
import type { FrameStream } from '../../../node/interfaces.js';
import {
  chunkHashes,
  decodeBlobOpen,
  encodeBlobAbsent,
  encodeBlobChunk,
} from '../../../protocol/blob.js';
import type { Prng } from '../../../protocol/prng.js';
import * as wire from '../../../protocol/wire/messages.js';
import type { HostileMember } from './member.js';
import { pick } from './settings.js';

const LIES = [
  ...['right', 'absent', 'silent', 'empty-offer', 'late'],
  ...['wrong-chunk', 'wrong-hashes', 'unasked'],
] as const;

/** Between two frames of an answer that trickles, in ms: within every deadline of the reader. */
const TRICKLE_MS = 9_000;

export async function serveBlob(
  member: HostileMember,
  stream: FrameStream,
  random: Prng,
): Promise<void> {
  const lie = pick(random, LIES);
  for await (const frame of stream.frames) {
    const { open, want } = wire.BlobFrame.decode(frame);
    if (lie === 'silent') return;
    if (lie === 'late') await member.place.sleep(TRICKLE_MS);
    if (open) await answerOpen(member, stream, frame, lie);
    if (want) await answerWant(member, stream, want.index, lie);
  }
}

/** What was asked for on this stream. */
const asked = new WeakMap<FrameStream, string>();

async function answerOpen(
  member: HostileMember,
  stream: FrameStream,
  frame: Uint8Array,
  lie: (typeof LIES)[number],
): Promise<void> {
  const root = decodeBlobOpen(member.run.id, frame);
  asked.set(stream, root);
  const update = member.bodies.get(root);
  if (lie === 'absent' || update === undefined) return stream.send(encodeBlobAbsent());
  if (lie === 'unasked') return stream.send(encodeBlobChunk(0, new Uint8Array(8)));
  const hashes = chunkHashes([update.scales, update.codes]);
  if (lie === 'wrong-hashes') hashes.fill(7);
  const held = lie === 'empty-offer' ? new Uint8Array() : Uint8Array.of(1);
  await stream.send(wire.BlobFrame.encode({ offer: { hashes, held } }));
}

async function answerWant(
  member: HostileMember,
  stream: FrameStream,
  index: number,
  lie: (typeof LIES)[number],
): Promise<void> {
  const update = member.bodies.get(asked.get(stream) ?? '');
  if (update === undefined) return;
  // Of the updates here, which are small, the first chunk is the only one.
  const body = Buffer.concat([update.scales, update.codes]);
  if (lie === 'wrong-chunk') body.fill(0);
  await stream.send(encodeBlobChunk(index, body));
}
