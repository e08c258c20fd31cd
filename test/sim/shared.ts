/**
 * What lets one process play many peers: work whose result depends on its input alone is done once, and
 * equal immutable bytes are kept once. Peers decide as ever; nothing here is known to the product's code.
 */
import crypto, { type KeyLike } from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import { UpdateLog } from '../../protocol/log.js';
import type { Update } from '../../protocol/update.js';

interface Verified {
  key: unknown;
  bytes: Buffer;
  result: boolean;
}

/** Signature as latin1 -> what was verified with it; cleared by forgetShared(). */
const verified = new Map<string, Verified>();

/** Update id and signature -> the first such object that a log took. */
const updates = new Map<string, Update>();

/** Record as latin1 -> the first such array that a disk took. */
const records = new Map<string, Uint8Array>();

const verify = crypto.verify;

/** Node's own verification, but not twice for the same key, bytes and signature. */
function verifyOnce(
  algorithm: string | null | undefined,
  data: NodeJS.ArrayBufferView,
  key: KeyLike,
  signature: NodeJS.ArrayBufferView,
): boolean {
  const name = viewOf(signature).toString('latin1');
  const known = verified.get(name);
  if (known?.key === key && viewOf(data).equals(known.bytes)) return known.result;
  const result = verify(algorithm, data, key, signature);
  verified.set(name, { key, bytes: Buffer.from(viewOf(data)), result });
  return result;
}

function viewOf({ buffer, byteOffset, byteLength }: NodeJS.ArrayBufferView): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

/** All logs of this process hold one object for one update; its id names header and body. */
function shareUpdates(): void {
  const insert = Object.getOwnPropertyDescriptor(UpdateLog.prototype, 'insert')
    ?.value as UpdateLog['insert'];
  UpdateLog.prototype.insert = function (this: UpdateLog, update) {
    const name = update.id + viewOf(update.signed.signature).toString('latin1');
    const known = updates.get(name);
    if (known === undefined) updates.set(name, update);
    return insert.call(this, known ?? update);
  };
}

/** An array with the bytes of `record` that nobody may write to, the same for equal bytes. */
export function sharedRecord(record: Uint8Array): Uint8Array {
  const name = viewOf(record).toString('latin1');
  let known = records.get(name);
  if (known === undefined) records.set(name, (known = record.slice()));
  return known;
}

/** Lets go of everything: the next swarm has other keys. */
export function forgetShared(): void {
  verified.clear();
  updates.clear();
  records.clear();
}

crypto.verify = verifyOnce as typeof crypto.verify;
syncBuiltinESMExports();
shareUpdates();
