/** What went wrong between a person and a hub, each in one sentence: what, why, and what to do. */
import { UserError } from '../errors.js';
import { errnoOf } from '../files.js';
import { formatHubName, type HubName } from '../model/hub-name.js';
import { HubAnswerError, HubRefusal, HubUnreachableError } from './client.js';

export interface Asked {
  wanted: HubName;
  /** Of the hub. */
  url: string;
  hasToken: boolean;
  /** Of the cache. */
  directory: string;
}

const TOKEN = 'set HF_TOKEN, or log in with huggingface-cli login';

/** Of another process that has the lock. */
export function waitingFor(name: string): string {
  return `another process is fetching ${name}; waiting for it`;
}

/** `error` in words where it came from a hub or the disk; else itself. */
export function inWords(error: unknown, asked: Asked): unknown {
  const name = formatHubName(asked.wanted);
  if (error instanceof HubRefusal)
    return new UserError(refusal(error, asked), undefined, { cause: error });
  if (error instanceof HubUnreachableError) {
    return new UserError(
      `${name}, which is no directory here, cannot be got from ${asked.url}: ${error.message}; what has come is kept, ` +
        'so run the command again (HF_ENDPOINT names another hub)',
      undefined,
      { cause: error },
    );
  }
  if (error instanceof HubAnswerError) {
    return new UserError(
      `${asked.url} does not answer about ${name} as a hub does (${error.message}): check HF_ENDPOINT`,
      undefined,
      { cause: error },
    );
  }
  return diskInWords(error, asked.directory);
}

/** `error` in words where it came from the disk of the cache `directory`; else itself. */
export function diskInWords(error: unknown, directory: string): unknown {
  const code = errnoOf(error);
  const words = code === null ? undefined : DISK[code];
  if (code === null || words === undefined) return error;
  const sentence = `the model cannot be written to the cache ${directory}: ${words} (${code})`;
  return new UserError(sentence, undefined, { cause: error });
}

function refusal({ status, code }: HubRefusal, { wanted, url, hasToken }: Asked): string {
  const { name, revision } = wanted;
  const page = `${url}/${name}`;
  if (code === 'RevisionNotFound') {
    return `${name} has no revision "${revision ?? 'main'}" at ${url}: give a branch, a tag or a commit that its page lists`;
  }
  if (code === 'GatedRepo' || status === 403) {
    return hasToken
      ? `${name} is gated, and your access token does not open it: accept its licence at ${page} with the account of the token, which must be allowed to read gated models`
      : `${name} is gated: accept its licence at ${page}, then ${TOKEN}`;
  }
  if (status === 401 && hasToken && code !== 'RepoNotFound') {
    return `${url} does not take your access token: make a new one and ${TOKEN}`;
  }
  if (status === 401 || status === 404) {
    // A hub tells those who may not know of a private model that there is none.
    return (
      `there is no model ${name} at ${url} that ${hasToken ? 'your access token opens' : 'is open to everybody'}: check the name; ` +
      `it is no directory here either; for a private or gated model ${hasToken ? 'use a token that may read it' : TOKEN}`
    );
  }
  return `${url} refuses ${name} with status ${status}: look at ${page}`;
}

const DISK: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full; what has come is kept: free some space and run the command again',
  EDQUOT:
    'the disk quota is used up; what has come is kept: free some space and run the command again',
  EROFS: 'it is read-only; set HF_HUB_CACHE to a directory that can be written',
  EACCES: 'this user may not write there; set HF_HUB_CACHE to a directory that can be written',
  EPERM: 'this user may not write there; set HF_HUB_CACHE to a directory that can be written',
  ENOTDIR: 'a part of its path is a file; set HF_HUB_CACHE to a directory',
  EEXIST: 'a part of its path is a file; set HF_HUB_CACHE to a directory',
  EIO: 'the disk reports an input/output error; check the disk',
};
