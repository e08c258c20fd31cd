/** What a hub has of a model: the commit, and those of its files that a peer needs. */
import { listFiles, modelInfo } from '@huggingface/hub';
import { z } from 'zod';
import {
  EXTRA_MODEL_FILES,
  NEEDED_MODEL_FILES,
  WEIGHT_INDEX_FILE,
} from '../../protocol/model-files.js';
import { UserError } from '../errors.js';
import { isCommit } from '../model/hub-name.js';
import { SINGLE_FILE } from '../model/weight-index.js';
import { HubAnswerError, type HubClient } from './client.js';

/** Files in one repository; larger ones hold data sets. */
const FILES_MAX = 10_000;
/** Bytes of any file beside the weights: a tokenizer of 262,144 tokens has 33 MB. */
const SMALL_FILE_BYTES_MAX = 128 * 1024 * 1024;
/** Bytes of one file of weights: shards have 5 GB, and what is not sharded has less than this. */
const WEIGHT_FILE_BYTES_MAX = 1024 ** 4;

const CONVERT =
  'take a model that has safetensors, or convert it with Transformers: ' +
  'AutoModelForCausalLM.from_pretrained(NAME).save_pretrained(DIR), then --model DIR';

/** A file of the repository; its name is a plain one, without a path. */
export interface HubFile {
  name: string;
  bytes: number;
  /** What it is checked against, and its name in the cache: a SHA-256 (64 hex digits) or git's SHA-1 of a blob (40). */
  hash: string;
}

export interface Listing {
  commit: string;
  /** By name; of the top directory only. */
  files: ReadonlyMap<string, HubFile>;
}

const infoSchema = z.object({ sha: z.string().refine(isCommit) });
const hash = z.string().regex(/^([0-9a-f]{40}|[0-9a-f]{64})$/);
const bytes = z.number().int().min(0).max(WEIGHT_FILE_BYTES_MAX);
const fileSchema = z.object({
  type: z.literal('file'),
  path: z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,199}$/),
  size: bytes,
  oid: hash,
  lfs: z.object({ oid: hash.length(64), size: bytes }).optional(),
});

/** Asks what `revision` of `name` is and holds. Throws as HubClient does. */
export async function askListing(
  client: Pick<HubClient, 'url' | 'fetchAnswer'>,
  name: string,
  revision: string,
): Promise<Listing> {
  const asking = { hubUrl: client.url, fetch: client.fetchAnswer };
  const info = infoSchema.safeParse(
    await heard(modelInfo({ ...asking, name, revision, additionalFields: ['sha'] })),
  );
  if (!info.success) throw new HubAnswerError('no commit');
  const { sha: commit } = info.data;
  const files = new Map<string, HubFile>();
  const entries = listFiles({ ...asking, repo: { type: 'model', name }, revision: commit });
  for (let count = 0; ; count++) {
    const next = await heard(entries.next());
    if (next.done === true) break;
    if (count >= FILES_MAX) throw new HubAnswerError(`more than ${FILES_MAX} files`);
    // What has another kind of name is nothing that a peer reads.
    const file = fileSchema.safeParse(next.value);
    if (!file.success) continue;
    const { path, size, oid, lfs } = file.data;
    files.set(path, { name: path, bytes: lfs?.size ?? size, hash: lfs?.oid ?? oid });
  }
  return { commit, files };
}

/** What is not JSON of the form that the library expects it reports in many ways. */
async function heard<T>(asking: Promise<T>): Promise<T> {
  try {
    return await asking;
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) {
      throw new HubAnswerError('no JSON of the expected form', { cause: error });
    }
    throw error;
  }
}

/**
 * The files to get before the weights are known: config, tokenizer and, where the weights are sharded, their
 * index. Throws UserError for a repository that holds no model that a peer can use.
 */
export function smallFiles({ files }: Listing, name: string): HubFile[] {
  if (!files.has(SINGLE_FILE) && !files.has(WEIGHT_INDEX_FILE)) throw withoutWeights(files, name);
  const missing = NEEDED_MODEL_FILES.find((file) => !files.has(file));
  if (missing !== undefined) {
    throw new UserError(
      `${name} has no ${missing} on the hub, so it is no model that can be trained here: ` +
        'take another model, or another revision of it (--model NAME@REVISION)',
    );
  }
  const index = files.has(SINGLE_FILE) ? [] : [WEIGHT_INDEX_FILE];
  const chosen = [...NEEDED_MODEL_FILES, ...EXTRA_MODEL_FILES, ...index].flatMap(
    (file) => files.get(file) ?? [],
  );
  for (const { name: file, bytes: size } of chosen) {
    if (size > SMALL_FILE_BYTES_MAX) {
      throw new UserError(
        `${name} has a ${file} of ${size} bytes, more than the ${SMALL_FILE_BYTES_MAX} that it may have: take another model`,
      );
    }
  }
  return chosen;
}

/** `shards`: what the index names; null for a model in one file. Throws UserError when one is not there. */
export function weightFiles(
  { files }: Listing,
  name: string,
  shards: readonly string[] | null,
): HubFile[] {
  return (shards ?? [SINGLE_FILE]).map((shard) => {
    const file = files.get(shard);
    if (file !== undefined && shard.endsWith('.safetensors')) return file;
    throw new UserError(
      `the index of ${name} names the weight file ${JSON.stringify(shard)}, which the hub does not have: ` +
        'take another revision (--model NAME@REVISION)',
    );
  });
}

function withoutWeights(files: ReadonlyMap<string, HubFile>, name: string): UserError {
  const other = [...files.keys()].find((file) => /\.(bin|pt|pth|ckpt|h5|msgpack|gguf)$/.test(file));
  return other === undefined
    ? new UserError(`${name} has no weights on the hub (no ${SINGLE_FILE}): take another model`)
    : new UserError(
        `${name} has its weights on the hub as ${other} only, and only safetensors are read, for such files can run code: ${CONVERT}`,
      );
}
