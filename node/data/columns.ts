/** Which columns of a row are the example: by their usual names, or as the user names them. */
import { EXIT_USAGE, UserError } from '../errors.js';
import {
  changedMeaning,
  CONTEXT_COLUMNS,
  isEmptyValue,
  MEANING_COLUMNS,
  readBefore,
  readContext,
  readTurns,
  withMask,
  type ContextColumn,
  type ContextFields,
} from './chat-columns.js';
import type { ChatMessage } from './chat-template.js';
import { LINE_BYTES_MAX } from './lines.js';
import { placeText, type DataRecord, type Place, type Row } from './records.js';

/** Columns that the user names; null where the usual names are looked for. */
export interface ColumnNames {
  text: string | null;
  prompt: string | null;
  completion: string | null;
  messages: string | null;
  /** Trains conversations of which something is left out: fields or columns that nothing reads. */
  acceptDropped?: boolean | undefined;
  /** Takes roles that the chat template does not name. */
  acceptRoles?: boolean | undefined;
  /** Trains empty blocks of thoughts that the chat template adds. */
  emptyThoughts?: boolean | undefined;
}

export const USUAL_COLUMNS: ColumnNames = {
  text: null,
  prompt: null,
  completion: null,
  messages: null,
};

/** Names that an error message lists, and how long a name may be to be one: a longer one is text of a first row. */
const NAMES_SHOWN_MAX = 6;
const NAME_SHOWN_LENGTH_MAX = 40;

/** What a record must have, for error messages and docs. */
const FORMS =
  'needs "text", or "prompt" and "completion", or "instruction" and "output", or "messages"';
const FLAGS =
  'rename them or name yours with --text-column, or --prompt-column and --completion-column, or --messages-column';

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

/** The columns of one example, by name; `context`: those beside it that say more of it, by their usual names. */
export type Form = { context: Partial<Record<ContextColumn, string>> } & (
  | { kind: 'messages'; messages: string }
  | { kind: 'completion'; prompt: string; completion: string }
  | { kind: 'instruction'; instruction: string; input: string | null; output: string }
  | { kind: 'text'; text: string }
);

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
  const find = (wanted: string): string | null => {
    const fitting = names.filter((name) => name.trim().toLowerCase() === wanted);
    if (fitting.length <= 1) return fitting[0] ?? null;
    throw new UserError(
      `${where}: has ${fitting.length} columns that are called "${wanted}" but for capitals and spaces: rename all but one`,
    );
  };
  const context: Form['context'] = {};
  for (const name of [...CONTEXT_COLUMNS, ...MEANING_COLUMNS]) {
    const found = find(name);
    if (found !== null && !named.includes(found)) context[name] = found;
  }
  if (messages !== null) return { kind: 'messages', messages, context };
  if (text !== null) return { kind: 'text', text, context };
  if (prompt !== null && completion !== null) {
    return { kind: 'completion', prompt, completion, context };
  }
  const form = usualForm(find, context);
  if (form !== null) return form;
  throw new UserError(`${where}: has ${listed(names)}, but ${FORMS}: ${FLAGS}`);
}

/** The names of a form's columns. */
export function columnsOf(form: Form): string[] {
  return [...exampleColumns(form), ...Object.values(form.context)];
}

function exampleColumns(form: Form): string[] {
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
function usualForm(find: (name: string) => string | null, context: Form['context']): Form | null {
  const messages = find('messages') ?? find('conversations');
  if (messages !== null) return { kind: 'messages', messages, context };
  const [prompt, completion] = [find('prompt'), find('completion')];
  if (prompt !== null && completion !== null) {
    return { kind: 'completion', prompt, completion, context };
  }
  const [instruction, output] = [find('instruction'), find('output')];
  if (instruction !== null && output !== null) {
    return { kind: 'instruction', instruction, input: find('input'), output, context };
  }
  const text = find('text');
  return text === null ? null : { kind: 'text', text, context };
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
  const where = placeText(file, row);
  const form = formOf(Object.keys(row.fields), columns, where);
  const isNamed = [columns.text, columns.messages, columns.completion].some(
    (name) => name !== null,
  );
  return new RowReader(row, where, columns.acceptDropped ?? false, isNamed).read(form);
}

class RowReader {
  readonly #place: Place;

  constructor(
    readonly row: Row,
    readonly where: string,
    readonly acceptDropped: boolean,
    /** The user names the columns. */
    readonly isNamed: boolean,
  ) {
    this.#place = row.unit === undefined ? { line: row.line } : { line: row.line, unit: row.unit };
  }

  read(form: Form): DataRecord {
    this.#refuseChanged(form);
    switch (form.kind) {
      case 'messages':
        return this.#conversation(form.messages, this.#context(form));
      case 'completion': {
        if (this.#isList(form.prompt) && this.#isList(form.completion)) return this.#answered(form);
        this.#refuseUnread(this.#context(form), CONTEXT_COLUMNS);
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
        this.#refuseUnread(this.#context(form), ['history', 'tools', 'functions']);
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

  #instruction(form: Extract<Form, { kind: 'instruction' }>): DataRecord {
    const { instruction, input, output } = form;
    const before = this.#named(() => readBefore(this.#context(form)));
    this.#refuseUnread(this.#context(form), ['tools', 'functions', 'documents']);
    const isGiven = input !== null && (this.row.fields[input] ?? null) !== null;
    const context = isGiven ? this.#string(input) : '';
    const asked = this.#string(instruction);
    return {
      kind: 'instruction',
      instruction: context.trim() === '' ? asked : `${asked}\n\n${context}`,
      output: this.#filled(output),
      ...(before.length > 0 && { before }),
      ...this.#place,
    };
  }

  /** The values of the columns beside the example that hold something. */
  #context({ context }: Form): ContextFields {
    const filled = Object.entries(context).filter(
      ([, column]) => !isEmptyValue(this.row.fields[column]),
    );
    return Object.fromEntries(filled.map(([name, column]) => [name, this.row.fields[column]]));
  }

  /** Throws UserError for a column by which the example is not one of what to say, unless that is accepted. */
  #refuseChanged(form: Form): void {
    const found = form.kind === 'text' ? null : changedMeaning(this.#context(form), this.isNamed);
    if (found === null || this.acceptDropped) return;
    throw new UserError(
      `${this.where}: "${found}" makes this example another one than its text (a comparison, a bad answer, or one with a picture or sound), and nothing here trains that: take the ${this.row.unit ?? 'line'} or the column out, or train on the text all the same with --accept-dropped`,
    );
  }

  /** Throws UserError for a column that says something and is not read, unless that is accepted. */
  #refuseUnread(fields: ContextFields, unread: readonly ContextColumn[]): void {
    const found = unread.find((name) => fields[name] !== undefined);
    if (found === undefined || this.acceptDropped) return;
    throw new UserError(
      `${this.where}: "${found}" says something that would be left out, because nothing here reads that column: put it into the conversation, take the column out, or train without it with --accept-dropped`,
    );
  }

  /** Adds the place to what a sentence says. */
  #named<T>(read: () => T): T {
    try {
      return read();
    } catch (cause) {
      if (!(cause instanceof UserError)) throw cause;
      throw new UserError(`${this.where}: ${cause.message}`, cause.exitCode, { cause });
    }
  }

  #isList(name: string): boolean {
    return Array.isArray(this.row.fields[name]);
  }

  /** A prompt and a completion that are turns: of these the completion's are trained. */
  #answered(form: Extract<Form, { kind: 'completion' }>): DataRecord {
    const read = (name: string): ChatMessage[] =>
      this.#named(() => readTurns(this.row.fields[name], name));
    const given = read(form.prompt).map((message) => ({ ...message, train: false }));
    return this.#turns([...given, ...read(form.completion)], form.completion, this.#context(form));
  }

  #conversation(name: string, fields: ContextFields): DataRecord {
    const { loss_mask: mask } = fields;
    const messages = this.#named(() => {
      const turns = readTurns(this.row.fields[name], name);
      return mask === undefined ? turns : withMask(turns, mask);
    });
    return this.#turns(messages, name, fields);
  }

  #turns(turns: readonly ChatMessage[], name: string, fields: ContextFields): DataRecord {
    const hasSystem = turns[0]?.role === 'system';
    this.#refuseUnread(fields, hasSystem ? ['history', 'system', 'system_prompt'] : ['history']);
    const { system, system_prompt } = fields;
    const before = hasSystem ? [] : this.#named(() => readBefore({ system, system_prompt }));
    const context = this.#named(() => readContext(fields));
    const messages = [...before, ...turns];
    // JSON takes up to two characters for one of most texts.
    if (JSON.stringify([messages, context], withMaps).length > 2 * LINE_BYTES_MAX)
      throw this.#tooLong(name);
    if (!messages.some(({ role }) => role === 'assistant')) {
      const roles = Array.from(
        new Set(messages.map(({ role }) => role.slice(0, NAME_SHOWN_LENGTH_MAX))),
      );
      const shown = roles.slice(0, NAMES_SHOWN_MAX).join(', ');
      throw this.#nothingToTrain(`"${name}" has no turn with the role "assistant", but ${shown}`);
    }
    const more = Object.keys(context).length > 0 ? { context } : {};
    return { kind: 'messages', messages, ...more, ...this.#place };
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

/** For JSON.stringify, to which a Map is empty. */
function withMaps(_: string, value: unknown): unknown {
  return value instanceof Map ? [...value] : value;
}

/** Stands for bytes that are no text, where a reader can only give a value. */
export const INVALID_TEXT = Symbol('not valid UTF-8');
