/** A hash of what texts say: the same on every machine and for texts that differ in white space alone. */
import { createHash } from 'node:crypto';

/** Values of contentHash lie in [0, CONTENT_HASH_RANGE). */
export const CONTENT_HASH_RANGE = 4294967296;

/**
 * First 32 bits of SHA-256 over the texts: Unicode NFC, runs of white space as one space, ends trimmed.
 * `label` keeps uses apart, so that one decision says nothing about another.
 */
export function contentHash(label: string, texts: readonly string[]): number {
  return digestOf(label, texts).readUInt32BE(0);
}

/** As contentHash with 53 bits, in [0, 2^53): among a million texts two differ and have one hash by a chance of 1e-4. */
export function wideContentHash(label: string, texts: readonly string[]): number {
  const digest = digestOf(label, texts);
  return digest.readUInt32BE(0) * 2 ** 21 + (digest.readUInt32BE(4) >>> 11);
}

function digestOf(label: string, texts: readonly string[]): Buffer {
  const normalised = texts.map((text) => text.normalize('NFC').replace(/\s+/gu, ' ').trim());
  return createHash('sha256')
    .update(JSON.stringify([label, ...normalised]))
    .digest();
}
