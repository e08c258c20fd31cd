/**
 * The model's chat template (Jinja): conversations as the text that the model was trained on. It is given what
 * Transformers' apply_chat_template gives.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { UserError } from '../errors.js';
import { parseJson, readFileIfThere } from '../json-file.js';
import { printableLine } from '../printable.js';
import { compileJinja, jsonOf, type JinjaTemplate, type Rendering } from './jinja.js';
import { TooMuchError } from './text-budget.js';
import { timeFor, withTimeLimit, type ModelProgram } from './time-limit.js';
import {
  readTokenizerConfig,
  specialTokensOf,
  TOKENIZER_CONFIG_FILE,
  type TokenizerConfig,
} from './tokenizer.js';

/**
 * One turn of a conversation; `role` is mostly "system", "user" or "assistant". A template may read more of it, such
 * as `tool_calls`, `tool_call_id`, `name` and `reasoning_content`.
 */
export interface ChatMessage {
  role: string;
  /** Null where the turn is a tool call alone. */
  content: string | null;
  readonly [field: string]: unknown;
}

/** What a conversation has beside its turns. */
export interface ChatContext {
  /** Functions that the assistant may call, as JSON schemas. */
  tools?: readonly unknown[];
  documents?: readonly unknown[];
  /** Further variables of the template, such as `enable_thinking`. */
  variables?: Readonly<Record<string, unknown>>;
}

/** Renders conversations as the model's makers meant them. */
export interface ChatTemplate {
  /**
   * The whole text; `addGenerationPrompt` ends it where the assistant's answer begins.
   * Throws UserError when the template refuses the messages, with its own words.
   */
  render(
    messages: readonly ChatMessage[],
    addGenerationPrompt: boolean,
    context?: ChatContext,
  ): string;
  /** As render without a generation prompt, with what the template itself marks as the assistant's. */
  renderMarked(messages: readonly ChatMessage[], context?: ChatContext): Rendering;
  /** Whether the template names this role: in quotes, as in message.role == 'tool'. */
  names(role: string): boolean;
}

const CHAT_TEMPLATE_FILE = 'chat_template.jinja';
/** Folder of those with other names. */
const MORE_TEMPLATES = 'additional_chat_templates';
/** Where processors of models with pictures keep it. */
const CHAT_TEMPLATE_JSON = 'chat_template.json';
/** Bytes of a chat template: the longest with tools have some 20 KB. */
const TEMPLATE_BYTES_MAX = 256 * 1024;
/** Characters that an error shows of what a template says. */
const REASON_CHARACTERS_MAX = 200;
/** Names of the templates to use where tokenizer_config.json lists several: of any conversation, and with tools. */
const DEFAULT_TEMPLATE = 'default';
const TOOL_TEMPLATE = 'tool_use';

const jsonFile = z.looseObject({ chat_template: z.string() });

/** The templates of a model. */
interface Sources {
  path: string;
  byName: ReadonlyMap<string, string>;
}

export interface TemplateOptions {
  /** What templates take for the date. */
  now?: () => Date;
  /** For one call; a long conversation has more. */
  callMs?: number;
}

/**
 * Opens chat_template.jinja or the template in tokenizer_config.json; null when the model has none.
 * Throws UserError when the template is not valid Jinja, or goes beyond a bound.
 */
export async function openChatTemplate(
  modelDir: string,
  { now, callMs }: TemplateOptions = {},
): Promise<ChatTemplate | null> {
  const config = await readTokenizerConfig(modelDir);
  const { path, byName } =
    (await sourcesOfFile(modelDir)) ?? sourcesOfConfig(modelDir, config.chat_template);
  const source = byName.get(DEFAULT_TEMPLATE);
  if (source === undefined) return null;
  const program = { path, remedy: "get the model's own chat template" };
  const compile = (text: string): JinjaTemplate => {
    if (text.length > TEMPLATE_BYTES_MAX) {
      throw new UserError(
        `${path} has a chat template of ${text.length} characters, more than ${TEMPLATE_BYTES_MAX}: ${program.remedy}`,
      );
    }
    return attempt(program, timeFor(0, callMs), PARSING, () => compileJinja(text, now));
  };
  const forTools = byName.get(TOOL_TEMPLATE);
  return new ModelTemplate(
    program,
    callMs,
    compile(source),
    forTools === undefined ? null : compile(forTools),
    source + (forTools ?? ''),
    specialVariables(config),
  );
}

/** As Transformers names them: "pad_token", "image_token", and the list of others. */
function specialVariables(config: TokenizerConfig): Record<string, unknown> {
  const all = Object.entries(specialTokensOf(config));
  const named = all.filter(([name]) => name.endsWith('_token'));
  const listed = all.filter(([name]) => !name.endsWith('_token')).map(([, token]) => token);
  return { ...Object.fromEntries(named), additional_special_tokens: listed };
}

/** What an attempt was for, where the template itself is the reason that it failed. */
type Failure = (program: ModelProgram, reason: string) => string;
const PARSING: Failure = ({ path, remedy }, reason) =>
  `the chat template of ${path} cannot be read (${reason}): ${remedy}`;
const RENDERING: Failure = (_, reason) =>
  `the model's chat template does not take this conversation (${reason}): check the order of the roles`;

function attempt<T>(program: ModelProgram, limitMs: number, failure: Failure, work: () => T): T {
  return withTimeLimit(program, limitMs, () => {
    try {
      return work();
    } catch (cause) {
      throw new UserError(
        cause instanceof TooMuchError
          ? `${program.path}: the chat template ${cause.message}: ${program.remedy}`
          : failure(program, messageOf(cause)),
        undefined,
        { cause },
      );
    }
  });
}

/** Null where the template is in tokenizer_config.json. */
async function sourcesOfFile(modelDir: string): Promise<Sources | null> {
  const read = (path: string): Promise<Uint8Array | null> =>
    readFileIfThere(path, TEMPLATE_BYTES_MAX, "the model's chat template");
  const [path, jsonPath] = [join(modelDir, CHAT_TEMPLATE_FILE), join(modelDir, CHAT_TEMPLATE_JSON)];
  const file = await read(path);
  if (file !== null) {
    const forTools = await read(join(modelDir, MORE_TEMPLATES, `${TOOL_TEMPLATE}.jinja`));
    const byName = new Map([[DEFAULT_TEMPLATE, new TextDecoder().decode(file)]]);
    if (forTools !== null) byName.set(TOOL_TEMPLATE, new TextDecoder().decode(forTools));
    return { path, byName };
  }
  const config = await readTokenizerConfig(modelDir);
  if (config.chat_template !== null && config.chat_template !== undefined) return null;
  const json = await read(jsonPath);
  if (json === null) return null;
  const { chat_template: source } = parseJson(json, jsonPath, jsonFile);
  return { path: jsonPath, byName: new Map([[DEFAULT_TEMPLATE, source]]) };
}

function sourcesOfConfig(
  modelDir: string,
  template: string | { name: string; template: string }[] | null | undefined,
): Sources {
  const path = join(modelDir, TOKENIZER_CONFIG_FILE);
  if (typeof template === 'string')
    return { path, byName: new Map([[DEFAULT_TEMPLATE, template]]) };
  return {
    path,
    byName: new Map((template ?? []).map(({ name, template: source }) => [name, source])),
  };
}

/** The template's own words: escaped, for they are a stranger's, and cut short, for they may hold a conversation. */
function messageOf(cause: unknown): string {
  // The library's errors are no instances of Error here: it runs in a context of its own.
  const message =
    typeof cause === 'object' && cause !== null && 'message' in cause ? cause.message : null;
  return typeof message === 'string'
    ? printableLine(message.slice(0, REASON_CHARACTERS_MAX))
    : 'unknown fault';
}

/** How a template wants what can be written in two ways. */
interface Habits {
  /** Contents as lists of parts: [{"type": "text", "text": "..."}]. */
  readsParts: boolean;
  /** The arguments of a tool call as an object; else as the text of one. */
  readsArguments: boolean;
}

class ModelTemplate implements ChatTemplate {
  readonly #specialTokens: Readonly<Record<string, unknown>>;
  #habits: Habits | null = null;

  constructor(
    private readonly program: ModelProgram,
    private readonly callMs: number | undefined,
    private readonly plain: JinjaTemplate,
    private readonly forTools: JinjaTemplate | null,
    private readonly source: string,
    specialTokens: Readonly<Record<string, unknown>>,
  ) {
    this.#specialTokens = { bos_token: '', eos_token: '', ...specialTokens };
  }

  names(role: string): boolean {
    return this.source.includes(`'${role}'`) || this.source.includes(`"${role}"`);
  }

  render(
    messages: readonly ChatMessage[],
    addGenerationPrompt: boolean,
    context?: ChatContext,
  ): string {
    return this.#render(messages, addGenerationPrompt, context ?? {}).text;
  }

  renderMarked(messages: readonly ChatMessage[], context?: ChatContext): Rendering {
    return this.#render(messages, false, context ?? {});
  }

  #render(
    messages: readonly ChatMessage[],
    addGenerationPrompt: boolean,
    context: ChatContext,
  ): Rendering {
    const characters = messages.reduce((sum, { content }) => sum + (content?.length ?? 0), 0);
    return attempt(this.program, timeFor(characters, this.callMs), RENDERING, () =>
      this.#best(messages, addGenerationPrompt, context),
    );
  }

  /** Throws what the template throws where it takes the messages in no form. */
  #best(
    messages: readonly ChatMessage[],
    addGenerationPrompt: boolean,
    context: ChatContext,
  ): Rendering {
    this.#habits ??= this.#findHabits();
    let refusal: unknown;
    let best: Rendering | null = null;
    for (const form of formsOf(messages)) {
      try {
        const found = this.#run(form, addGenerationPrompt, context, this.#habits);
        // Some templates write a null out.
        if (best === null || nullsIn(found.text) < nullsIn(best.text)) best = found;
      } catch (cause) {
        if (cause instanceof TooMuchError) throw cause;
        refusal = cause;
      }
    }
    if (best !== null) return best;
    throw refusal;
  }

  #run(
    messages: readonly object[],
    addGenerationPrompt: boolean,
    { tools, documents, variables }: ChatContext,
    habits: Habits,
  ): Rendering {
    const template = tools !== undefined && this.forTools !== null ? this.forTools : this.plain;
    return template.render({
      ...this.#specialTokens,
      ...variables,
      messages: messages.map((message) => asRead(message, habits)),
      // None where there are none: templates ask whether they are.
      tools: tools ?? null,
      documents: documents ?? null,
      add_generation_prompt: addGenerationPrompt,
    });
  }

  #findHabits(): Habits {
    const sees = (messages: readonly object[], habits: Habits, sought: string): boolean => {
      try {
        return this.#run(messages, false, {}, habits).text.includes(sought);
      } catch (cause) {
        if (cause instanceof TooMuchError) throw cause;
        return false;
      }
    };
    const plain: Habits = { readsParts: false, readsArguments: true };
    const word = 'seldom-said';
    const question = { role: 'user', content: word };
    const readsParts =
      !sees([question], plain, word) && sees([question], { ...plain, readsParts: true }, word);
    const call = {
      type: 'function',
      id: 'call00001',
      function: { name: 'look', arguments: { key: word } },
    };
    const calling = (content: string | null): ChatMessage[] => [
      { role: 'user', content: 'a' },
      { role: 'assistant', content, tool_calls: [call] },
    ];
    const isSeen = (readsArguments: boolean): boolean =>
      [null, ''].some((content) =>
        Array.from(formsOf(calling(content))).some((form) =>
          sees(form, { readsParts, readsArguments }, word),
        ),
      );
    // A template that joins texts writes an object as "[object Map]".
    return { readsParts, readsArguments: isSeen(true) || !isSeen(false) };
  }
}

function nullsIn(text: string): number {
  return text.match(/\bnull\b|\bNone\b/g)?.length ?? 0;
}

/**
 * Turns without words, as calls are, have null for them, as most templates were written for; or not the field, as
 * Transformers 5 leaves it out, or an empty text, for templates that take no null.
 */
function* formsOf(messages: readonly ChatMessage[]): Generator<readonly object[], void, undefined> {
  if (messages.every(({ content }) => content !== null)) {
    yield messages;
    return;
  }
  yield messages;
  yield messages.map(({ content, ...others }) =>
    content === null ? others : { content, ...others },
  );
  yield messages.map((message) => ({ ...message, content: message.content ?? '' }));
}

function asRead(message: object, { readsParts, readsArguments }: Habits): object {
  const read = withThoughts(message);
  const { content, tool_calls: calls } = read;
  if (readsParts && typeof content === 'string')
    read['content'] = [{ type: 'text', text: content }];
  if (!readsArguments && Array.isArray(calls)) read['tool_calls'] = calls.map(withTextArguments);
  return read;
}

/** Thoughts by each of the names that templates read, as Transformers gives them. */
function withThoughts(message: object): Record<string, unknown> {
  const read: Record<string, unknown> = { ...message };
  const thoughts = read['reasoning_content'] ?? read['thinking'] ?? read['reasoning'];
  if (thoughts === undefined || thoughts === null) return read;
  return { thinking: thoughts, ...read, reasoning_content: thoughts };
}

function withTextArguments(call: unknown): unknown {
  if (typeof call !== 'object' || call === null || !('function' in call)) return call;
  const made: unknown = call.function;
  if (typeof made !== 'object' || made === null || !('arguments' in made)) return call;
  const given: unknown = made.arguments;
  const text = typeof given === 'string' ? given : jsonOf(given);
  return { ...call, function: { ...made, arguments: text } };
}
