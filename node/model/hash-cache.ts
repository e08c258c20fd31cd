/** Hashes of a model's files, remembered by path, size and time of change, so that a start does not read gigabytes again. */
import { createHash } from 'node:crypto';
import { open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { BLOB_CHUNK_BYTES, MODEL_PART_BYTES } from '../../protocol/limits.js';
import { errnoOf, fileSha256, readAt } from '../files.js';
import { unreadable } from '../json-file.js';

/** Files remembered in a cache; beyond it the cache starts afresh. */
const CACHE_ENTRIES_MAX = 512;
/** A file that changed this recently may change again within the clock's resolution: not cached. */
const SETTLED_AFTER_MS = 2000;

const hash = z.string().regex(/^[0-9a-f]{64}$/);
const cacheSchema = z.record(
  z.string(),
  z.object({
    size: z.string(),
    mtimeNs: z.string(),
    sha256: hash,
    /** Roots of its parts (protocol/model-files.ts), once they were asked for. */
    parts: z.array(hash).optional(),
  }),
);

/** By absolute path. */
export type HashCache = z.infer<typeof cacheSchema>;

/** SHA-256 of `file`, 64 hex digits; read only where `cache` does not know it. Throws UserError, the signal's reason. */
export async function cachedSha256(
  file: string,
  cache: HashCache,
  signal?: AbortSignal,
): Promise<string> {
  const sha256Of = async (): Promise<{ sha256: string }> => ({
    sha256: await fileSha256(file, signal),
  });
  return (await cached(file, cache, (entry) => entry.sha256 !== '', sha256Of)).sha256;
}

/** Size and roots of the parts of `file`, in order, as cachedSha256. */
export async function cachedParts(
  file: string,
  cache: HashCache,
): Promise<{ size: number; parts: string[] }> {
  const isKnown = ({ parts }: Hashes): boolean => parts !== undefined;
  const { size, parts = [] } = await cached(file, cache, isKnown, () => readParts(file));
  return { size: Number(size), parts };
}

type Hashes = Pick<HashCache[string], 'sha256' | 'parts'>;

async function cached(
  file: string,
  cache: HashCache,
  isEnough: (hashes: Hashes) => boolean,
  read: () => Promise<Hashes>,
): Promise<HashCache[string]> {
  try {
    const { size, mtimeNs, mtimeMs } = await stat(file, { bigint: true });
    const known = cache[file];
    const isSame = known?.size === String(size) && known.mtimeNs === String(mtimeNs);
    if (isSame && isEnough(known)) return known;
    const entry = { size: String(size), mtimeNs: String(mtimeNs), ...(await read()) };
    if (Date.now() - Number(mtimeMs) > SETTLED_AFTER_MS) cache[file] = entry;
    return entry;
  } catch (cause) {
    // Asked to stop, or the system refused.
    if (errnoOf(cause) === null) throw cause;
    throw unreadable(file, 'a file of the model', cause);
  }
}

/** One reading for the hash of the file and those of its chunks. */
async function readParts(file: string): Promise<Required<Hashes>> {
  const whole = createHash('sha256');
  const parts: string[] = [];
  let part = createHash('sha256');
  const handle = await open(file, 'r');
  try {
    const buffer = Buffer.alloc(BLOB_CHUNK_BYTES);
    for (let size = 0; ;) {
      const chunk = buffer.subarray(0, await readAt(handle, buffer, size));
      size += chunk.length;
      whole.update(chunk);
      if (chunk.length > 0) part.update(createHash('sha256').update(chunk).digest());
      const isLast = chunk.length < BLOB_CHUNK_BYTES;
      if (isLast ? size % MODEL_PART_BYTES !== 0 : size % MODEL_PART_BYTES === 0) {
        parts.push(part.digest('hex'));
        part = createHash('sha256');
      }
      if (isLast) return { sha256: whole.digest('hex'), parts };
    }
  } finally {
    await handle.close();
  }
}

/** What `cacheFile` remembers of `file` as it was; null when nothing. */
export async function rememberedSha256(file: string, cacheFile: string): Promise<string | null> {
  return (await readHashCache(cacheFile))[file]?.sha256 ?? null;
}

/** A cache that is missing or damaged costs time, not correctness: it starts afresh. */
export async function readHashCache(cacheFile: string): Promise<HashCache> {
  try {
    const cache = cacheSchema.parse(JSON.parse(await readFile(cacheFile, 'utf8')));
    return Object.keys(cache).length > CACHE_ENTRIES_MAX ? {} : cache;
  } catch {
    return {};
  }
}

/** Written beside its place and renamed, so that two peers of one machine may share it. */
export async function writeHashCache(cacheFile: string, cache: HashCache): Promise<void> {
  const temporary = `${cacheFile}.${process.pid}.tmp`;
  try {
    // Like all in a peer's directory: for its owner alone.
    await writeFile(temporary, JSON.stringify(cache), { mode: 0o600 });
    await rename(temporary, cacheFile);
  } catch {
    // A disk that refuses the cache costs the next start a second reading.
    await rm(temporary, { force: true }).catch(() => undefined);
  }
}
