/** A base model that a peer trains on: its directory, its config, and what names it among peers. */
import { EXIT_FAILURE, UserError } from './errors.js';
import type { ModelConfig } from './model/config.js';
import { explainMismatch, fingerprintModel, type FileChange } from './model/fingerprint.js';
import { rememberedSha256 } from './model/hash-cache.js';
import { openModelDirectory } from './model/model-directory.js';
import { DamagedFileError } from './model/safetensors.js';
import type { ModelFingerprint, Run } from '../protocol/manifest.js';

export interface BaseModel {
  /** Absolute path. */
  dir: string;
  config: ModelConfig;
  fingerprint: ModelFingerprint;
  /** Files that hold something else than when this peer read them before. */
  changes: readonly FileChange[];
}

/** Throws UserError for a directory that is no usable model. `cacheFile`: see fingerprintModel. */
export async function openBaseModel(path: string, cacheFile?: string): Promise<BaseModel> {
  try {
    const { dir, config } = await openModelDirectory(path);
    const changes: FileChange[] = [];
    const fingerprint = await fingerprintModel(dir, cacheFile, (change) => changes.push(change));
    return { dir, config, fingerprint, changes };
  } catch (error) {
    if (!(error instanceof DamagedFileError) || cacheFile === undefined) throw error;
    const before = await rememberedSha256(error.file, cacheFile);
    if (before === null) throw error;
    throw new UserError(`${error.message}; when this peer last read it whole, that was ${before}`);
  }
}

/** Throws UserError that says in which field the base differs from the run's, and what to do. */
export function checkBaseModel({ manifest }: Run, base: BaseModel): void {
  const faults = explainMismatch(manifest.model, base.fingerprint);
  if (faults.length === 0) return;
  for (const { file, before, now } of base.changes) {
    faults.push(
      `${file} has changed since this peer last read it (its SHA-256 was ${before}, now it is ${now})`,
    );
  }
  throw new UserError(
    `${base.dir} is not the base model of the run "${manifest.name}": ${faults.join('; ')}`,
    EXIT_FAILURE,
  );
}
