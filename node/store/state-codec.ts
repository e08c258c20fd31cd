/** state.bin, seal.bin and sum-EPOCH.bin as bytes (array-file.ts): what a peer remembers besides its log and its moments. */
import { z } from 'zod';
import { littleEndian } from '../../protocol/bytes.js';
import {
  ADAPTER_SIZE_MAX,
  EPOCHS_MAX,
  SEAL_CONTENTS_BYTES_MAX,
  SEAL_EPOCHS_MAX,
  UPDATE_BYTES_MAX,
} from '../../protocol/limits.js';
import { isFiniteVector } from '../../protocol/residual.js';
import type { PeerState, StoredSeal } from '../interfaces.js';
import {
  DamagedStateError,
  decodeArrayFile,
  encodeArrayFile,
  PayloadReader,
  type ArrayFileKind,
} from './array-file.js';

/** Bytes of an encoded certificate: two thousand signatures, and one statement. */
const CERTIFICATE_BYTES_MAX = 512 * 1024;

const count = z.number().int().nonnegative();
const adapterSize = count.max(ADAPTER_SIZE_MAX);
/** The last seal of a run may lie behind its end. */
const epoch = count.max(EPOCHS_MAX + SEAL_EPOCHS_MAX);

const stateHeader = z.strictObject({
  runId: z.string(),
  epoch: z.number().int().min(-1),
  adapterSize,
  updateBytes: count.max(UPDATE_BYTES_MAX).nullable(),
  settledSeal: z.string().nullable(),
  waitingSteps: count,
  steps: count,
  tokens: count,
  heldOutBase: z.number().nullable(),
  heldOutHistory: z.array(z.object({ epoch: z.number().int(), loss: z.number() })),
});

const sealHeader = z.strictObject({
  runId: z.string(),
  epoch,
  previousEpoch: epoch,
  logStart: epoch,
  certificateBytes: count.max(CERTIFICATE_BYTES_MAX),
  contentsBytes: count.max(SEAL_CONTENTS_BYTES_MAX),
});

const sumHeader = z.strictObject({ runId: z.string(), epoch, adapterSize });

const STATE = { magic: 'murmstat', version: 2, schema: stateHeader };
const SEAL = { magic: 'murmseal', version: 1, schema: sealHeader };
const SUM = { magic: 'murmsums', version: 1, schema: sumHeader };

/** The file's content in parts, to be written one after the other (no copy of the large arrays). */
export function encodeState(runId: string, state: PeerState): Uint8Array[] {
  const { residual, update, ...fields } = state;
  const updateBytes = update?.length ?? null;
  const header = { runId, adapterSize: residual.length, updateBytes, ...fields };
  const payload = update === null ? [] : [update];
  return encodeArrayFile(STATE, header, [littleEndian(residual), ...payload]);
}

/** The result shares the memory of `bytes`. Throws DamagedStateError. */
export function decodeState(runId: string, bytes: Uint8Array): PeerState {
  const { header, reader } = decode(STATE, runId, bytes);
  const { epoch: last, settledSeal, steps, tokens, heldOutBase, heldOutHistory } = header;
  const { updateBytes, waitingSteps } = header;
  const residual = reader.float32(header.adapterSize);
  const update = updateBytes === null ? null : reader.bytes(updateBytes);
  reader.end();
  if (!isFiniteVector(residual)) {
    throw new DamagedStateError('its residual holds a number that is not finite');
  }
  const figures = { waitingSteps, steps, tokens, heldOutBase, heldOutHistory };
  return { epoch: last, residual, update, settledSeal, ...figures };
}

export function encodeStoredSeal(runId: string, seal: StoredSeal): Uint8Array[] {
  const { certificate, contents, ...fields } = seal;
  const certificateBytes = certificate.length;
  const header = { runId, certificateBytes, contentsBytes: contents.length, ...fields };
  return encodeArrayFile(SEAL, header, [certificate, contents]);
}

/** As decodeState. */
export function decodeStoredSeal(runId: string, bytes: Uint8Array): StoredSeal {
  const { header, reader } = decode(SEAL, runId, bytes);
  const { certificateBytes, contentsBytes, previousEpoch, logStart } = header;
  const [certificate, contents] = [reader.bytes(certificateBytes), reader.bytes(contentsBytes)];
  reader.end();
  return { epoch: header.epoch, previousEpoch, logStart, certificate, contents };
}

export function encodeSum(runId: string, epochOf: number, sum: Float64Array): Uint8Array[] {
  const header = { runId, epoch: epochOf, adapterSize: sum.length };
  return encodeArrayFile(SUM, header, [littleEndian(sum)]);
}

/** As decodeState. */
export function decodeSum(runId: string, bytes: Uint8Array): Float64Array {
  const { header, reader } = decode(SUM, runId, bytes);
  const sum = reader.float64(header.adapterSize);
  reader.end();
  return sum;
}

function decode<T extends { runId: string }>(
  kind: ArrayFileKind<T>,
  runId: string,
  bytes: Uint8Array,
): { header: T; reader: PayloadReader } {
  const { header, payload } = decodeArrayFile(kind, bytes);
  if (header.runId !== runId) {
    throw new DamagedStateError(`it belongs to run ${header.runId}, not ${runId}`);
  }
  return { header, reader: new PayloadReader(payload) };
}
