/** The model's chat template (Jinja): conversations as the text that the model was trained on. */
import { join } from 'node:path';
import { Template } from '@huggingface/jinja';
import { UserError } from '../errors.js';
import { readFileIfThere } from '../json-file.js';
import { readTokenizerConfig, tokenText } from './tokenizer.js';

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
const TEMPLATE_BYTES_MAX = 1024 * 1024;
/** Name of the template to use where tokenizer_config.json lists several. */
const DEFAULT_TEMPLATE = 'default';

/**
 * Opens chat_template.jinja or the template in tokenizer_config.json; null when the model has none.
 * Throws UserError when the template is not valid Jinja.
 */
export async function openChatTemplate(modelDir: string): Promise<ChatTemplate | null> {
  const config = await readTokenizerConfig(modelDir);
  const path = join(modelDir, CHAT_TEMPLATE_FILE);
  const file = await readFileIfThere(path, TEMPLATE_BYTES_MAX, "the model's chat template");
  const source = file === null ? fromConfig(config.chat_template) : new TextDecoder().decode(file);
  if (source === null) return null;
  let template: Template;
  try {
    template = new Template(source);
  } catch (cause) {
    throw new UserError(
      `the chat template of ${modelDir} cannot be read (${messageOf(cause)}): get the model's own ${CHAT_TEMPLATE_FILE}`,
      undefined,
      { cause },
    );
  }
  const variables = {
    bos_token: tokenText(config.bos_token) ?? '',
    eos_token: tokenText(config.eos_token) ?? '',
  };
  return {
    render(messages, addGenerationPrompt) {
      try {
        return template.render({
          ...variables,
          messages,
          add_generation_prompt: addGenerationPrompt,
        });
      } catch (cause) {
        throw new UserError(
          `the model's chat template does not take this conversation (${messageOf(cause)}): check the order of the roles`,
          undefined,
          { cause },
        );
      }
    },
  };
}

function fromConfig(
  template: string | { name: string; template: string }[] | null | undefined,
): string | null {
  if (typeof template === 'string') return template;
  return template?.find(({ name }) => name === DEFAULT_TEMPLATE)?.template ?? null;
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : 'unknown fault';
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
