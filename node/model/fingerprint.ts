/** What names a base model among peers: hashes of its arithmetic, its weights and its tokenizer. */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import type { ModelFingerprint } from '../../protocol/manifest.js';
import type { ModelConfig } from './config.js';
import { cachedSha256, readHashCache, writeHashCache } from './hash-cache.js';
import { openModelDirectory } from './model-directory.js';
import { filesOf } from './weight-index.js';

/** A file whose content is no longer what was remembered of it; both hashes are 64 hex digits. */
export interface FileChange {
  file: string;
  before: string;
  now: string;
}

/**
 * Fingerprint of the model in `dir`. Weight files are streamed through SHA-256 (about 1 GB a second);
 * with `cacheFile` a file whose path, size and time of change are known is not read again, and `onChange`
 * is told of those that are known but hold something else now.
 *
 * - configSha256: JSON of arithmeticOf, so that versions, dtypes and
 *   generation settings make no difference.
 * - weightsSha256: what `sha256sum *.safetensors | sha256sum` prints in the directory, over the weight
 *   files that the model uses: a line "<hash>  <file name>\n" each, sorted by name.
 * - tokenizerSha256: the bytes of tokenizer.json.
 *
 * Throws UserError as openModelDirectory does.
 */
export async function fingerprintModel(
  dir: string,
  cacheFile?: string,
  onChange: (change: FileChange) => void = () => undefined,
): Promise<ModelFingerprint> {
  const model = await openModelDirectory(dir);
  const cache = cacheFile === undefined ? {} : await readHashCache(cacheFile);
  const known = { ...cache };
  const files = filesOf(model.weights);
  const byName = files.map((file) => ({ file, name: basename(file) }));
  byName.sort((a, b) => (a.name < b.name ? -1 : 1));
  const hashOf = async (file: string): Promise<string> => {
    const now = await cachedSha256(file, cache);
    const before = known[file]?.sha256 ?? now;
    if (before !== now) onChange({ file, before, now });
    return now;
  };
  const weights = createHash('sha256');
  for (const { file, name } of byName) {
    weights.update(`${await hashOf(file)}  ${name}\n`);
  }
  const tokenizerSha256 = await hashOf(model.tokenizerFile);
  if (cacheFile !== undefined && JSON.stringify(cache) !== JSON.stringify(known)) {
    await writeHashCache(cacheFile, cache);
  }
  return {
    name: model.name,
    architecture: model.config.architecture,
    configSha256: configSha256(model.config),
    weightsSha256: weights.digest('hex'),
    tokenizerSha256,
  };
}

/** SHA-256 over what of a config changes the model's output; 64 hex digits. */
export function configSha256(config: ModelConfig): string {
  return createHash('sha256')
    .update(JSON.stringify(arithmeticOf(config)))
    .digest('hex');
}

/** Fields that change no logit: special token ids, and how long a sequence may be. */
const WITHOUT_EFFECT = ['bosTokenId', 'eosTokenIds', 'maxPositions', 'padTokenId'];

/**
 * Every other field, sorted by name; what is null (no rotary scaling) is left out, so that a new field
 * with a neutral value changes no hash that is in use.
 */
function arithmeticOf(config: ModelConfig): [string, unknown][] {
  return Object.entries(config)
    .filter(([name, value]) => value !== null && !WITHOUT_EFFECT.includes(name))
    .sort(([a], [b]) => (a < b ? -1 : 1));
}

/**
 * One sentence for each field in which the run's model and mine differ: what differs and what to do.
 * Empty when I can take part; names are not compared.
 */
export function explainMismatch(run: ModelFingerprint, mine: ModelFingerprint): string[] {
  const get = `get the same files as the founder's ${run.name}, or give another --model`;
  if (run.architecture !== mine.architecture) {
    return [
      `the architecture differs: the run has "${run.architecture}", ${mine.name} is "${mine.architecture}": ${get}`,
    ];
  }
  const differing: [keyof ModelFingerprint, string][] = [
    ['configSha256', 'the config (config.json) differs'],
    ['weightsSha256', 'the weights (*.safetensors) differ'],
    ['tokenizerSha256', 'the tokenizer (tokenizer.json) differs'],
  ];
  return differing
    .filter(([field]) => run[field] !== mine[field])
    .map(
      ([field, what]) =>
        `${what}: the run has ${short(run[field])}, ${mine.name} has ${short(mine[field])}: ${get}`,
    );
}

function short(sha256: string): string {
  return `${sha256.slice(0, 12)}...`;
}
