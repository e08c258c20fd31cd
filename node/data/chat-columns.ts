/**
 * Conversations as people write them down: OpenAI's fine-tuning files, ShareGPT, TRL's prompts and completions, and
 * what stands in columns beside them.
 */
import { UserError } from '../errors.js';
import type { ChatContext, ChatMessage } from './chat-template.js';
import { ExactNumber, parseExactly } from './exact-json.js';
import { jsonOf } from './jinja.js';

/** Turns in one conversation: the template is rendered again for each of them, so 256 take a few seconds. */
export const MESSAGES_MAX = 256;
/** Functions, documents and earlier questions of one conversation. */
const LISTED_MAX = 1024;

/** Columns beside a conversation or an instruction that say more of it. */
export const CONTEXT_COLUMNS = [
  ...(['tools', 'functions', 'documents', 'system', 'system_prompt', 'history'] as const),
  'chat_template_kwargs',
] as const;
/** Columns that change what an example means: which of two answers is better, which is bad, what is seen beside the text. */
export const MEANING_COLUMNS = [
  ...(['chosen', 'rejected', 'label', 'kto_tag', 'weight', 'loss_mask'] as const),
  ...(['image', 'images', 'video', 'videos', 'audio', 'audios'] as const),
] as const;
export type ContextColumn = (typeof CONTEXT_COLUMNS)[number] | (typeof MEANING_COLUMNS)[number];

/** Values by the usual name of their column; those that are empty are left out. */
export type ContextFields = Partial<Record<ContextColumn, unknown>>;

/** Who speaks, as chat templates call them. Capitals do not matter. */
const ROLES: ReadonlyMap<string, string> = new Map(
  Object.entries({
    system: 'system',
    user: 'user',
    human: 'user',
    prompter: 'user',
    assistant: 'assistant',
    gpt: 'assistant',
    chatgpt: 'assistant',
    bot: 'assistant',
    ai: 'assistant',
    model: 'assistant',
    function_call: 'function_call',
    tool: 'tool',
    observation: 'tool',
    function_response: 'tool',
  }),
);

type Fields = Readonly<Record<string, unknown>>;

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Lists and objects in each other: those of JSON schemas have some ten levels, and templates walk them all. */
const DEPTH_MAX = 100;

/**
 * Parquet has whole numbers of 64 bits; templates and JSON have none. Throws UserError for lists and objects too deep
 * in each other.
 */
function withNumbers(value: unknown, depth = 0): unknown {
  if (typeof value === 'bigint') {
    return Number.isSafeInteger(Number(value)) ? Number(value) : new ExactNumber(String(value));
  }
  if (typeof value !== 'object' || value === null || value instanceof ExactNumber) return value;
  if (depth > DEPTH_MAX) {
    throw new UserError(`has more than ${DEPTH_MAX} lists and objects in each other: flatten them`);
  }
  if (Array.isArray(value)) return value.map((one: unknown) => withNumbers(one, depth + 1));
  const entries = (value instanceof Map ? [...value] : Object.entries(value)).map(
    ([key, one]): [string, unknown] => [String(key), withNumbers(one, depth + 1)],
  );
  return value instanceof Map ? new Map(entries) : Object.fromEntries(entries);
}

/** A value that a table holds as JSON text. */
function fromJson(given: unknown): unknown {
  if (typeof given !== 'string') return withNumbers(given);
  if (!/^\s*[[{]/.test(given)) return given;
  let parsed: unknown;
  try {
    parsed = parseExactly(given);
  } catch {
    return given;
  }
  return withNumbers(parsed);
}

/** Throws UserError, which names the turn but never quotes it. */
export function readTurns(value: unknown, name: string): ChatMessage[] {
  const list = fromJson(value);
  if (!Array.isArray(list) || list.length === 0 || list.length > MESSAGES_MAX) {
    throw new UserError(
      `"${name}" must be a list of 1 to ${MESSAGES_MAX} turns with "role" and "content" (or "from" and "value")`,
    );
  }
  return list.map((turn: unknown, i) => {
    try {
      return readTurn(turn);
    } catch (cause) {
      if (!(cause instanceof UserError)) throw cause;
      throw new UserError(`turn ${i + 1} of "${name}": ${cause.message}`, cause.exitCode, {
        cause,
      });
    }
  });
}

function readTurn(turn: unknown): ChatMessage {
  if (!isFields(turn)) throw new UserError('must be an object with "role" and "content"');
  // Some files have the one name of ShareGPT and the other of OpenAI.
  const roleField = 'role' in turn || !('from' in turn) ? 'role' : 'from';
  const hasValue = 'value' in turn && !('content' in turn);
  const contentField = hasValue ? 'value' : 'content';
  const { [roleField]: speaker, [contentField]: said, ...others } = turn;
  if (typeof speaker !== 'string') {
    throw new UserError(`"${roleField}" is ${kindOf(speaker)}, but must be text`);
  }
  const role = ROLES.get(speaker.trim().toLowerCase()) ?? speaker;
  const fields = withCalls(others);
  if (role === 'function_call') return calling(said, fields);
  const hasCalls = fields['tool_calls'] !== undefined;
  const content = readContent(said, contentField, {
    isTool: role === 'tool' || role === 'function',
    hasCalls,
  });
  return { ...fields, role, content };
}

/** A call that ShareGPT writes as a turn of its own: {"name": ..., "arguments": ...}. */
function calling(said: unknown, fields: Fields): ChatMessage {
  const made = fromJson(said);
  const calls = (Array.isArray(made) ? made : [made]) as unknown[];
  if (!calls.every((call) => isFields(call) && typeof call['name'] === 'string')) {
    return {
      ...fields,
      role: 'assistant',
      content: readContent(said, 'value', { isTool: true, hasCalls: false }),
    };
  }
  return { ...fields, role: 'assistant', content: null, tool_calls: calls.map(asCall) };
}

/** The other fields of a turn, without those that hold nothing, and with calls as OpenAI writes them today. */
function withCalls(others: Fields): Fields {
  const filled = Object.entries(others).filter(
    ([, value]) =>
      value !== null && value !== undefined && !(Array.isArray(value) && value.length === 0),
  );
  const { function_call: call, tool_calls: calls, ...fields } = Object.fromEntries(filled);
  const list = fromJson(calls) ?? (call === undefined ? undefined : [fromJson(call)]);
  if (list === undefined) return fields;
  if (!Array.isArray(list) || list.length > LISTED_MAX) {
    throw new UserError(`"tool_calls" is ${kindOf(list)}, but must be a list of calls`);
  }
  return { ...fields, tool_calls: list.map(asCall) };
}

function asCall(call: unknown): Fields {
  const made = isFields(call) && isFields(call['function']) ? call['function'] : call;
  if (!isFields(made) || typeof made['name'] !== 'string') {
    throw new UserError('has a tool call without the "name" of a function');
  }
  const around = isFields(call) && isFields(call['function']) ? call : {};
  // Templates write arguments as JSON themselves; OpenAI gives them as text.
  const given = made['arguments'] ?? {};
  return { type: 'function', ...around, function: { ...made, arguments: fromJson(given) } };
}

function readContent(
  said: unknown,
  field: string,
  { isTool, hasCalls }: { isTool: boolean; hasCalls: boolean },
): string | null {
  if (typeof said === 'string') return said;
  if ((said === null || said === undefined) && hasCalls) return null;
  const parts = isTool ? null : partsOf(said);
  if (parts !== null) return parts.join('');
  // What a function gave back may be any JSON.
  if (isTool && said !== null && said !== undefined) {
    const texts = partsOf(said);
    return texts === null ? jsonOf(said) : texts.join('');
  }
  const remedy = hasCalls ? '' : ' (only a turn with "tool_calls" may do without)';
  throw new UserError(
    `"${field}" is ${kindOf(said)}, but must be text or a list of text parts${remedy}`,
  );
}

/** The texts of a list of text parts; null where it is no list. */
function partsOf(said: unknown): string[] | null {
  if (!Array.isArray(said)) return null;
  return said.map((part: unknown) => {
    if (typeof part === 'string') return part;
    const text = isFields(part) ? part['text'] : undefined;
    if (typeof text === 'string') return text;
    const kind =
      isFields(part) && typeof part['type'] === 'string' ? part['type'].slice(0, 40) : kindOf(part);
    throw new UserError(
      `"content" has a part of the type "${kind}", but only text can be trained on`,
    );
  });
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return 'null';
  if (Array.isArray(value)) return 'a list';
  return `a ${typeof value}`;
}

/** What the columns beside say. Throws UserError, which names the column. */
export function readContext(fields: ContextFields): ChatContext {
  const context: { -readonly [K in keyof ChatContext]: ChatContext[K] } = {};
  const tools = listed(fields.tools, 'tools') ?? listed(fields.functions, 'functions');
  if (tools !== null) context.tools = tools.map(asTool);
  const documents = listed(fields.documents, 'documents');
  if (documents !== null) context.documents = documents;
  const variables = fromJson(fields.chat_template_kwargs);
  if (isFields(variables)) context.variables = withoutOurs(variables);
  return context;
}

/** What is given to every template is not for the data to change. */
function withoutOurs(variables: Fields): Fields {
  const ours = ['messages', 'tools', 'documents', 'add_generation_prompt'];
  return Object.fromEntries(Object.entries(variables).filter(([name]) => !ours.includes(name)));
}

/** A function as OpenAI described it before there were tools. */
function asTool(tool: unknown): unknown {
  const isOld =
    isFields(tool) && tool['function'] === undefined && typeof tool['name'] === 'string';
  return isOld && tool['type'] === undefined ? { type: 'function', function: tool } : tool;
}

function listed(value: unknown, name: string): readonly unknown[] | null {
  if (value === undefined) return null;
  const list = fromJson(value);
  if (Array.isArray(list) && list.length <= LISTED_MAX) return list as readonly unknown[];
  throw new UserError(`"${name}" is ${kindOf(list)}, but must be a list of at most ${LISTED_MAX}`);
}

/** What was said before: the system message, and earlier questions with their answers ([["q", "a"], ...]). */
export function readBefore(fields: ContextFields): ChatMessage[] {
  const before: ChatMessage[] = [];
  const system = fields.system ?? fields.system_prompt;
  if (system !== undefined) {
    if (typeof system !== 'string')
      throw new UserError(`"system" is ${kindOf(system)}, but must be text`);
    before.push({ role: 'system', content: system });
  }
  for (const [i, pair] of (listed(fields.history, 'history') ?? []).entries()) {
    const [question, answer, more] = Array.isArray(pair) ? (pair as unknown[]) : [];
    if (typeof question !== 'string' || typeof answer !== 'string' || more !== undefined) {
      throw new UserError(
        `entry ${i + 1} of "history" is not a question and its answer, two texts`,
      );
    }
    before.push({ role: 'user', content: question }, { role: 'assistant', content: answer });
  }
  return before;
}

/**
 * The turns with what a column says of each of them, as LLaMA-Factory has it: 0 for one that is not to be trained.
 * Throws UserError for a list of another length.
 */
export function withMask(messages: readonly ChatMessage[], mask: unknown): ChatMessage[] {
  const list = fromJson(mask);
  if (!Array.isArray(list) || list.length !== messages.length) {
    throw new UserError(
      `"loss_mask" is ${Array.isArray(list) ? `a list of ${list.length}` : kindOf(list)}, but must be a list with 0 or 1 for each of the ${messages.length} turns`,
    );
  }
  return messages.map((message, i) => ({ ...message, loss_mask: list[i] as unknown }));
}

/** The first of those columns that makes the example another one than its text; `isNamed`: the user says what to train on. */
export function changedMeaning(fields: ContextFields, isNamed: boolean): ContextColumn | null {
  const says = (name: ContextColumn): boolean => {
    const value = fields[name];
    if (value === undefined || name === 'loss_mask') return false;
    if (name === 'chosen' || name === 'rejected') return !isNamed;
    const text = (typeof value === 'string' ? value : JSON.stringify(value)).trim().toLowerCase();
    // An example of a good answer, as any other is.
    if (name === 'label' || name === 'kto_tag') return ['false', '0'].includes(text);
    return name !== 'weight' || (Number(text) !== 1 && text !== 'true');
  };
  return MEANING_COLUMNS.find(says) ?? null;
}

/** A column holds nothing. */
export function isEmptyValue(value: unknown): boolean {
  if (value === null || value === undefined) return true;
  if (typeof value === 'string')
    return value.trim() === '' || /^\s*(?:\[\s*\]|\{\s*\}|null)\s*$/.test(value);
  return Array.isArray(value) && value.length === 0;
}
