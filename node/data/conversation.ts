/**
 * Conversations as the text that a model goes on with: by the model's chat template, or by a plain format in
 * which each message of the user becomes one prompt, as in prompt/completion data.
 */
import { EXIT_USAGE, UserError } from '../errors.js';
import type { ChatMessage, ChatTemplate } from './chat-template.js';
import { textIds } from './tokenise.js';
import type { Tokenizer } from './tokenizer.js';

/** Stands for the user's words in a plain format. */
const SLOT = '{}';

/** The plain format of a model without a chat template. */
export const PLAIN_FORMAT = `User: ${SLOT}\nAssistant:`;

/** How a conversation becomes text, and what ends an answer in it. */
export interface ConversationFormat {
  /** For people: "the model's chat template", or the plain format. */
  readonly name: string;
  /**
   * Ids up to where the assistant's next answer begins. Throws UserError for messages that it has no place
   * for.
   */
  prompt(messages: readonly ChatMessage[]): number[];
  /** Tokens that end an answer, beside those that end a text. */
  readonly ends: readonly number[];
  /** Texts that end an answer and are no part of it. */
  readonly stops: readonly string[];
}

/** By the model's chat template. */
export function templateFormat(template: ChatTemplate, tokenizer: Tokenizer): ConversationFormat {
  return {
    name: "the model's chat template",
    // A chat template writes the begin-of-text token itself.
    prompt: (messages) => tokenizer.encode(template.render(messages, true)),
    ends: turnEnds(template, tokenizer),
    stops: [],
  };
}

/** The special token that the template puts after an answer, if any. */
function turnEnds(template: ChatTemplate, tokenizer: Tokenizer): number[] {
  const question = { role: 'user', content: 'a' };
  // A character that no template has.
  const answer = '\ufdd0';
  const turn = template.render([question, { role: 'assistant', content: answer }], false);
  const after = turn.slice(turn.lastIndexOf(answer) + answer.length);
  const special = new Set(tokenizer.specialTokens.values());
  const end = tokenizer.encode(after).find((id) => special.has(id));
  return end === undefined ? [] : [end];
}

/**
 * `format`: what a message of the user becomes, with {} for its words, e.g. "Q: {}\nA:"; the answer follows
 * after a space. Throws UserError (wrong usage) without exactly one {}, or with nothing before it.
 */
export function plainFormat(format: string, tokenizer: Tokenizer): ConversationFormat {
  const [before, after, ...more] = format.split(SLOT);
  if (before === undefined || after === undefined || more.length > 0 || before.trim() === '') {
    throw new UserError(
      `the format ${JSON.stringify(format)} must hold {} once, after a word that says who speaks, like "Q: {}\\nA:"`,
      EXIT_USAGE,
    );
  }
  const text = ({ role, content: said }: ChatMessage): string => {
    const content = said ?? '';
    if (role === 'user') return `${before}${content}${after}`;
    if (role === 'assistant') return ` ${content}\n`;
    if (role === 'system') return `${content}\n\n`;
    throw new UserError(
      `a message has the role "${role}", which a plain conversation does not know: use system, user or assistant`,
    );
  };
  return {
    name: JSON.stringify(format),
    prompt: (messages) => textIds(tokenizer, messages.map(text).join('')),
    ends: [],
    stops: [`\n${before.trim()}`],
  };
}

/** What fits of a conversation. */
export interface Fitted {
  /** At most the room that there is. */
  ids: number[];
  /** What is left of the conversation. */
  messages: ChatMessage[];
  /** Messages that were left out, the oldest. */
  dropped: number;
}

/**
 * Leaves out the oldest turns, but no system message, until the prompt has at most `room` tokens. Null when
 * not even the last message fits. Throws UserError as `prompt` does.
 */
export function fitConversation(
  format: ConversationFormat,
  messages: readonly ChatMessage[],
  room: number,
): Fitted | null {
  let left = [...messages];
  for (;;) {
    const ids = format.prompt(left);
    if (ids.length <= room) return { ids, messages: left, dropped: messages.length - left.length };
    const first = left.findIndex(({ role }) => role !== 'system');
    // A conversation begins with the user.
    const next = left.findIndex(({ role }, i) => i > first && role === 'user');
    if (next === -1) return null;
    left = left.filter(({ role }, i) => i >= next || role === 'system');
  }
}
