/** Reads JSON that others wrote: bounded in bytes, checked against a schema, each fault one sentence. */
import { open } from 'node:fs/promises';
import type { z } from 'zod';
import { UserError } from './errors.js';
import { printableLine } from './printable.js';

/** How much of an offending value an error message shows, in characters. */
const SHOWN_CHARACTERS_MAX = 60;

/** Objects and lists within one another: a deeper document is made to exhaust the stack of whoever walks it. */
export const JSON_DEPTH_MAX = 100;
/** Values of one document, each of some 50 bytes in memory: the largest tokenizers have 2 million. */
export const JSON_VALUES_MAX = 1 << 22;

/**
 * Reads a file of at most `bytesMax` bytes. `what` names it in errors, e.g. "the model's config".
 * Throws UserError when it is missing, unreadable or longer.
 */
export async function readBoundedFile(
  path: string,
  bytesMax: number,
  what: string,
): Promise<Uint8Array> {
  try {
    const handle = await open(path, 'r');
    try {
      const status = await handle.stat();
      if (!status.isFile()) throw new UserError(`${path} (${what}) is not a regular file`);
      if (status.size > bytesMax) {
        throw new UserError(
          `${path} (${what}) has ${status.size} bytes, more than the ${bytesMax} that it may have: it is not ${what}, or it is damaged`,
        );
      }
      return await handle.readFile();
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw unreadable(path, what, error);
  }
}

/** As readBoundedFile, but null when the file does not exist. */
export async function readFileIfThere(
  path: string,
  bytesMax: number,
  what: string,
): Promise<Uint8Array | null> {
  try {
    return await readBoundedFile(path, bytesMax, what);
  } catch (error) {
    const cause = error instanceof UserError ? error.cause : error;
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return null;
    throw error;
  }
}

/** The sentence for a file that the system would not open or read. */
export function unreadable(path: string, what: string, cause: unknown): UserError {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown error';
  const reason =
    code === 'ENOENT'
      ? 'does not exist'
      : code === 'EACCES' || code === 'EPERM'
        ? 'may not be read by this user'
        : `cannot be read (${code})`;
  return new UserError(`${path} (${what}) ${reason}: check the path`, undefined, { cause });
}

/**
 * Parses UTF-8 JSON and checks it. `source` names the bytes in errors, mostly a path.
 * Throws UserError that names the first wrong field, its value and what it must be.
 */
export function parseJson<T>(text: string | Uint8Array, source: string, schema: z.ZodType<T>): T {
  let value: unknown;
  try {
    const decoded =
      typeof text === 'string' ? text : new TextDecoder('utf-8', { fatal: true }).decode(text);
    checkShape(decoded, source);
    value = JSON.parse(decoded);
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw new UserError(
      `${source} is not valid JSON (damaged or cut short): get it again`,
      undefined,
      { cause },
    );
  }
  const checked = schema.safeParse(value);
  if (checked.success) return checked.data;
  const issue = checked.error.issues[0];
  const path = issue?.path.map(String) ?? [];
  const field = path.length === 0 ? 'the document' : `field "${path.join('.')}"`;
  throw new UserError(
    `${source}: ${field} is ${show(valueAt(value, path))}, ${expectation(issue?.message)}`,
  );
}

const [QUOTE, BACKSLASH, COMMA] = [0x22, 0x5c, 0x2c];
const [OPEN_BRACKET, CLOSE_BRACKET, OPEN_BRACE, CLOSE_BRACE] = [0x5b, 0x5d, 0x7b, 0x7d];

/** Throws UserError for a document that would take much more memory than its file: "[[],[],..." or "[[[[...". */
function checkShape(text: string, source: string): void {
  let [depth, values] = [0, 0];
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE:
        at = endOfString(text, at);
        break;
      case OPEN_BRACKET:
      case OPEN_BRACE:
        values++;
        if (++depth <= JSON_DEPTH_MAX) break;
        throw new UserError(
          `${source} is nested more than ${JSON_DEPTH_MAX} levels deep: it is damaged or made to harm, get it again`,
        );
      case CLOSE_BRACKET:
      case CLOSE_BRACE:
        depth--;
        break;
      case COMMA:
        values++;
        break;
    }
  }
  if (values <= JSON_VALUES_MAX) return;
  throw new UserError(
    `${source} has more than ${JSON_VALUES_MAX} values: it is damaged or made to harm, get it again`,
  );
}

/** Where the string that begins at `start` ends; the end of the text where it does not. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && text.charCodeAt(at) !== QUOTE) {
    at += text.charCodeAt(at) === BACKSLASH ? 2 : 1;
  }
  return at;
}

/** readBoundedFile and parseJson in one. */
export async function readJsonFile<T>(
  path: string,
  bytesMax: number,
  what: string,
  schema: z.ZodType<T>,
): Promise<T> {
  return parseJson(await readBoundedFile(path, bytesMax, what), path, schema);
}

/** Schemas of this project say "but ..."; where one says nothing the library's own words follow. */
function expectation(message = 'not expected'): string {
  return message.startsWith('but ') ? message : `which cannot be used (${message})`;
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  let found = value;
  for (const key of path) {
    if (typeof found !== 'object' || found === null) return undefined;
    found = (found as Record<string, unknown>)[key];
  }
  return found;
}

function show(value: unknown): string {
  if (value === undefined) return 'missing';
  const text = printableLine(JSON.stringify(value));
  return text.length > SHOWN_CHARACTERS_MAX ? `${text.slice(0, SHOWN_CHARACTERS_MAX)}...` : text;
}
