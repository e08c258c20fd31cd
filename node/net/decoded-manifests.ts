/**
 * What came of manifests that were decoded lately and led to no place: the same bytes are not decoded again, however
 * often they are offered. Whatever has a place is remembered there.
 */
import { InvalidManifestError } from '../../protocol/errors.js';
import { decodeManifest } from '../../protocol/manifest-codec.js';
import type { Run } from '../../protocol/manifest.js';

/** Manifests remembered, and their bytes together; the one asked for longest ago goes first. */
export const REMEMBERED_MAX = 256;
export const REMEMBERED_BYTES_MAX = 4 * 1024 * 1024;

export class DecodedManifests {
  readonly #verdicts = new Map<string, { verdict: Run | InvalidManifestError; bytes: number }>();
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  /** The run with this id, if it was decoded lately. @throws InvalidManifestError when it was found to be none. */
  recall(runId: string): Run | null {
    const known = this.#verdicts.get(runId);
    if (known === undefined) return null;
    this.#verdicts.delete(runId);
    this.#verdicts.set(runId, known);
    if (known.verdict instanceof InvalidManifestError) throw known.verdict;
    return known.verdict;
  }

  /** Decodes `manifest`, whose SHA-256 is `runId`. @throws InvalidManifestError. */
  decode(runId: string, manifest: Uint8Array): Run {
    try {
      const run = decodeManifest(manifest);
      this.#remember(runId, run, run.bytes.length);
      return run;
    } catch (error) {
      if (error instanceof InvalidManifestError) this.#remember(runId, error, 0);
      throw error;
    }
  }

  #remember(runId: string, verdict: Run | InvalidManifestError, bytes: number): void {
    this.#verdicts.set(runId, { verdict, bytes });
    this.#bytes += bytes;
    for (const [oldest, { bytes: freed }] of this.#verdicts) {
      if (this.#verdicts.size <= REMEMBERED_MAX && this.#bytes <= REMEMBERED_BYTES_MAX) return;
      this.#verdicts.delete(oldest);
      this.#bytes -= freed;
    }
  }
}
