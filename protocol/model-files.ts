/**
 * The catalogue of a base model's files: names, sizes and the roots of their parts, so that a member who lacks the model can
 * take each part from anyone and check it. The manifest names the catalogue; both are blobs (blob.ts). No I/O.
 */
import { blobRoot, chunkHashes, type BlobName } from './blob.js';
import { bytesEqual, fromHex, toHex } from './bytes.js';
import { InvalidModelFilesError, messageOf } from './errors.js';
import {
  MODEL_BYTES_MAX,
  MODEL_CATALOGUE_BYTES_MAX,
  MODEL_FILE_NAME_LENGTH_MAX,
  MODEL_FILES_MAX,
  MODEL_PART_BYTES,
} from './limits.js';
import * as wire from './wire/messages.js';

/** Without these there is no model. */
export const NEEDED_MODEL_FILES = ['config.json', 'tokenizer.json'] as const;

/** Taken along where they are: chat template, special tokens, what ends an answer. */
export const EXTRA_MODEL_FILES = [
  'generation_config.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
] as const;

/** Where each tensor of a model in several files lies. */
export const WEIGHT_INDEX_FILE = 'model.safetensors.index.json';

const WEIGHT_FILE = /^[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors$/;
const OTHER_FILES: readonly string[] = [
  ...NEEDED_MODEL_FILES,
  ...EXTRA_MODEL_FILES,
  WEIGHT_INDEX_FILE,
];

export interface ModelFile {
  /** A plain name, without a path. */
  name: string;
  /** Bytes, at least 1. */
  size: number;
  /** Root of each part, 64 hex digits, in order. */
  parts: readonly string[];
}

/** One piece of a file, to be fetched as a blob. */
export interface ModelPart extends BlobName {
  file: string;
  /** Where it begins in the file, in bytes. */
  offset: number;
}

/** Whether a base model may have a file of this name: nothing that could be a path, or be run. */
export function isModelFile(name: string): boolean {
  if (name.length > MODEL_FILE_NAME_LENGTH_MAX) return false;
  return OTHER_FILES.includes(name) || WEIGHT_FILE.test(name);
}

export function partCount(size: number): number {
  return Math.ceil(size / MODEL_PART_BYTES);
}

/** All parts of `files`, in order. */
export function partsOf(files: readonly ModelFile[]): ModelPart[] {
  return files.flatMap(({ name, size, parts }) =>
    parts.map((root, i) => {
      const offset = i * MODEL_PART_BYTES;
      return { file: name, offset, root, size: Math.min(MODEL_PART_BYTES, size - offset) };
    }),
  );
}

export function totalBytes(files: readonly ModelFile[]): number {
  return files.reduce((sum, { size }) => sum + size, 0);
}

/** The canonical bytes, whatever the order of `files`. @throws InvalidModelFilesError for what is no model, or out of bounds. */
export function encodeModelFiles(files: readonly ModelFile[]): Uint8Array<ArrayBuffer> {
  const sorted = [...files].sort((a, b) => (a.name < b.name ? -1 : 1));
  check(sorted);
  const bytes = wire.ModelFiles.encode({
    files: sorted.map(({ name, size, parts }) => ({ name, size, parts: parts.map(fromHex) })),
  });
  if (bytes.length > MODEL_CATALOGUE_BYTES_MAX) throw oversize(bytes.length);
  return bytes;
}

/** @throws InvalidModelFilesError when `bytes` are too long, malformed, not canonical, no model or out of bounds. */
export function decodeModelFiles(bytes: Uint8Array): ModelFile[] {
  if (bytes.length > MODEL_CATALOGUE_BYTES_MAX) throw oversize(bytes.length);
  let message: wire.ModelFiles;
  try {
    message = wire.ModelFiles.decode(bytes);
  } catch (cause) {
    throw new InvalidModelFilesError(`it is not valid: ${messageOf(cause)}`, { cause });
  }
  const files = message.files.map(({ name, size, parts }) => ({
    name,
    size,
    parts: parts.map(toHex),
  }));
  if (!bytesEqual(encodeModelFiles(files), bytes)) {
    throw new InvalidModelFilesError('it is not in canonical form');
  }
  return files;
}

/** What the manifest names a catalogue by. */
export function catalogueName(bytes: Uint8Array): BlobName {
  return { root: toHex(blobRoot(chunkHashes([bytes]))), size: bytes.length };
}

function check(files: readonly ModelFile[]): void {
  if (files.length > MODEL_FILES_MAX) {
    fail(`it has ${files.length} files; at most ${MODEL_FILES_MAX} are allowed`);
  }
  const names = new Set<string>();
  for (const { name, size, parts } of files) {
    if (!isModelFile(name)) {
      fail(`it has a file ${JSON.stringify(name.slice(0, 200))}, which no model directory holds`);
    }
    if (names.has(name)) fail(`it has ${name} twice`);
    names.add(name);
    if (!Number.isSafeInteger(size) || size < 1) fail(`${name} has ${size} bytes`);
    if (parts.length !== partCount(size)) {
      fail(`${name} of ${size} bytes has ${parts.length} parts, not ${partCount(size)}`);
    }
    if (!parts.every((root) => /^[0-9a-f]{64}$/.test(root))) fail(`${name} has a part of no root`);
  }
  const total = totalBytes(files);
  if (total > MODEL_BYTES_MAX) {
    fail(`its files have ${total} bytes; at most ${MODEL_BYTES_MAX} are allowed`);
  }
  const missing = NEEDED_MODEL_FILES.find((name) => !names.has(name));
  if (missing !== undefined) fail(`it has no ${missing}`);
  if (!files.some(({ name }) => WEIGHT_FILE.test(name))) fail('it has no weights');
}

function oversize(bytes: number): InvalidModelFilesError {
  return new InvalidModelFilesError(
    `it has ${bytes} bytes; at most ${MODEL_CATALOGUE_BYTES_MAX} are allowed`,
  );
}

function fail(reason: string): never {
  throw new InvalidModelFilesError(reason);
}
