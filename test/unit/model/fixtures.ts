/** Model directories for tests: the embedded base, and small ones that a test may damage. */
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { existsSync } from 'node:fs';
import { UserError } from '../../../node/errors.js';

/** The checkout, from the sources and from dist/ alike. */
export const ROOT = findRoot(import.meta.dirname);
export const TINY_BASE = join(ROOT, 'models', 'tiny-base');

/** Small models with values from PyTorch and PEFT, at least one of each family. */
export const REFERENCE_CASES = [
  'llama-gqa-tied',
  'llama-untied-bias',
  'llama3-scaling',
  'linear-scaling',
  'yarn',
  'yarn-mscale',
  'dynamic-scaling',
  'mistral',
  'mistral-shards',
  'qwen2',
  'qwen3',
  'qwen3-window',
  'gemma2',
  'gemma3',
  'smollm3',
  'smollm3-window',
  'olmo2',
  'granite',
  'phi3',
  'phi3-longrope',
  'gpt2',
] as const;
export type ReferenceCaseName = (typeof REFERENCE_CASES)[number];

/** Directory of a reference case: base/, adapter/. */
export function referenceCase(name: ReferenceCaseName): string {
  return join(ROOT, 'test', 'reference', 'cases', name);
}

/** A file of test/reference/text. */
export function textReference(name: string): string {
  return join(ROOT, 'test', 'reference', 'text', name);
}

function findRoot(from: string): string {
  let dir = from;
  while (!existsSync(join(dir, 'package.json'))) dir = dirname(dir);
  return dir;
}

/** Temporary directories of one test file. */
export class Scratch {
  readonly #made: string[] = [];
  readonly #parent: string;

  constructor(parent = tmpdir()) {
    this.#parent = parent;
  }

  async directory(): Promise<string> {
    const dir = await mkdtemp(join(this.#parent, 'murmurate-test-'));
    this.#made.push(dir);
    return dir;
  }

  /** A copy of tiny-base that a test may damage. */
  async tinyBase(): Promise<string> {
    const dir = join(await this.directory(), 'tiny-base');
    await cp(TINY_BASE, dir, { recursive: true });
    return dir;
  }

  async remove(): Promise<void> {
    for (const dir of this.#made) await rm(dir, { recursive: true, force: true });
  }
}

/** For assert.throws and rejects: a UserError of one line whose sentence matches. */
export function userError(pattern: RegExp): (error: unknown) => boolean {
  return (error) =>
    error instanceof UserError && pattern.test(error.message) && !error.message.includes('\n');
}
