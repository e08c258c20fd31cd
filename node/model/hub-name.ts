/** Names of models on a hub: how people write them, and how Hugging Face's cache writes them on disk. */
import { basename, dirname, resolve } from 'node:path';

/** A model as somebody asks for it. */
export interface HubName {
  /** E.g. "gpt2" or "owner/name". */
  name: string;
  /** A branch, a tag or a commit; null for the main branch. */
  revision: string | null;
}

/** A model at one commit. */
export interface PinnedName {
  name: string;
  /** 40 hex digits. */
  commit: string;
}

/** As many as a hub allows. */
const NAME_CHARACTERS_MAX = 96;
const REVISION_CHARACTERS_MAX = 200;
const PART = '[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?';
const NAME = new RegExp(`^${PART}(?:/${PART})?$`);
const REVISION = /^[A-Za-z0-9_](?:[A-Za-z0-9._/-]*[A-Za-z0-9_-])?$/;
const COMMIT = /^[0-9a-f]{40}$/;

/**
 * Reads NAME, OWNER/NAME and either with @REVISION; null for anything else. Neither part can climb out of a
 * directory or stand for an option: both become parts of paths and URLs.
 */
export function parseHubName(text: string): HubName | null {
  const at = text.indexOf('@');
  const name = at < 0 ? text : text.slice(0, at);
  const revision = at < 0 ? null : text.slice(at + 1);
  // "--" separates owner and name in the cache.
  const isName = NAME.test(name) && name.length <= NAME_CHARACTERS_MAX && !/--|\.\./.test(name);
  if (!isName || (revision !== null && !isRevision(revision))) return null;
  return { name, revision };
}

function isRevision(text: string): boolean {
  if (text.length > REVISION_CHARACTERS_MAX || /\.\.|\/\/|\/\./.test(text)) return false;
  return REVISION.test(text);
}

export function isCommit(text: string): boolean {
  return COMMIT.test(text);
}

/** As parseHubName reads it. */
export function formatHubName({ name, revision }: HubName): string {
  return revision === null ? name : `${name}@${revision}`;
}

/** The directory of a model in a cache: "models--owner--name". */
export function cacheFolderOf(name: string): string {
  return `models--${name.replace('/', '--')}`;
}

/** Which model a directory of a cache holds: .../models--owner--name/snapshots/COMMIT; null for other directories. */
export function hubNameOfDirectory(dir: string): PinnedName | null {
  const path = resolve(dir);
  const commit = basename(path);
  const folder = basename(dirname(dirname(path)));
  if (!isCommit(commit) || basename(dirname(path)) !== 'snapshots') return null;
  if (!folder.startsWith('models--')) return null;
  const name = folder.slice('models--'.length).replace('--', '/');
  return parseHubName(name) === null ? null : { name, commit };
}
