/** The part of murmurate eval that scores multiple choice, under the base model and its adapters side by side. */
import Table from 'cli-table3';
import type { ChoiceItem } from '../data/choices.js';
import type { Tokenizer } from '../data/tokenizer.js';
import type { Program } from '../engine/executor.js';
import { openLanguageModel, type LanguageModel } from '../model/language-model.js';
import type { ModelToOpen } from '../model/load.js';
import {
  choiceRequests,
  logLikelihoods,
  scoreChoices,
  type ChoiceScores,
  type Share,
} from '../train/choices.js';
import type { ChosenModel } from './chosen-model.js';

/** A file of items. */
export interface ChoiceFile {
  file: string;
  items: readonly ChoiceItem[];
}

/** How each adapter did, in the order of `thetas`, then each expert and their mixture. */
export interface ScoredFile {
  file: string;
  items: number;
  scores: ChoiceScores[];
}

export interface Scoring {
  chosen: ChosenModel;
  tokenizer: Tokenizer;
  /** [adapterSize] float32 each. */
  thetas: readonly Float32Array[];
  /** More of them, which are mixed as well; none: no mixture. */
  experts: readonly Float32Array[];
  /** As that of OpenedDevice. */
  ready: (build: (model: ModelToOpen) => Promise<Program>) => Promise<ModelToOpen>;
  onProgress: (done: number, total: number) => void;
  signal: AbortSignal;
}

/** Throws UserError for a choice that the model cannot read, or a model that cannot be loaded; `signal.reason`. */
export async function scoreFiles(
  files: readonly ChoiceFile[],
  { chosen, tokenizer, thetas, experts, ready, onProgress, signal }: Scoring,
): Promise<ScoredFile[]> {
  const { bosTokenId, maxPositions } = chosen.config;
  const reader = { tokenizer, bosTokenId, maxPositions };
  const asked = files.map(({ file, items }) => choiceRequests(items, file, reader));
  const open = async (sequenceLength: number): Promise<LanguageModel> => {
    const shape = { batchSize: 1, sequenceLength };
    const programOf = async (one: ModelToOpen): Promise<Program> =>
      (await openLanguageModel({ ...one, ...shape })).program('loss');
    return openLanguageModel({ ...(await ready(programOf)), ...shape });
  };
  const found = await logLikelihoods({
    ...{ requests: asked.flat(), thetas, experts, maxPositions, open, onProgress, signal },
  });
  let first = 0;
  return files.map(({ file, items }, i) => {
    const requests = asked[i] ?? [];
    const scores = found.map((own) =>
      scoreChoices(items, requests, own.slice(first, first + requests.length)),
    );
    first += requests.length;
    return { file, items: items.length, scores };
  });
}

/** One row a file; of each adapter acc and acc_norm with half the width of their intervals. */
export function choicesTable(scored: readonly ScoredFile[], names: readonly string[]): string {
  const table = new Table({
    head: ['file', 'items', ...names.flatMap((name) => [`${name} acc`, 'acc_norm'])],
    colAligns: ['left', ...Array.from({ length: 1 + 2 * names.length }, () => 'right' as const)],
    style: { head: [], border: [], compact: true },
  });
  for (const { file, items, scores } of scored) {
    table.push([
      file,
      items,
      ...scores.flatMap(({ acc, accNorm }) => [shown(acc), shown(accNorm)]),
    ]);
  }
  return `${table.toString()}\nshare of items answered right, with 95 % intervals; acc_norm is by log-likelihood per character\n`;
}

function shown({ share, stderr, low, high }: Share): string {
  const interval = stderr === null ? '' : ` [${low.toFixed(3)}, ${high.toFixed(3)}]`;
  return `${share.toFixed(3)}${interval}`;
}
