/** Checks of what a peer reads: data files, the model's directory, the swarm key. */
import { stat } from 'node:fs/promises';
import type { ColumnNames } from '../data/columns.js';
import { readRecords } from '../data/readers.js';
import { findDataFiles, leftOutText } from '../data/sources.js';
import { openTokenizer } from '../data/tokenizer.js';
import { UserError } from '../errors.js';
import { cachedModels } from '../hub/cache.js';
import { cacheDirectoryOf, type Environment } from '../hub/endpoint.js';
import type { ModelDirectory } from '../model/model-directory.js';
import { readSwarmKey } from '../net/swarm-key.js';
import { size } from '../train/memory-plan.js';
import { fail, ok, warn, type Finding } from './finding.js';

/** The first record of each file, those of folders too; the rest is read when training begins. */
export async function checkData(
  paths: readonly string[],
  columns?: ColumnNames,
): Promise<Finding[]> {
  if (paths.length === 0) {
    return [warn('no text is named, so none was looked at', 'murmurate doctor --data FILE...')];
  }
  const findings: Finding[] = [];
  for (const path of paths) {
    try {
      const { files, skipped } = await findDataFiles([path]);
      if (skipped.length > 0) findings.push(ok(`${path}: left out: ${leftOutText(skipped)}`));
      for (const file of files) findings.push(await firstRecord(file, columns));
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      findings.push(fail(error.message));
    }
  }
  return findings;
}

async function firstRecord(file: string, columns?: ColumnNames): Promise<Finding> {
  for await (const record of readRecords(file, columns && { columns })) {
    const { size: bytes } = await stat(file);
    return ok(`${file}: ${size(bytes)}, and line ${record.line} holds ${KINDS[record.kind]}`);
  }
  return fail(`${file} holds no example`);
}

const KINDS = {
  text: 'text',
  completion: 'a prompt with its completion',
  instruction: 'an instruction with its answer',
  messages: 'a conversation',
} as const;

/** Config, weights' headers and tokenizer; no tensor is read. */
export async function checkModel(model: ModelDirectory): Promise<Finding> {
  const { dir, config, weights } = model;
  await openTokenizer(dir, config);
  let parameters = 0;
  for (const { shape } of weights.values()) parameters += shape.reduce((a, b) => a * b, 1);
  return ok(`${dir}: ${(parameters / 1e6).toFixed(1)} million weights, tokenizer read`);
}

/** The models that were fetched by name, as Hugging Face keeps them. */
export async function checkModelCache(env: Environment): Promise<Finding> {
  const directory = cacheDirectoryOf(env);
  const models = await cachedModels(directory);
  if (models.length === 0) return ok(`${directory}: no model was fetched by name yet`);
  const names = [...new Set(models.map(({ name }) => name))];
  const bytes = models.reduce((sum, model) => sum + model.bytes, 0);
  const shown = names.slice(0, NAMES_SHOWN).join(', ');
  const more = names.length > NAMES_SHOWN ? ` and ${names.length - NAMES_SHOWN} more` : '';
  return ok(`${directory}: ${size(bytes)}, ${shown}${more}`);
}

const NAMES_SHOWN = 5;

/** The key of --swarm-key, or the one in the data directory. Throws UserError for a file that will not do. */
export async function checkSwarmKey(named: string | null, kept: string): Promise<Finding[]> {
  const path = named ?? kept;
  const key = await readSwarmKey(path).catch((error: unknown) => {
    if (!(error instanceof UserError)) throw error;
    return error;
  });
  if (key instanceof UserError) {
    const isOpen = key.message.includes('chmod 600');
    return [fail(key.message, isOpen ? `chmod 600 ${path}` : null)];
  }
  if (key !== null) return [ok(`${path} is a swarm key that you alone may read`)];
  if (named === null) return [];
  return [fail(`there is no swarm key at ${path}`, `murmurate swarm-key ${path}`)];
}
