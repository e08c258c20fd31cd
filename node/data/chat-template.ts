/** The model's chat template (Jinja): conversations as the text that the model was trained on. */
import { join } from 'node:path';
import { UserError } from '../errors.js';
import { readFileIfThere } from '../json-file.js';
import { printableLine } from '../printable.js';
import { TooMuchError } from './bounded-library.js';
import { BoundedTemplate } from './bounded-template.js';
import { timeFor, withTimeLimit, type ModelProgram } from './time-limit.js';
import { readTokenizerConfig, TOKENIZER_CONFIG_FILE, tokenText } from './tokenizer.js';

/** One turn of a conversation; `role` is mostly "system", "user" or "assistant". */
export interface ChatMessage {
  role: string;
  content: string;
}

/** A stretch of text; the model is trained to write it where `trained` is true. */
export interface TextPart {
  text: string;
  trained: boolean;
}

/** Renders conversations as the model's makers meant them. */
export interface ChatTemplate {
  /**
   * The whole text; `addGenerationPrompt` ends it where the assistant's answer begins.
   * Throws UserError when the template refuses the messages, with its own words.
   */
  render(messages: readonly ChatMessage[], addGenerationPrompt: boolean): string;
}

const CHAT_TEMPLATE_FILE = 'chat_template.jinja';
/** Bytes of a chat template: the longest with tools have some 20 KB. */
const TEMPLATE_BYTES_MAX = 256 * 1024;
/** Characters that an error shows of what a template says. */
const REASON_CHARACTERS_MAX = 200;
/** Name of the template to use where tokenizer_config.json lists several. */
const DEFAULT_TEMPLATE = 'default';

/**
 * Opens chat_template.jinja or the template in tokenizer_config.json; null when the model has none. One call may take
 * `callMs`, and more for a long text. Throws UserError when the template is not valid Jinja, or goes beyond a bound.
 */
export async function openChatTemplate(
  modelDir: string,
  callMs?: number,
): Promise<ChatTemplate | null> {
  const config = await readTokenizerConfig(modelDir);
  const ownPath = join(modelDir, CHAT_TEMPLATE_FILE);
  const file = await readFileIfThere(ownPath, TEMPLATE_BYTES_MAX, "the model's chat template");
  const source = file === null ? fromConfig(config.chat_template) : new TextDecoder().decode(file);
  if (source === null) return null;
  const path = file === null ? join(modelDir, TOKENIZER_CONFIG_FILE) : ownPath;
  const program = { path, remedy: `get the model's own chat template` };
  if (source.length > TEMPLATE_BYTES_MAX) {
    throw new UserError(
      `${path} has a chat template of ${source.length} characters, more than ${TEMPLATE_BYTES_MAX}: ${program.remedy}`,
    );
  }
  const template = attempt(program, timeFor(0, callMs), PARSING, () => {
    return new BoundedTemplate(source);
  });
  const variables = {
    bos_token: tokenText(config.bos_token) ?? '',
    eos_token: tokenText(config.eos_token) ?? '',
  };
  return {
    render(messages, addGenerationPrompt) {
      const characters = messages.reduce((sum, { content }) => sum + content.length, 0);
      const items = { ...variables, messages, add_generation_prompt: addGenerationPrompt };
      return attempt(program, timeFor(characters, callMs), RENDERING, () => template.render(items));
    },
  };
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

function fromConfig(
  template: string | { name: string; template: string }[] | null | undefined,
): string | null {
  if (typeof template === 'string') return template;
  return template?.find(({ name }) => name === DEFAULT_TEMPLATE)?.template ?? null;
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

/**
 * Splits a rendered conversation into what the assistant wrote (trained, with the template's end of
 * turn) and the rest, by rendering ever longer beginnings of it. Throws UserError when the template
 * rewrites earlier turns, so that the assistant's words cannot be told apart.
 */
export function chatParts(template: ChatTemplate, messages: readonly ChatMessage[]): TextPart[] {
  const parts: TextPart[] = [];
  let done = '';
  for (const [i, message] of messages.entries()) {
    if (message.role !== 'assistant') continue;
    const prompt = template.render(messages.slice(0, i), true);
    const turn = template.render(messages.slice(0, i + 1), false);
    if (!prompt.startsWith(done) || !turn.startsWith(prompt)) {
      throw new UserError(
        "the model's chat template changes earlier turns when later ones are added, so the assistant's words cannot be told apart: use prompt/completion lines",
      );
    }
    parts.push({ text: prompt.slice(done.length), trained: false });
    parts.push({ text: turn.slice(prompt.length), trained: true });
    done = turn;
  }
  const whole = template.render(messages, false);
  if (whole.startsWith(done) && whole.length > done.length) {
    parts.push({ text: whole.slice(done.length), trained: false });
  }
  return parts.filter(({ text }) => text.length > 0);
}
