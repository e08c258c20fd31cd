/** Turns one record into token ids and says which of them are trained. */
import { UserError } from '../errors.js';
import { maskConversation, type MaskedText } from './chat-mask.js';
import type { Dropped } from './chat-dropped.js';
import type { ChatContext, ChatMessage, ChatTemplate } from './chat-template.js';
import { withKnownRoles } from './chat-turns.js';
import type { ColumnNames } from './columns.js';
import { placeText, type DataRecord } from './records.js';
import type { Tokenizer } from './tokenizer.js';

export interface TokenisedExample {
  tokens: number[];
  /** 1 where the loss counts that token, 0 elsewhere; as long as tokens. */
  trained: (0 | 1)[];
  /** Where its texts begin: at 0, and at more where a conversation has a text for each of several answers. */
  starts: number[];
}

export interface TokenisingOptions {
  tokenizer: Tokenizer;
  /** Null when the model has none: conversations are then refused. */
  chatTemplate: ChatTemplate | null;
  /** What of a conversation may be left out. */
  columns?: ColumnNames;
}

/** Things of one conversation that an error names. */
const NAMED_MAX = 3;

/**
 * A text is tokenised whole, as Transformers does it, and the tokens that lie in what is trained are trained. A
 * prompt is tokenised as it is for generating, and the completion as what goes on from it. `file` is named in errors.
 * Throws UserError: messages without a template, a template that refuses them or drops some of them, text that the
 * tokenizer has no tokens for, or one that the model does not know.
 */
export function tokeniseRecord(
  record: DataRecord,
  file: string,
  options: TokenisingOptions,
): TokenisedExample {
  const where = placeText(file, record);
  try {
    const example = exampleOf(record, options);
    checkIds(example.tokens, options.tokenizer);
    return example;
  } catch (cause) {
    if (!(cause instanceof UserError)) throw cause;
    throw new UserError(`${where}: ${cause.message}`, cause.exitCode, { cause });
  }
}

function exampleOf(record: DataRecord, options: TokenisingOptions): TokenisedExample {
  const { tokenizer, chatTemplate } = options;
  switch (record.kind) {
    case 'text':
      return textExample(record.text, record.endsDocument, tokenizer);
    case 'completion':
      return completionExample(record.prompt, record.completion, tokenizer);
    case 'instruction': {
      const { instruction, output, before = [] } = record;
      if (chatTemplate === null) {
        const said = [...before.map(({ content }) => content ?? ''), instruction];
        return completionExample(said.map((text) => `${text}\n\n`).join(''), output, tokenizer);
      }
      const messages: ChatMessage[] = [
        ...before,
        { role: 'user', content: instruction },
        { role: 'assistant', content: output },
      ];
      return chatExample(messages, {}, { ...options, chatTemplate });
    }
    case 'messages':
      if (chatTemplate === null) {
        throw new UserError(
          'has "messages", but the model has no chat template: use lines with "prompt" and "completion", or a chat model',
        );
      }
      return chatExample(record.messages, record.context ?? {}, { ...options, chatTemplate });
  }
}

function checkIds(ids: readonly number[], tokenizer: Tokenizer): void {
  const beyond = ids.find((id) => id >= tokenizer.vocabSize);
  if (beyond === undefined) return;
  // A token of the tokenizer's own, like "<pad>", and no word of the text.
  const token = JSON.stringify(tokenizer.decode([beyond], false));
  throw new UserError(
    `has the token ${token} with id ${beyond}, but the model's vocabulary ends at ${tokenizer.vocabSize - 1}: take it out, or use a model with that token`,
  );
}

/** Ids of a text as it is trained and gone on from: what the tokenizer puts before a text stands there once. */
export function textIds(tokenizer: Tokenizer, text: string): number[] {
  const ids = tokenizer.encode(text);
  const { prefixIds } = tokenizer;
  return prefixIds.every((id, i) => ids[i] === id) ? ids : [...prefixIds, ...ids];
}

function textExample(text: string, endsDocument: boolean, tokenizer: Tokenizer): TokenisedExample {
  const ids = tokenizer.encode(text);
  const whole = textIds(tokenizer, text);
  const trained = whole.map<0 | 1>((_, i) => (i < whole.length - ids.length ? 0 : 1));
  return ended({ tokens: whole, trained, starts: [0] }, endsDocument, tokenizer);
}

/** With an end-of-text token behind it, if it has none. */
function ended(
  example: TokenisedExample,
  ends: boolean,
  { eosTokenId }: Tokenizer,
): TokenisedExample {
  if (!ends || example.tokens.at(-1) === eosTokenId) return example;
  example.tokens.push(eosTokenId);
  example.trained.push(1);
  return example;
}

function completionExample(
  prompt: string,
  completion: string,
  tokenizer: Tokenizer,
): TokenisedExample {
  if (prompt === '') return textExample(completion, true, tokenizer);
  const given = textIds(tokenizer, prompt);
  const tokens = [...given, ...continuation(tokenizer, prompt, completion)];
  const trained = tokens.map<0 | 1>((_, i) => (i < given.length ? 0 : 1));
  return ended({ tokens, trained, starts: [0] }, true, tokenizer);
}

/**
 * Ids of what goes on from `prompt`. As in the whole text, where the prompt has the tokens there that it has alone:
 * else a token would span both, which generating from the prompt never makes.
 */
function continuation(tokenizer: Tokenizer, prompt: string, text: string): number[] {
  const alone = tokenizer.encode(prompt);
  const { ids, starts } = tokenizer.encodeWithOffsets(prompt + text);
  const isApart = alone.every((id, i) => ids[i] === id);
  const next = starts[alone.length] ?? prompt.length;
  if (isApart && next >= prompt.length) return ids.slice(alone.length);
  return tokenizer.encodeContinuation(text);
}

type ChatOptions = TokenisingOptions & { chatTemplate: ChatTemplate };

function chatExample(
  messages: readonly ChatMessage[],
  context: ChatContext,
  { tokenizer, chatTemplate, columns }: ChatOptions,
): TokenisedExample {
  const known = withKnownRoles(messages, chatTemplate, columns?.acceptRoles ?? false);
  const { texts, dropped } = maskConversation(chatTemplate, known, context, {
    specialTokens: new Set(tokenizer.specialTokens.keys()),
    emptyThoughts: columns?.emptyThoughts ?? false,
  });
  if (dropped.length > 0 && columns?.acceptDropped !== true) throw droppedError(dropped);
  const example: TokenisedExample = { tokens: [], trained: [], starts: [] };
  for (const text of texts) {
    example.starts.push(example.tokens.length);
    const { tokens, trained } = maskedTokens(text, tokenizer);
    for (const [i, token] of tokens.entries()) {
      example.tokens.push(token);
      example.trained.push(trained[i] ?? 0);
    }
  }
  if (example.trained.includes(1)) return example;
  throw new UserError(
    'has no turn to train on: every turn of the assistant is empty or has a weight of 0',
  );
}

function maskedTokens(
  { text, trained, isOpen }: MaskedText,
  tokenizer: Tokenizer,
): Omit<TokenisedExample, 'starts'> {
  // A chat template writes the begin-of-text token itself.
  const { ids, starts, ends } = tokenizer.encodeWithOffsets(text);
  let next = 0;
  const mask = ids.map<0 | 1>((_, i) => {
    const [from, to] = [starts[i] ?? 0, ends[i] ?? 0];
    while (next < trained.length && (trained[next]?.[1] ?? 0) <= from) next++;
    const [start, end] = trained[next] ?? [Infinity, Infinity];
    return from < end && to > start ? 1 : 0;
  });
  return ended({ tokens: ids, trained: mask, starts: [0] }, isOpen, tokenizer);
}

function droppedError(dropped: readonly Dropped[]): UserError {
  const named = dropped.slice(0, NAMED_MAX).map(({ turn, role, field }) => {
    return turn === null ? `"${field}"` : `"${field}" of turn ${turn} (${role.slice(0, 40)})`;
  });
  const more = dropped.length > NAMED_MAX ? ` and ${dropped.length - NAMED_MAX} more` : '';
  return new UserError(
    `the model's chat template leaves out ${named.join(', ')}${more}, in whole or in part: change the data, use a model whose template has a place for it, or train without it with --accept-dropped`,
  );
}
