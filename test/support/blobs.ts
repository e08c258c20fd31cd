/** Blobs for tests: bytes that differ everywhere, with their name and a source that has them all. */
import {
  blobRoot,
  chunkHashes,
  wholeBlob,
  type BlobName,
  type BlobSource,
} from '../../protocol/blob.js';
import { toHex } from '../../protocol/bytes.js';

/** `size` bytes; no two chunks are alike. */
export function pattern(size: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: size }, (_, i) => i * 7 + (i >> 8) + (i >> 16));
}

export function blobOf(bytes: Uint8Array): {
  name: BlobName;
  source: BlobSource;
  hashes: Uint8Array<ArrayBuffer>;
} {
  const hashes = chunkHashes([bytes]);
  const name = { root: toHex(blobRoot(hashes)), size: bytes.length };
  return { name, source: wholeBlob([bytes], hashes), hashes };
}
