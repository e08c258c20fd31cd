/** A base model that a peer trains on: its directory, its config, and what names it among peers. */
import { EXIT_FAILURE, UserError } from './errors.js';
import type { ModelConfig } from './model/config.js';
import { explainMismatch, fingerprintModel } from './model/fingerprint.js';
import { openModelDirectory } from './model/model-directory.js';
import type { ModelFingerprint, Run } from '../protocol/manifest.js';

export interface BaseModel {
  /** Absolute path. */
  dir: string;
  config: ModelConfig;
  fingerprint: ModelFingerprint;
}

/** Throws UserError for a directory that is no usable model. `cacheFile`: see fingerprintModel. */
export async function openBaseModel(path: string, cacheFile?: string): Promise<BaseModel> {
  const { dir, config } = await openModelDirectory(path);
  return { dir, config, fingerprint: await fingerprintModel(dir, cacheFile) };
}

/** Throws UserError that says in which field the base differs from the run's, and what to do. */
export function checkBaseModel({ manifest }: Run, base: BaseModel): void {
  const faults = explainMismatch(manifest.model, base.fingerprint);
  if (faults.length === 0) return;
  throw new UserError(
    `${base.dir} is not the base model of the run "${manifest.name}": ${faults.join('; ')}`,
    EXIT_FAILURE,
  );
}
