/** The manifest of a packed copy: what it was made of and how, and by what its bytes are known. */
import { z } from 'zod';
import { UserError } from '../../errors.js';
import { parseJson } from '../../json-file.js';
import type { PackedLayout } from './layout.js';
import type { Source } from './sources.js';

/** Goes up with every change of what the bytes of a copy mean. */
export const PACKED_VERSION = 1;

/** 100 bytes for each of 100,000 tensors. */
export const MANIFEST_BYTES_MAX = 32 * 1024 * 1024;

const count = z.int().min(0);
const manifestSchema = z.object({
  version: count,
  format: z.string(),
  /** Its name, for people. */
  model: z.string(),
  largestCode: count,
  /** Hashes of the files that it was made of, in the order of the tensors. */
  sources: z.array(z.object({ bytes: count, sha256: z.string() })),
  tensors: z.array(
    z.object({
      name: z.string(),
      dtype: z.string(),
      shape: z.array(count),
      offset: count,
      length: count,
      scales: z.object({ offset: count, length: count, block: count }).optional(),
    }),
  ),
  /** Of the file of weights. */
  bytes: count,
  sha256: z.string(),
  /** When the file of weights was written, in ns: as long as this stays, its hash is not computed again. */
  mtimeNs: z.string(),
});

export type Manifest = z.infer<typeof manifestSchema>;

/** What of a manifest follows from the model: all but the bytes that were made. */
export type Expected = Omit<Manifest, 'sha256' | 'mtimeNs' | 'model'>;

export function expectedManifest(layout: PackedLayout, sources: readonly Source[]): Expected {
  const { format, largestCode, bytes } = layout;
  return {
    ...{ version: PACKED_VERSION, format, largestCode, bytes },
    sources: sources.map(({ bytes: size, sha256 }) => ({ bytes: size, sha256 })),
    tensors: layout.tensors.map(({ name, dtype, shape, offset, length, scales }) => ({
      ...{ name, dtype, shape: [...shape], offset, length },
      ...(scales && { scales }),
    })),
  };
}

/** Null where `bytes` are no manifest. */
export function decodeManifest(bytes: Uint8Array): Manifest | null {
  try {
    return parseJson(bytes, 'the manifest', manifestSchema);
  } catch (error) {
    if (error instanceof UserError) return null;
    throw error;
  }
}

/** One line for each tensor, for people who look. */
export function encodeManifest({ tensors, ...rest }: Manifest): string {
  const head = JSON.stringify(rest).slice(0, -1);
  const lines = tensors.map((tensor) => JSON.stringify(tensor));
  return `${head},"tensors":[\n${lines.join(',\n')}\n]}\n`;
}

/** The version of a manifest, whatever else that version has in it; null where there is none. */
export function versionOf(bytes: Uint8Array): number | null {
  try {
    return parseJson(bytes, 'the manifest', z.looseObject({ version: count })).version;
  } catch (error) {
    if (error instanceof UserError) return null;
    throw error;
  }
}

/** Whether a copy is of this model, in this format and version. */
export function isAsExpected(manifest: Manifest, expected: Expected): boolean {
  return (
    manifest.version === expected.version &&
    canonicalContent(manifest) === canonicalContent(expected)
  );
}

/** The same text for the same weights in the same format. */
export function canonicalContent(expected: Omit<Expected, 'version'>): string {
  const { format, largestCode, sources, tensors, bytes } = expected;
  const rows = tensors.map(({ name, dtype, shape, offset, length, scales }) => [
    ...[name, dtype, shape, offset, length],
    scales && [scales.offset, scales.length, scales.block],
  ]);
  const hashes = sources.map((source) => [source.bytes, source.sha256]);
  return JSON.stringify([format, largestCode, hashes, rows, bytes]);
}
