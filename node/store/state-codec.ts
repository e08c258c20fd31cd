/**
 * state.bin: "murmstat" | version u32 | header length u32 | JSON header | residual float64 [adapterSize] |
 * m, v float32 [adapterSize] each (when there are moments) | own update | SHA-256 of all before it.
 * Numbers are little-endian.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { PeerState } from '../interfaces.js';
import { littleEndian, swapLittleEndian } from '../../protocol/bytes.js';
import { ADAPTER_SIZE_MAX, UPDATE_BYTES_MAX } from '../../protocol/limits.js';

const MAGIC = new TextEncoder().encode('murmstat');
const VERSION = 1;
const PREFIX_BYTES = MAGIC.length + 8;
const DIGEST_BYTES = 32;

const count = z.number().int().nonnegative();
const headerSchema = z.strictObject({
  runId: z.string(),
  epoch: z.number().int().min(-1),
  adapterSize: count.max(ADAPTER_SIZE_MAX),
  optimiserStep: count.nullable(),
  updateBytes: count.max(UPDATE_BYTES_MAX).nullable(),
  settledDebt: z.string().nullable(),
  steps: count,
  tokens: count,
  heldOutBase: z.number().nullable(),
  heldOutHistory: z.array(z.object({ epoch: z.number().int(), loss: z.number() })),
});

/** Thrown when bytes are not a whole state of the wanted run; the message says what is wrong with them. */
export class DamagedStateError extends Error {
  override readonly name = 'DamagedStateError';
}

/** The file's content in parts, to be written one after the other (no copy of the large arrays). */
export function encodeState(runId: string, state: PeerState): Uint8Array[] {
  const header = new TextEncoder().encode(
    JSON.stringify({
      runId,
      epoch: state.epoch,
      adapterSize: state.residual.length,
      optimiserStep: state.optimiser?.step ?? null,
      updateBytes: state.update?.length ?? null,
      settledDebt: state.settledDebt,
      steps: state.steps,
      tokens: state.tokens,
      heldOutBase: state.heldOutBase,
      heldOutHistory: state.heldOutHistory,
    } satisfies z.infer<typeof headerSchema>),
  );
  const prefix = new Uint8Array(PREFIX_BYTES);
  prefix.set(MAGIC);
  const view = new DataView(prefix.buffer);
  view.setUint32(MAGIC.length, VERSION, true);
  view.setUint32(MAGIC.length + 4, header.length, true);
  const parts = [prefix, header, littleEndian(state.residual)];
  if (state.optimiser !== null) {
    parts.push(littleEndian(state.optimiser.m), littleEndian(state.optimiser.v));
  }
  if (state.update !== null) parts.push(state.update);
  const digest = createHash('sha256');
  for (const part of parts) digest.update(part);
  parts.push(digest.digest());
  return parts;
}

/** Throws DamagedStateError. The arrays of the result own their memory. */
export function decodeState(runId: string, bytes: Uint8Array): PeerState {
  const header = decodeHeader(bytes);
  if (header.runId !== runId) {
    throw new DamagedStateError(`it belongs to run ${header.runId}, not ${runId}`);
  }
  const n = header.adapterSize;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let offset = PREFIX_BYTES + view.getUint32(MAGIC.length + 4, true);
  const take = (length: number): Uint8Array => {
    if (offset + length > bytes.length - DIGEST_BYTES) {
      throw new DamagedStateError('it is shorter than its header says');
    }
    offset += length;
    // A copy (Buffer.slice would share), so that the typed arrays below are aligned.
    return new Uint8Array(bytes.subarray(offset - length, offset));
  };
  const residual = new Float64Array(swapLittleEndian(take(8 * n), 8).buffer);
  const optimiser =
    header.optimiserStep === null
      ? null
      : {
          step: header.optimiserStep,
          m: new Float32Array(swapLittleEndian(take(4 * n), 4).buffer),
          v: new Float32Array(swapLittleEndian(take(4 * n), 4).buffer),
        };
  const update = header.updateBytes === null ? null : take(header.updateBytes);
  if (offset !== bytes.length - DIGEST_BYTES) {
    throw new DamagedStateError('it is longer than its header says');
  }
  const { epoch, settledDebt, steps, tokens, heldOutBase, heldOutHistory } = header;
  return {
    epoch,
    residual,
    optimiser,
    update,
    settledDebt,
    steps,
    tokens,
    heldOutBase,
    heldOutHistory,
  };
}

function decodeHeader(bytes: Uint8Array): z.infer<typeof headerSchema> {
  if (bytes.length < PREFIX_BYTES + DIGEST_BYTES) {
    throw new DamagedStateError(`it holds only ${bytes.length} bytes`);
  }
  if (!MAGIC.every((byte, i) => bytes[i] === byte)) {
    throw new DamagedStateError('it does not begin with "murmstat"');
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(MAGIC.length, true);
  if (version !== VERSION) {
    throw new DamagedStateError(`it has version ${version}, this program reads ${VERSION}`);
  }
  const body = bytes.subarray(0, bytes.length - DIGEST_BYTES);
  const digest = createHash('sha256').update(body).digest();
  if (!digest.equals(bytes.subarray(bytes.length - DIGEST_BYTES))) {
    throw new DamagedStateError('its SHA-256 does not match');
  }
  const headerEnd = PREFIX_BYTES + view.getUint32(MAGIC.length + 4, true);
  try {
    const text = new TextDecoder().decode(body.subarray(PREFIX_BYTES, headerEnd));
    return headerSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new DamagedStateError('its header is not valid', { cause });
  }
}
