/**
 * checkpoint.bin: "murmchkp" | version u32 | header length u32 | JSON header | theta float64 [adapterSize] |
 * debt float64 [adapterSize] (when there is one) | SHA-256 of all before it. Numbers are little-endian.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { StoredCheckpoint } from '../interfaces.js';
import { littleEndian, swapLittleEndian } from '../../protocol/bytes.js';
import { describeTheta } from '../../protocol/checkpoint.js';
import { ADAPTER_SIZE_MAX, CHECKPOINT_ANCESTORS_MAX, EPOCHS_MAX } from '../../protocol/limits.js';
import { DamagedStateError } from './state-codec.js';

const MAGIC = new TextEncoder().encode('murmchkp');
const VERSION = 1;
const PREFIX_BYTES = MAGIC.length + 8;
const DIGEST_BYTES = 32;

const count = z.number().int().nonnegative();
const sha256Text = z.string().regex(/^[0-9a-f]{64}$/);
const headerSchema = z.strictObject({
  runId: z.string(),
  epoch: count.max(EPOCHS_MAX),
  digest: sha256Text,
  contributions: count,
  thetaSha256: sha256Text,
  ancestors: z.array(sha256Text).max(CHECKPOINT_ANCESTORS_MAX),
  own: z.array(count).max(CHECKPOINT_ANCESTORS_MAX + 1),
  debt: z.string().nullable(),
  adapterSize: count.max(ADAPTER_SIZE_MAX),
});

/** The file's content in parts, to be written one after the other. */
export function encodeCheckpoint(runId: string, stored: StoredCheckpoint): Uint8Array[] {
  const { checkpoint, own, debt } = stored;
  const { epoch, digest, contributions, thetaSha256, ancestors, theta } = checkpoint;
  const header = new TextEncoder().encode(
    JSON.stringify({
      runId,
      epoch,
      digest,
      contributions,
      thetaSha256,
      ancestors: [...ancestors],
      own: [...own],
      debt: debt?.name ?? null,
      adapterSize: theta.length,
    } satisfies z.infer<typeof headerSchema>),
  );
  const prefix = new Uint8Array(PREFIX_BYTES);
  prefix.set(MAGIC);
  const view = new DataView(prefix.buffer);
  view.setUint32(MAGIC.length, VERSION, true);
  view.setUint32(MAGIC.length + 4, header.length, true);
  const parts = [prefix, header, littleEndian(theta)];
  if (debt !== null) parts.push(littleEndian(debt.vector));
  const sum = createHash('sha256');
  for (const part of parts) sum.update(part);
  return [...parts, sum.digest()];
}

/** Throws DamagedStateError. The arrays of the result own their memory. */
export function decodeCheckpoint(runId: string, bytes: Uint8Array): StoredCheckpoint {
  const body = bytes.subarray(0, Math.max(0, bytes.length - DIGEST_BYTES));
  if (body.length < PREFIX_BYTES || !MAGIC.every((byte, i) => bytes[i] === byte)) {
    throw new DamagedStateError('it does not begin with "murmchkp"');
  }
  if (!createHash('sha256').update(body).digest().equals(bytes.subarray(body.length))) {
    throw new DamagedStateError('its SHA-256 does not match');
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(MAGIC.length, true);
  if (version !== VERSION) {
    throw new DamagedStateError(`it has version ${version}, this program reads ${VERSION}`);
  }
  const start = PREFIX_BYTES + view.getUint32(MAGIC.length + 4, true);
  const header = decodeHeader(body.subarray(PREFIX_BYTES, start));
  if (header.runId !== runId) throw new DamagedStateError(`it belongs to run ${header.runId}`);
  const { own, debt, adapterSize, epoch, digest, contributions, ancestors } = header;
  const length = Float64Array.BYTES_PER_ELEMENT * adapterSize;
  if (body.length !== start + length * (debt === null ? 1 : 2)) {
    throw new DamagedStateError('it has not the length that its header says');
  }
  // Copies (Buffer.slice would share), so that the typed arrays are aligned.
  const vector = (offset: number): Float64Array => {
    const copy = new Uint8Array(body.subarray(offset, offset + length));
    return new Float64Array(swapLittleEndian(copy, Float64Array.BYTES_PER_ELEMENT).buffer);
  };
  const finite = (offset: number): Float64Array => {
    const values = vector(offset);
    if (values.every(Number.isFinite)) return values;
    throw new DamagedStateError('it holds NaN or infinity');
  };
  const described = describeTheta(finite(start));
  if (described.thetaSha256 !== header.thetaSha256) {
    throw new DamagedStateError('its adapter is not the one that it names');
  }
  return {
    checkpoint: { epoch, digest, contributions, ancestors, ...described },
    own,
    debt: debt === null ? null : { name: debt, vector: finite(start + length) },
  };
}

function decodeHeader(bytes: Uint8Array): z.infer<typeof headerSchema> {
  try {
    return headerSchema.parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch (cause) {
    throw new DamagedStateError('its header is not valid', { cause });
  }
}
