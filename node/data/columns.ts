/** Which columns of a row are the example: by their usual names, or as the user names them. */
import { z } from 'zod';
import { EXIT_USAGE, UserError } from '../errors.js';
import type { ChatMessage } from './chat-template.js';
import { LINE_BYTES_MAX } from './lines.js';
import { placeText, type DataRecord, type Place, type Row } from './records.js';

/** Columns that the user names; null where the usual names are looked for. */
export interface ColumnNames {
  text: string | null;
  prompt: string | null;
  completion: string | null;
  messages: string | null;
}

export const USUAL_COLUMNS: ColumnNames = {
  text: null,
  prompt: null,
  completion: null,
  messages: null,
};

/** Turns in one conversation: the template is rendered again for each of them, so 256 take a second or two. */
export const MESSAGES_MAX = 256;
/** Names that an error message lists, and how long a name may be to be one: a longer one is text of a first row. */
const NAMES_SHOWN_MAX = 6;
const NAME_SHOWN_LENGTH_MAX = 40;

/** What a record must have, for error messages and docs. */
const FORMS =
  'needs "text", or "prompt" and "completion", or "instruction" and "output", or "messages"';
const FLAGS =
  'rename them or name yours with --text-column, or --prompt-column and --completion-column, or --messages-column';

/** Who speaks in a conversation as ShareGPT writes it, as chat templates call them. */
const SHARE_GPT_ROLES: Readonly<Record<string, string>> = {
  human: 'user',
  gpt: 'assistant',
  chatgpt: 'assistant',
  bot: 'assistant',
};

const turn = z.union([
  z.object({ role: z.string(), content: z.string() }),
  z
    .object({ from: z.string(), value: z.string() })
    .transform(({ from, value }) => ({ role: SHARE_GPT_ROLES[from] ?? from, content: value })),
]);
const turns = z.array(turn).min(1).max(MESSAGES_MAX);

/** Throws UserError (wrong usage) for names that make no whole form, or more than one. */
export function checkColumns({ text, prompt, completion, messages }: ColumnNames): void {
  if ((prompt === null) !== (completion === null)) {
    throw new UserError(
      '--prompt-column and --completion-column belong together; give both',
      EXIT_USAGE,
    );
  }
  if ([text, prompt, messages].filter((name) => name !== null).length > 1) {
    throw new UserError(
      'more than one kind of column is named; give --text-column, or --prompt-column and --completion-column, or --messages-column',
      EXIT_USAGE,
    );
  }
}

/** The columns of one example, by name. */
export type Form =
  | { kind: 'messages'; messages: string }
  | { kind: 'completion'; prompt: string; completion: string }
  | { kind: 'instruction'; instruction: string; input: string | null; output: string }
  | { kind: 'text'; text: string };

/**
 * The example that rows with columns `names` are. Named columns are taken as they are called; usual names also in
 * capitals. Throws UserError, which begins with `where`, when there is none.
 */
export function formOf(names: readonly string[], columns: ColumnNames, where: string): Form {
  const { text, prompt, completion, messages } = columns;
  const named = [text, prompt, completion, messages];
  const missing = named.find((name) => name !== null && !names.includes(name)) ?? null;
  if (missing !== null) {
    throw new UserError(
      `${where}: has no column "${missing}", which a flag names, but ${listed(names)}: name one of these`,
    );
  }
  if (messages !== null) return { kind: 'messages', messages };
  if (text !== null) return { kind: 'text', text };
  if (prompt !== null && completion !== null) return { kind: 'completion', prompt, completion };
  const form = usualForm((wanted) => {
    const fitting = names.filter((name) => name.trim().toLowerCase() === wanted);
    if (fitting.length <= 1) return fitting[0] ?? null;
    throw new UserError(
      `${where}: has ${fitting.length} columns that are called "${wanted}" but for capitals and spaces: rename all but one`,
    );
  });
  if (form !== null) return form;
  throw new UserError(`${where}: has ${listed(names)}, but ${FORMS}: ${FLAGS}`);
}

/** The names of a form's columns. */
export function columnsOf(form: Form): string[] {
  switch (form.kind) {
    case 'messages':
      return [form.messages];
    case 'completion':
      return [form.prompt, form.completion];
    case 'instruction':
      return [form.instruction, form.output, ...(form.input === null ? [] : [form.input])];
    case 'text':
      return [form.text];
  }
}

/** `find`: the column of that usual name; null where there is none. */
function usualForm(find: (name: string) => string | null): Form | null {
  const messages = find('messages') ?? find('conversations');
  if (messages !== null) return { kind: 'messages', messages };
  const [prompt, completion] = [find('prompt'), find('completion')];
  if (prompt !== null && completion !== null) return { kind: 'completion', prompt, completion };
  const [instruction, output] = [find('instruction'), find('output')];
  if (instruction !== null && output !== null) {
    return { kind: 'instruction', instruction, input: find('input'), output };
  }
  const text = find('text');
  return text === null ? null : { kind: 'text', text };
}

function listed(names: readonly string[]): string {
  const all = names.filter((name) => name !== '');
  if (all.length === 0) return 'no columns';
  if (all.some((name) => name.length > NAME_SHOWN_LENGTH_MAX)) {
    return `${all.length} columns whose names look like text (is the header missing?)`;
  }
  const shown = all.slice(0, NAMES_SHOWN_MAX).map((name) => `"${name}"`);
  return `${shown.join(', ')}${all.length > NAMES_SHOWN_MAX ? ' and more' : ''}`;
}

/**
 * The example in a row. Throws UserError with file and line: columns missing (see formOf) or of the wrong type,
 * nothing to train. The sentence quotes no value.
 */
export function recordOf(row: Row, file: string, columns: ColumnNames): DataRecord {
  const form = formOf(Object.keys(row.fields), columns, placeText(file, row));
  return new RowReader(row, placeText(file, row)).read(form);
}

class RowReader {
  readonly #place: Place;

  constructor(
    readonly row: Row,
    readonly where: string,
  ) {
    this.#place = row.unit === undefined ? { line: row.line } : { line: row.line, unit: row.unit };
  }

  read(form: Form): DataRecord {
    switch (form.kind) {
      case 'messages':
        return this.#conversation(form.messages);
      case 'completion': {
        const prompt = this.#string(form.prompt);
        return {
          kind: 'completion',
          prompt,
          completion: this.#filled(form.completion),
          ...this.#place,
        };
      }
      case 'instruction':
        return this.#instruction(form);
      case 'text': {
        const text = this.#filled(form.text);
        return { kind: 'text', text, endsDocument: true, splitKey: text, ...this.#place };
      }
    }
  }

  #string(name: string): string {
    const value = this.row.fields[name];
    if (typeof value === 'string' && value.length <= LINE_BYTES_MAX) return value;
    if (typeof value === 'string') throw this.#tooLong(name);
    throw new UserError(`${this.where}: "${name}" is ${kindOf(value)}, but must be text`);
  }

  #filled(name: string): string {
    const text = this.#string(name);
    if (text.trim() === '') throw this.#nothingToTrain(`"${name}" is empty`);
    return text;
  }

  #instruction({ instruction, input, output }: Extract<Form, { kind: 'instruction' }>): DataRecord {
    const isGiven = input !== null && (this.row.fields[input] ?? null) !== null;
    const context = isGiven ? this.#string(input) : '';
    const asked = this.#string(instruction);
    return {
      kind: 'instruction',
      instruction: context.trim() === '' ? asked : `${asked}\n\n${context}`,
      output: this.#filled(output),
      ...this.#place,
    };
  }

  #conversation(name: string): DataRecord {
    const checked = turns.safeParse(this.row.fields[name]);
    if (!checked.success) {
      throw new UserError(
        `${this.where}: "${name}" must be a list of 1 to ${MESSAGES_MAX} turns with the texts "role" and "content" (or "from" and "value")`,
      );
    }
    const messages: ChatMessage[] = checked.data;
    const length = messages.reduce((sum, { content }) => sum + content.length, 0);
    if (length > LINE_BYTES_MAX) throw this.#tooLong(name);
    if (messages.some(({ role }) => role === 'assistant')) {
      return { kind: 'messages', messages, ...this.#place };
    }
    throw this.#nothingToTrain(`"${name}" has no turn with the role "assistant"`);
  }

  /** Only a Parquet file has such rows: the other readers are bounded in bytes. */
  #tooLong(name: string): UserError {
    return new UserError(
      `${this.where}: "${name}" is longer than ${LINE_BYTES_MAX} characters: break it up`,
    );
  }

  #nothingToTrain(what: string): UserError {
    return new UserError(
      `${this.where}: ${what}, so there is nothing to train on: fill it or drop the ${this.row.unit ?? 'line'}`,
    );
  }
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return 'null';
  if (value === INVALID_TEXT) return 'not valid UTF-8';
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'bigint' ? 'a number' : `a ${typeof value}`;
}

/** Stands for bytes that are no text, where a reader can only give a value. */
export const INVALID_TEXT = Symbol('not valid UTF-8');
