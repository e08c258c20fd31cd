/** What the environment says of the hub, with the variables of Hugging Face's own library: where it is, who asks, where its cache lies. */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { HUB_URL } from '@huggingface/hub';
import { EXIT_USAGE, UserError } from '../errors.js';

/** The environment variables of a process. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Printable ASCII: whatever else a header would refuse, in an error that shows the token. */
const TOKEN = /^[\x21-\x7e]{1,512}$/;

export interface Endpoint {
  /** Without a slash at its end. */
  url: string;
  /** True for HF_HUB_OFFLINE=1: nothing is asked. */
  isOffline: boolean;
}

/** Throws UserError (wrong usage) for an HF_ENDPOINT that is no URL. */
export function endpointOf(env: Environment): Endpoint {
  const given = env.HF_ENDPOINT?.trim();
  const isOffline = isTrue(env.HF_HUB_OFFLINE) || isTrue(env.TRANSFORMERS_OFFLINE);
  if (given === undefined || given === '') return { url: HUB_URL, isOffline };
  const url = URL.canParse(given) ? new URL(given) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '') {
    throw new UserError(
      'HF_ENDPOINT is set to something that is no address of a hub; it must be like https://HOST',
      EXIT_USAGE,
    );
  }
  return { url: `${url.origin}${url.pathname}`.replace(/\/+$/, ''), isOffline };
}

/** Directory that holds models--OWNER--NAME; absolute. */
export function cacheDirectoryOf(env: Environment): string {
  const given = set(env.HF_HUB_CACHE) ?? set(env.HUGGINGFACE_HUB_CACHE);
  return given === null ? join(homeOf(env), 'hub') : absolute(given);
}

/**
 * The user's access token, null when there is none. Throws UserError for one that cannot be sent, and for a
 * token file that cannot be read; no message holds any of it.
 */
export async function tokenOf(env: Environment): Promise<string | null> {
  const given = set(env.HF_TOKEN) ?? set(env.HUGGING_FACE_HUB_TOKEN);
  const path = absolute(set(env.HF_TOKEN_PATH) ?? join(homeOf(env), 'token'));
  const token = (given ?? (await readTokenFile(path)))?.trim() ?? '';
  if (token === '') return null;
  if (TOKEN.test(token)) return token;
  throw new UserError(
    `${given === null ? path : 'HF_TOKEN'} holds characters that no access token has; put the token there alone`,
  );
}

async function readTokenFile(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw new UserError(`${path} (the access token) cannot be read (${code})`, undefined, {
      cause,
    });
  }
}

function homeOf(env: Environment): string {
  const cache = set(env.XDG_CACHE_HOME) ?? join(homedir(), '.cache');
  return absolute(set(env.HF_HOME) ?? join(cache, 'huggingface'));
}

function absolute(path: string): string {
  return resolve(path.replace(/^~(?=$|\/)/, homedir()));
}

function set(value: string | undefined): string | null {
  return value === undefined || value.trim() === '' ? null : value;
}

function isTrue(value: string | undefined): boolean {
  return /^(1|on|yes|true)$/i.test(value?.trim() ?? '');
}
