/**
 * The data directory of one peer in one run.
 *
 * ```
 * murmurate-peer/
 *   identity.key     Ed25519 key, mode 600: who this peer is; losing it means joining as somebody else
 *   swarm.key        key of the private network, mode 600, where there is one
 *   manifest.bin     canonical bytes of the run's manifest; their SHA-256 is the run id
 *   log.bin          every accepted update, append-only until sealed ones are dropped (log-scan.ts)
 *   seal.bin         the certificate that the log goes on from, and which updates it counts (state-codec.ts)
 *   sum-EPOCH.bin    sum of the updates before a seal's epoch, for members who lack them (state-codec.ts)
 *   state.bin        residual and own last update (state-codec.ts)
 *   moments.bin      optimiser moments of some epochs ago (state-codec.ts)
 *   port             TCP port that was listened on: the same again after a restart (written by net/)
 *   known-peers.json members met before, to be found again without a bootstrap node (written by net/)
 *   settings.json    model, data files and held-out share of the last start, and whether it pauses (settings.ts)
 *   personal.bin     what this peer trained on its own text alone, for --personal (personal-file.ts)
 *   privacy.json     optimiser steps taken with noise, where training is private (privacy-file.ts)
 *   held-out-losses.json   losses that history --eval has measured (losses-file.ts)
 *   metrics.jsonl    what became of each epoch, for curves; metrics.1.jsonl before it (metrics-file.ts)
 *   model-hashes.json   hashes of the model's files, so that they are read once
 *   control.json     request of another command to the peer that runs, or its reply (control-file.ts)
 *   http             URL of the local status server while the peer runs
 *   http-port        port of that server: the same again after a restart
 *   owner.json       process that uses the directory (lock.ts), with the lock directories lock/ and guard/
 *   FILE.damaged     what could not be read, kept aside
 * ```
 */
import { join, resolve } from 'node:path';
import { readIfThere, writeAtomically } from './atomic-file.js';
import { disk, makeDirectory } from '../files.js';
import { makePrivate, PRIVATE_DIRECTORY } from '../private-file.js';
import { UserError } from '../errors.js';
import { storeUnavailable } from './unavailable.js';

/** Names of the files in the data directory. */
export const DIRECTORY_FILES = {
  identity: 'identity.key',
  swarmKey: 'swarm.key',
  manifest: 'manifest.bin',
  log: 'log.bin',
  seal: 'seal.bin',
  state: 'state.bin',
  moments: 'moments.bin',
  personal: 'personal.bin',
  port: 'port',
  peers: 'known-peers.json',
  http: 'http',
  httpPort: 'http-port',
  control: 'control.json',
  settings: 'settings.json',
  privacy: 'privacy.json',
  losses: 'held-out-losses.json',
  metrics: 'metrics.jsonl',
  modelHashes: 'model-hashes.json',
} as const;

/** Bytes of a text file of this directory; the addresses in it are few. */
const TEXT_BYTES_MAX = 64 * 1024;

/** All that this program writes into a data directory. */
const PRIVATE_NAMES = [
  ...Object.values(DIRECTORY_FILES),
  ...['state.bin.damaged', 'moments.bin.damaged', 'seal.bin.damaged'],
  ...['metrics.1.jsonl', 'owner.json'],
];

/** Paths and small files of one data directory. */
export class DataDirectory {
  constructor(readonly path: string) {}

  /** Where `file` lies. */
  pathOf(file: keyof typeof DIRECTORY_FILES): string {
    return join(this.path, DIRECTORY_FILES[file]);
  }

  /** Where the sum of the updates before `epoch` lies. */
  sumPath(epoch: number): string {
    return join(this.path, `sum-${epoch}.bin`);
  }

  /**
   * Makes the directory where it is missing, and takes from others what they may do with it and with its files.
   * Returns a sentence for each change. Throws UserError for a directory that is not this user's, StoreUnavailableError.
   */
  async create(): Promise<string[]> {
    try {
      await makeDirectory(resolve(this.path), PRIVATE_DIRECTORY);
      return await makePrivate(this.path, PRIVATE_NAMES);
    } catch (error) {
      if (error instanceof UserError) throw error;
      throw storeUnavailable('make the directory', this.path, error);
    }
  }

  /** The stored manifest's bytes, null before a run was founded or joined. */
  async readManifest(): Promise<Uint8Array | null> {
    return readIfThere(this.pathOf('manifest'));
  }

  async writeManifest(bytes: Uint8Array): Promise<void> {
    await writeAtomically(this.pathOf('manifest'), [bytes]);
  }

  /** Lines of a small text file, [] when it is missing. */
  async readLines(file: 'http' | 'httpPort'): Promise<string[]> {
    const bytes = await readIfThere(this.pathOf(file));
    if (bytes === null) return [];
    return new TextDecoder()
      .decode(bytes.subarray(0, TEXT_BYTES_MAX))
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '');
  }

  async writeLines(file: 'http' | 'httpPort', lines: readonly string[]): Promise<void> {
    const text = lines.map((line) => `${line}\n`).join('');
    await writeAtomically(this.pathOf(file), [new TextEncoder().encode(text)]);
  }

  /** Removes a small text file; nothing happens when it is missing. */
  async remove(file: 'http' | 'control'): Promise<void> {
    try {
      await disk.remove(this.pathOf(file));
    } catch (error) {
      throw storeUnavailable('remove', this.pathOf(file), error);
    }
  }
}
