/**
 * Scores multiple choice as lm-evaluation-harness does: the choice with the largest log-likelihood after its context is
 * the model's answer (acc), or the one with the largest per character (acc_norm).
 */
import type { ChoiceItem } from '../data/choices.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { UserError } from '../errors.js';
import { measureMixture, type TokenLossModel } from './mixture-loss.js';
import { IGNORED_TARGET, type TokenBatch } from '../model/token-batch.js';

/** What stands between a context and a choice, as in the harness. */
const DELIMITER = ' ';
/** Standard errors on either side of a 95 % interval. */
const INTERVAL = 1.96;

/** The shortest sequences that have a model of their own. */
const SEQUENCE_MIN = 32;

/** One choice of one item in tokens. */
export interface ChoiceRequest {
  item: number;
  choice: number;
  /** Context and choice, at most the model's positions and one more. */
  tokens: number[];
  /** The last so many are the choice. */
  scored: number;
}

/** What of the tokenizer and the model counts. */
export interface ChoiceReader {
  tokenizer: Pick<Tokenizer, 'encode' | 'prefixIds' | 'eosTokenId'>;
  bosTokenId: number | null;
  maxPositions: number;
}

/** All choices of all items. Throws UserError, which begins with `file`, for a choice that is too long or has no token. */
export function choiceRequests(
  items: readonly ChoiceItem[],
  file: string,
  reader: ChoiceReader,
): ChoiceRequest[] {
  return items.flatMap(({ context, choices, line }, item) =>
    choices.map((text, choice): ChoiceRequest => {
      const { before, after } = encodePair(context, DELIMITER + text, reader);
      const { maxPositions } = reader;
      if (after.length === 0 || after.length > maxPositions) {
        throw new UserError(
          `${file}, line ${line}: choice ${choice} has ${after.length} tokens, but must have 1 to ${maxPositions}`,
        );
      }
      const tokens = [...before, ...after].slice(-(maxPositions + 1));
      return { item, choice, tokens, scored: after.length };
    }),
  );
}

/** White space at the end of the context belongs to what follows, with which it makes tokens. */
function encodePair(
  context: string,
  continuation: string,
  { tokenizer, bosTokenId }: ChoiceReader,
): { before: number[]; after: number[] } {
  const { prefixIds, eosTokenId } = tokenizer;
  if (context.trim() === '') {
    const after = tokenizer.encode(context + continuation);
    const first = bosTokenId ?? eosTokenId;
    return after[0] === first
      ? { before: after.slice(0, 1), after: after.slice(1) }
      : { before: [first], after };
  }
  const bare = context.trimEnd();
  const whole = [...prefixIds, ...tokenizer.encode(context + continuation)];
  const before = [...prefixIds, ...tokenizer.encode(bare)];
  return { before: whole.slice(0, before.length), after: whole.slice(before.length) };
}

/** A model of one sequence a batch. */
export interface ChoiceModel extends TokenLossModel {
  loss(batch: TokenBatch, theta: Float32Array): Promise<{ loss: number; targets: number }>;
  dispose(): Promise<void>;
}

export interface LikelihoodOptions {
  requests: readonly ChoiceRequest[];
  /** The adapters: [adapterSize] float32 each. */
  thetas: readonly Float32Array[];
  /** More of them, which are mixed as well: see measureMixture; none: no mixture. */
  experts?: readonly Float32Array[];
  maxPositions: number;
  /** Opens the model for sequences of that length; it is closed before the next one is asked for. */
  open: (sequenceLength: number) => Promise<ChoiceModel>;
  onProgress: (done: number, total: number) => void;
  signal: AbortSignal;
}

/**
 * Log-likelihood in nats under each adapter, then each expert and their mixture, of each request, in their order. Requests of like length share a model, for
 * the padding takes as long as text does. Rejects with `signal.reason` between two of them.
 */
export async function logLikelihoods(options: LikelihoodOptions): Promise<number[][]> {
  const { requests, thetas, experts = [], maxPositions, open, onProgress, signal } = options;
  const columns = thetas.length + (experts.length === 0 ? 0 : experts.length + 1);
  const found = Array.from({ length: columns }, () => requests.map(() => -Infinity));
  const total = (thetas.length + experts.length) * requests.length;
  let done = 0;
  for (const [length, group] of byLength(requests)) {
    const model = await open(Math.min(length, maxPositions));
    try {
      for (const [i, theta] of thetas.entries()) {
        for (const index of group) {
          signal.throwIfAborted();
          const request = requests[index];
          const own = found[i];
          if (request === undefined || own === undefined) continue;
          const batch = batchOf(request, model.sequenceLength);
          const { loss, targets } = await model.loss(batch, theta);
          own[index] = -loss * targets;
          onProgress(++done, total);
        }
      }
      for (const index of experts.length === 0 ? [] : group) {
        signal.throwIfAborted();
        const request = requests[index];
        if (request === undefined) continue;
        const batch = batchOf(request, model.sequenceLength);
        const nats = await measureMixture(model, [batch], experts, signal, () =>
          onProgress(++done, total),
        );
        for (const [i, sum] of [...nats.experts, nats.mixture].entries()) {
          found[thetas.length + i]![index] = -sum;
        }
      }
    } finally {
      await model.dispose();
    }
  }
  return found;
}

/** Indexes of requests by a length that holds them: twice as long from one to the next. */
function byLength(requests: readonly ChoiceRequest[]): Map<number, number[]> {
  const groups = new Map<number, number[]>();
  for (const [index, { tokens }] of requests.entries()) {
    const length = Math.max(SEQUENCE_MIN, 2 ** Math.ceil(Math.log2(tokens.length - 1)));
    const group = groups.get(length) ?? [];
    group.push(index);
    groups.set(length, group);
  }
  return groups;
}

function batchOf({ tokens, scored }: ChoiceRequest, length: number): TokenBatch {
  const inputs = tokens.slice(0, -1);
  const batch = {
    tokens: new Int32Array(length),
    targets: new Int32Array(length).fill(IGNORED_TARGET),
    segments: new Int32Array(length),
  };
  batch.tokens.set(inputs);
  batch.segments.fill(1, 0, inputs.length);
  for (let i = inputs.length - scored; i < inputs.length; i++) {
    batch.targets[i] = tokens[i + 1] ?? IGNORED_TARGET;
  }
  return batch;
}

/** A share of the items with its standard error (null for a single item) and 95 % interval. */
export interface Share {
  share: number;
  stderr: number | null;
  low: number;
  high: number;
}

export interface ChoiceScores {
  acc: Share;
  accNorm: Share;
}

/** `likelihoods`: of `requests`, in their order. */
export function scoreChoices(
  items: readonly ChoiceItem[],
  requests: readonly ChoiceRequest[],
  likelihoods: readonly number[],
): ChoiceScores {
  const byItem = items.map(({ choices }) => choices.map(() => -Infinity));
  for (const [i, { item, choice }] of requests.entries()) {
    const own = byItem[item];
    if (own !== undefined) own[choice] = likelihoods[i] ?? -Infinity;
  }
  const shareOf = (isRight: (item: ChoiceItem, found: readonly number[]) => boolean): Share =>
    share(items.map((item, i) => (isRight(item, byItem[i] ?? []) ? 1 : 0)));
  return {
    acc: shareOf(({ gold }, found) => largest(found) === gold),
    accNorm: shareOf(({ gold, choices }, found) => {
      const perCharacter = found.map((nats, i) => nats / Array.from(choices[i] ?? '').length);
      return largest(perCharacter) === gold;
    }),
  };
}

/** Index of the first of the largest. */
function largest(values: readonly number[]): number {
  return values.indexOf(Math.max(...values));
}

function share(values: readonly number[]): Share {
  const mean = values.reduce((sum, one) => sum + one, 0) / values.length;
  const squares = values.reduce((sum, one) => sum + (one - mean) ** 2, 0);
  const stderr =
    values.length < 2 ? null : Math.sqrt(squares / (values.length - 1)) / Math.sqrt(values.length);
  const reach = stderr === null ? 1 : INTERVAL * stderr;
  return {
    share: mean,
    stderr,
    low: Math.max(0, mean - reach),
    high: Math.min(1, mean + reach),
  };
}
