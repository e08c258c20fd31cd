/** Turns one record into token ids and says which of them are trained. */
import { UserError } from '../errors.js';
import { chatParts, type ChatMessage, type ChatTemplate, type TextPart } from './chat-template.js';
import { placeText, type DataRecord } from './records.js';
import type { Tokenizer } from './tokenizer.js';

export interface TokenisedExample {
  tokens: number[];
  /** 1 where the loss counts that token, 0 elsewhere; as long as tokens. */
  trained: (0 | 1)[];
}

/**
 * Parts are tokenised one by one, as they are when the model writes an answer to a prompt, so that no
 * token spans the border between what is trained and what is not. `file` is named in errors.
 * Throws UserError: messages without a template, a template that refuses them, text that the tokenizer
 * has no tokens for, or one that the model does not know.
 */
export function tokeniseRecord(
  record: DataRecord,
  file: string,
  { tokenizer, chatTemplate }: { tokenizer: Tokenizer; chatTemplate: ChatTemplate | null },
): TokenisedExample {
  const where = placeText(file, record);
  const isChat =
    record.kind === 'messages' || (record.kind === 'instruction' && chatTemplate !== null);
  const example: TokenisedExample = { tokens: [], trained: [] };
  const { eosTokenId } = tokenizer;
  // A chat template writes the begin-of-text token itself.
  if (!isChat) append(example, tokenizer.prefixIds, false);
  for (const { text, trained } of partsOf(record, where, chatTemplate)) {
    const ids = tokenizer.encode(text);
    const beyond = ids.find((id) => id >= tokenizer.vocabSize);
    if (beyond !== undefined) {
      // A token of the tokenizer's own, like "<pad>", and no word of the text.
      const token = JSON.stringify(tokenizer.decode([beyond], false));
      throw new UserError(
        `${where}: has the token ${token} with id ${beyond}, but the model's vocabulary ends at ${tokenizer.vocabSize - 1}: take it out, or use a model with that token`,
      );
    }
    if (!ids.every((id) => Number.isInteger(id) && id >= 0)) {
      throw new UserError(
        `${where}: has text that the model's tokenizer has no token for: remove it or use another model`,
      );
    }
    append(example, ids, trained);
  }
  const ends = record.kind !== 'text' || record.endsDocument;
  // Some templates end each turn with the end-of-text token and a line break.
  const ended = isChat && example.tokens.slice(-2).includes(eosTokenId);
  if (ends && !ended) append(example, [eosTokenId], example.trained.at(-1) !== 0);
  return example;
}

function append(example: TokenisedExample, ids: readonly number[], trained: boolean): void {
  for (const id of ids) {
    example.tokens.push(id);
    example.trained.push(trained ? 1 : 0);
  }
}

function partsOf(
  record: DataRecord,
  where: string,
  chatTemplate: ChatTemplate | null,
): readonly TextPart[] {
  switch (record.kind) {
    case 'text':
      return [{ text: record.text, trained: true }];
    case 'completion':
      return [
        { text: record.prompt, trained: false },
        { text: record.completion, trained: true },
      ];
    case 'instruction':
      return instructionParts(record, where, chatTemplate);
    case 'messages':
      break;
  }
  if (chatTemplate !== null) return conversationParts(record.messages, where, chatTemplate);
  throw new UserError(
    `${where}: has "messages", but the model has no chat template: use lines with "prompt" and "completion", or a chat model`,
  );
}

/** As the model's template writes a question and its answer; without one with an empty line between them. */
function instructionParts(
  { instruction, output }: { instruction: string; output: string },
  where: string,
  chatTemplate: ChatTemplate | null,
): readonly TextPart[] {
  if (chatTemplate === null) {
    return [
      { text: `${instruction}\n\n`, trained: false },
      { text: output, trained: true },
    ];
  }
  const messages = [
    { role: 'user', content: instruction },
    { role: 'assistant', content: output },
  ];
  return conversationParts(messages, where, chatTemplate);
}

function conversationParts(
  messages: readonly ChatMessage[],
  where: string,
  chatTemplate: ChatTemplate,
): readonly TextPart[] {
  try {
    return chatParts(chatTemplate, messages);
  } catch (cause) {
    if (!(cause instanceof UserError)) throw cause;
    throw new UserError(`${where}: ${cause.message}`, cause.exitCode, { cause });
  }
}
