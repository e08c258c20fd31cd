/**
 * The model's chat template (Jinja): conversations as the text that the model was trained on. It is given what
 * Transformers' apply_chat_template gives.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { UserError } from '../errors.js';
import { parseJson, readFileIfThere } from '../json-file.js';
import { compileJinja, type JinjaTemplate, type Rendering } from './jinja.js';
import { readTokenizerConfig, specialTokensOf } from './tokenizer.js';

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
/** Where processors of models with pictures keep it. */
const CHAT_TEMPLATE_JSON = 'chat_template.json';
/** Bytes of a chat template: the longest with tools have some 20 KB. */
const TEMPLATE_BYTES_MAX = 1024 * 1024;
/** Names of the templates to use where tokenizer_config.json lists several: of any conversation, and with tools. */
const DEFAULT_TEMPLATE = 'default';
const TOOL_TEMPLATE = 'tool_use';

const jsonFile = z.looseObject({ chat_template: z.string() });

/** Sources by name. */
type Sources = ReadonlyMap<string, string>;

/**
 * Opens chat_template.jinja or the template in tokenizer_config.json; null when the model has none.
 * Throws UserError when the template is not valid Jinja. `now`: what templates take for the date.
 */
export async function openChatTemplate(
  modelDir: string,
  now?: () => Date,
): Promise<ChatTemplate | null> {
  const config = await readTokenizerConfig(modelDir);
  const sources = (await sourcesOfFile(modelDir)) ?? sourcesOfConfig(config.chat_template);
  const source = sources.get(DEFAULT_TEMPLATE);
  if (source === undefined) return null;
  const compile = (text: string): JinjaTemplate => {
    try {
      return compileJinja(text, now);
    } catch (cause) {
      throw new UserError(
        `the chat template of ${modelDir} cannot be read (${messageOf(cause)}): get the model's own ${CHAT_TEMPLATE_FILE}`,
        undefined,
        { cause },
      );
    }
  };
  const forTools = sources.get(TOOL_TEMPLATE);
  return new ModelTemplate(
    compile(source),
    forTools === undefined ? null : compile(forTools),
    source + (forTools ?? ''),
    specialTokensOf(config),
  );
}

async function sourcesOfFile(modelDir: string): Promise<Sources | null> {
  const read = (name: string): Promise<Uint8Array | null> =>
    readFileIfThere(join(modelDir, name), TEMPLATE_BYTES_MAX, "the model's chat template");
  const file = await read(CHAT_TEMPLATE_FILE);
  if (file !== null) return new Map([[DEFAULT_TEMPLATE, new TextDecoder().decode(file)]]);
  const config = await readTokenizerConfig(modelDir);
  if (config.chat_template !== null && config.chat_template !== undefined) return null;
  const json = await read(CHAT_TEMPLATE_JSON);
  if (json === null) return null;
  const { chat_template } = parseJson(json, join(modelDir, CHAT_TEMPLATE_JSON), jsonFile);
  return new Map([[DEFAULT_TEMPLATE, chat_template]]);
}

function sourcesOfConfig(
  template: string | { name: string; template: string }[] | null | undefined,
): Sources {
  if (typeof template === 'string') return new Map([[DEFAULT_TEMPLATE, template]]);
  return new Map((template ?? []).map(({ name, template: source }) => [name, source]));
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : 'unknown fault';
}

/** How a template wants what can be written in two ways. */
interface Habits {
  /** Contents as lists of parts: [{"type": "text", "text": "..."}]. */
  readsParts: boolean;
  /** The arguments of a tool call as an object; else as the text of one. */
  readsArguments: boolean;
}

class ModelTemplate implements ChatTemplate {
  readonly #specialTokens: Readonly<Record<string, string>>;
  #habits: Habits | null = null;

  constructor(
    private readonly plain: JinjaTemplate,
    private readonly forTools: JinjaTemplate | null,
    private readonly source: string,
    specialTokens: Readonly<Record<string, string>>,
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
    this.#habits ??= this.#findHabits();
    try {
      return this.#run(messages, addGenerationPrompt, context, this.#habits);
    } catch (cause) {
      // Templates that join contents without a look take no null.
      const isNull = messages.some(({ content }) => content === null);
      if (isNull) {
        const filled = messages.map((one) => ({ ...one, content: one.content ?? '' }));
        return this.#render(filled, addGenerationPrompt, context);
      }
      throw new UserError(
        `the model's chat template does not take this conversation (${messageOf(cause)}): check the order of the roles`,
        undefined,
        { cause },
      );
    }
  }

  #run(
    messages: readonly ChatMessage[],
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
    const sees = (messages: readonly ChatMessage[], habits: Habits, sought: string): boolean => {
      try {
        return this.#run(messages, false, {}, habits).text.includes(sought);
      } catch {
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
    const turns = [question, { role: 'assistant', content: null, tool_calls: [call] }];
    const asked = [{ ...question, content: 'a' }, ...turns.slice(1)];
    const isSeen = (readsArguments: boolean, sought: string): boolean =>
      sees(asked, { readsParts, readsArguments }, sought) ||
      sees(
        asked.map((one) => ({ ...one, content: one.content ?? '' })),
        { readsParts, readsArguments },
        sought,
      );
    // A template that joins texts writes an object as "[object Map]".
    return { readsParts, readsArguments: isSeen(true, word) || !isSeen(false, word) };
  }
}

function asRead(message: ChatMessage, { readsParts, readsArguments }: Habits): object {
  const { content } = message;
  const read: Record<string, unknown> = withThoughts(message);
  if (readsParts && content !== null) read['content'] = [{ type: 'text', text: content }];
  const { tool_calls: calls } = message;
  if (!readsArguments && Array.isArray(calls)) read['tool_calls'] = calls.map(withTextArguments);
  return read;
}

/** Thoughts by each of the names that templates read, as Transformers gives them. */
function withThoughts(message: ChatMessage): Record<string, unknown> {
  const { reasoning_content: given, thinking, reasoning } = message;
  const thoughts = given ?? thinking ?? reasoning;
  if (thoughts === undefined || thoughts === null) return { ...message };
  return { thinking: thoughts, ...message, reasoning_content: thoughts };
}

function withTextArguments(call: unknown): unknown {
  if (typeof call !== 'object' || call === null || !('function' in call)) return call;
  const made: unknown = call.function;
  if (typeof made !== 'object' || made === null || !('arguments' in made)) return call;
  const given: unknown = made.arguments;
  const text = typeof given === 'string' ? given : JSON.stringify(given);
  return { ...call, function: { ...made, arguments: text } };
}
