/** Inputs as files, for decoders that read a path. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A file system in memory, where the system has one. */
const MEMORY = '/dev/shm';

/** A directory of its own for this process, removed when it ends. */
export const scratch = mkdtempSync(join(existsSync(MEMORY) ? MEMORY : tmpdir(), 'murmurate-fuzz-'));
process.on('exit', () => {
  rmSync(scratch, { recursive: true, force: true });
});

/** Puts `bytes` into the file `name` of the scratch directory. Returns its path. */
export function fileOf(name: string, bytes: Uint8Array | string): string {
  const path = join(scratch, name);
  // What holds a secret is refused where others can read it.
  writeFileSync(path, bytes, { mode: 0o600 });
  return path;
}
