/** The base model among members: what a founder names of it, what a peer gives with --share-model, whom a newcomer asks. */
import { UserError } from '../errors.js';
import { listModelFiles } from '../model/model-listing.js';
import { SharedModel } from '../model/shared-model.js';
import { loadKnownPeers } from '../net/known-peers.js';
import type { BlobName } from '../../protocol/blob.js';
import type { Run } from '../../protocol/manifest.js';
import type { FromMembers } from './base-choice.js';
import type { MemberModelInit } from './member-model.js';
import type { Session } from './session.js';
import { inMb, sayIfSlow } from './slow.js';

/** How the model of a run is fetched from its members: from `from`, and those that this peer met before. */
export function fromMembers(
  { home, host, io }: Session,
  {
    timeout,
    ...from
  }: Pick<MemberModelInit, 'contacts' | 'members' | 'admission'> & { timeout: number | null },
): FromMembers {
  return async (run, files) => {
    const known = (await loadKnownPeers(home.directory.pathOf('peers'))) ?? [];
    const members = [...from.members, ...known];
    const timeoutMs = timeout === null ? Infinity : timeout * 1000;
    // Most starts do without.
    const { modelFromMembers } = await import('./member-model.js');
    return modelFromMembers({
      ...{ host, run, files, contacts: from.contacts, members, admission: from.admission },
      ...{ env: process.env, timeoutMs, io },
    });
  };
}

/** The catalogue of the model in `dir` for a run that is founded; null, with a sentence why, where it cannot have one. */
export async function listForRun(
  { home, progress }: Session,
  dir: string,
): Promise<BlobName | null> {
  try {
    const cacheFile = home.directory.pathOf('modelHashes');
    const listing = listModelFiles(dir, cacheFile);
    return (await sayIfSlow(progress.log, `listing the files of ${dir}`, listing)).name;
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    progress.log.write(`members cannot fetch the base model from each other: ${error.message}\n`);
    return null;
  }
}

/** What --share-model gives of the model in `dir`; null without it, and, with a sentence, where nobody could use it. Throws UserError. */
export async function openSharedModel(
  { home, options, progress }: Session,
  { manifest: { model } }: Run,
  dir: string,
): Promise<SharedModel | null> {
  if (!options.shareModel) return null;
  if (model.files === null) {
    progress.log.write('--share-model gives nothing: the run names no files of its base model\n');
    return null;
  }
  const cacheFile = home.directory.pathOf('modelHashes');
  const listed = listModelFiles(dir, cacheFile);
  const listing = await sayIfSlow(progress.log, `listing the files of ${dir}`, listed);
  if (listing.name.root !== model.files.root) {
    progress.log.write(
      `--share-model gives nothing: ${dir} has the weights of the run, but not all of its other files, or other ones; ` +
        'take the files of the founder\n',
    );
    return null;
  }
  const bytes = listing.files.reduce((sum, { size }) => sum + size, 0);
  progress.log.write(`sharing the base model with members that lack it: ${inMb(bytes)} MB\n`);
  return new SharedModel(listing);
}
