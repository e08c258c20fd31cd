/** JSON lines: one object a line with `text`, or `prompt` and `completion`, or `messages`. */
import { z } from 'zod';
import { UserError } from '../errors.js';
import { readLines } from './lines.js';
import type { DataRecord } from './records.js';

/** Turns in one conversation: the template is rendered again for each of them, so 256 take a second or two. */
const MESSAGES_MAX = 256;
/** Field names that an error message lists. */
const NAMES_SHOWN_MAX = 6;

const FORMS = 'needs "text", or "prompt" and "completion", or "messages"';

const messagesSchema = z
  .array(z.object({ role: z.string(), content: z.string() }))
  .min(1)
  .max(MESSAGES_MAX);

/**
 * Yields a record for each line that is not blank. Throws UserError with the line number: not JSON, no
 * object, fields missing or of the wrong type, nothing to train. The sentence never quotes the data.
 */
export async function* readJsonLines(file: string): AsyncGenerator<DataRecord, void, undefined> {
  for await (const { text, number } of readLines(file)) {
    if (text.trim() === '') continue;
    yield parseLine(text, `${file}, line ${number}`, number);
  }
}

function parseLine(text: string, where: string, line: number): DataRecord {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's own message would quote private text.
    throw new UserError(`${where}: is not valid JSON: each line must be one whole JSON object`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new UserError(`${where}: is not a JSON object: each line must be one, which ${FORMS}`);
  }
  const fields = value as Record<string, unknown>;
  if (Object.hasOwn(fields, 'messages')) return toConversation(fields, where, line);
  if (Object.hasOwn(fields, 'prompt') && Object.hasOwn(fields, 'completion')) {
    const prompt = textField(fields, 'prompt', where);
    const completion = textField(fields, 'completion', where);
    if (completion.trim() === '') throw nothingToTrain(where, '"completion" is empty');
    return { kind: 'completion', prompt, completion, line };
  }
  if (Object.hasOwn(fields, 'text')) {
    const content = textField(fields, 'text', where);
    if (content.trim() === '') throw nothingToTrain(where, '"text" is empty');
    return { kind: 'text', text: content, endsDocument: true, splitKey: content, line };
  }
  const names = Object.keys(fields).slice(0, NAMES_SHOWN_MAX);
  const has = names.length === 0 ? 'no fields' : names.map((name) => `"${name}"`).join(', ');
  throw new UserError(`${where}: has ${has}, but ${FORMS}: rename or add the fields`);
}

function textField(fields: Record<string, unknown>, name: string, where: string): string {
  const value = fields[name];
  if (typeof value === 'string') return value;
  throw new UserError(`${where}: "${name}" is ${kindOf(value)}, but must be a string`);
}

function toConversation(fields: Record<string, unknown>, where: string, line: number): DataRecord {
  const checked = messagesSchema.safeParse(fields['messages']);
  if (!checked.success) {
    throw new UserError(
      `${where}: "messages" must be a list of 1 to ${MESSAGES_MAX} objects with the strings "role" and "content"`,
    );
  }
  if (!checked.data.some(({ role }) => role === 'assistant')) {
    throw nothingToTrain(where, '"messages" has no turn with the role "assistant"');
  }
  return { kind: 'messages', messages: checked.data, line };
}

function nothingToTrain(where: string, what: string): UserError {
  return new UserError(
    `${where}: ${what}, so there is nothing to train on: fill it or drop the line`,
  );
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'a list' : `a ${typeof value}`;
}
