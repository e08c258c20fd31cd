/** What --personal reads: the experts that `murmurate personal` has kept in a data directory. */
import { switchOption } from '../config.js';
import { UserError } from '../errors.js';
import { DamagedStateError } from '../store/array-file.js';
import { DataDirectory } from '../store/directory.js';
import { readExperts, type StoredExperts } from '../store/personal-file.js';
import { adapterLayout } from '../../protocol/adapter.js';
import type { Run } from '../../protocol/manifest.js';

export const personalOption = {
  personal: switchOption(
    'mix the swarm’s adapter with what this peer trained on its own text: see murmurate personal',
  ),
} as const;

/** Those of `run` in `dir`. Throws UserError, which says what to do, where there are none that can be used. */
export async function readPersonalExperts(dir: string, run: Run): Promise<StoredExperts> {
  const directory = new DataDirectory(dir);
  const owner = { runId: run.id, adapterSize: adapterLayout(run.manifest.adapter).size };
  let experts: StoredExperts | null;
  try {
    experts = await readExperts(directory, owner);
  } catch (error) {
    if (!(error instanceof DamagedStateError)) throw error;
    throw new UserError(
      `${directory.pathOf('personal')} cannot be used: ${error.message}; murmurate personal --dir ${dir} makes it anew`,
    );
  }
  if (experts !== null) return experts;
  throw new UserError(
    `${dir} holds no personal experts yet; murmurate personal --dir ${dir} trains them on this peer’s own text`,
  );
}
