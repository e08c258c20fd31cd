/** A hash of what texts say: the same on every machine and for texts that differ in white space alone. */
import { createHash } from 'node:crypto';

/** Values of contentHash lie in [0, CONTENT_HASH_RANGE). */
export const CONTENT_HASH_RANGE = 4294967296;

/**
 * First 32 bits of SHA-256 over the texts: Unicode NFC, runs of white space as one space, ends trimmed.
 * `label` keeps uses apart, so that one decision says nothing about another.
 */
export function contentHash(label: string, texts: readonly string[]): number {
  const normalised = texts.map((text) => text.normalize('NFC').replace(/\s+/gu, ' ').trim());
  const digest = createHash('sha256')
    .update(JSON.stringify([label, ...normalised]))
    .digest();
  return digest.readUInt32BE(0);
}
