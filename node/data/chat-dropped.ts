/** What of a conversation its rendering lacks: words and calls that the template has no place for. */
import type { ChatContext, ChatMessage } from './chat-template.js';

/** Something that the template leaves out; `turn` from 1, or null for what belongs to none. */
export interface Dropped {
  turn: number | null;
  role: string;
  field: string;
}

const THOUGHTS = ['reasoning_content', 'reasoning', 'thinking'] as const;
/** Fields of a turn with words that no template here shows: what is in them would be lost. */
const UNREAD = ['function_call', 'audio', 'refusal'] as const;

/** `whole`: the rendering; `told`: all that is trained of it, or of the conversation up to each answer. */
export function droppedFrom(
  messages: readonly ChatMessage[],
  context: ChatContext,
  { whole, trained, told }: { whole: string; trained: readonly number[]; told: string },
): Dropped[] {
  const all = squeezed(`${whole}\n${told}`);
  const answers = squeezed(told);
  const dropped: Dropped[] = [];
  for (const [i, message] of messages.entries()) {
    const isTrained = trained.includes(i);
    const shown = isTrained ? answers : all;
    const note = (field: string): unknown =>
      dropped.push({ turn: i + 1, role: message.role, field });
    // An earlier answer's thoughts are left out on purpose.
    const isPast = message.role === 'assistant' && !isTrained;
    const words = message.content ?? '';
    if (!holds(shown, isPast ? afterThoughts(words) : words)) note('content');
    for (const field of isPast ? [] : THOUGHTS) {
      const thoughts = message[field];
      if (typeof thoughts === 'string' && !holds(shown, thoughts)) note(field);
    }
    if (!namesOf(message['tool_calls']).every((name) => holds(shown, name))) note('tool_calls');
    for (const field of UNREAD) if (isFilled(message[field])) note(field);
  }
  if (!namesOf(context.tools).every((name) => holds(all, name))) {
    dropped.push({ turn: null, role: '', field: 'tools' });
  }
  if (
    context.documents !== undefined &&
    !textsOf(context.documents).every((one) => holds(all, one))
  ) {
    dropped.push({ turn: null, role: '', field: 'documents' });
  }
  return dropped;
}

function isFilled(value: unknown): boolean {
  return value !== undefined && value !== null && value !== '';
}

/** Templates trim, indent and join lines: white space is nobody's words. */
function squeezed(text: string): string {
  return text.replace(/\s+/gu, '');
}

/** Some templates write texts as JSON. */
function holds(shown: string, words: string): boolean {
  const sought = squeezed(words);
  return shown.includes(sought) || shown.includes(squeezed(JSON.stringify(words)).slice(1, -1));
}

/** Whether `text` has all of `words`, white space aside. */
export function holdsWords(text: string, words: string): boolean {
  return holds(squeezed(text), words);
}

function afterThoughts(text: string): string {
  return text.slice(text.lastIndexOf('</think>') + 1).replace(/^\/think>/, '');
}

/** Names of functions in tool calls or in declarations of tools. */
function namesOf(list: unknown): string[] {
  if (!Array.isArray(list)) return [];
  return list.flatMap((entry: unknown) => {
    const made = fieldOf(entry, 'function') ?? entry;
    const name = fieldOf(made, 'name');
    return typeof name === 'string' ? [name] : [];
  });
}

function textsOf(documents: readonly unknown[]): string[] {
  return documents.flatMap((one) => {
    const text = fieldOf(one, 'text') ?? fieldOf(one, 'content') ?? one;
    return typeof text === 'string' ? [text] : [];
  });
}

function fieldOf(value: unknown, field: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  return (value as Readonly<Record<string, unknown>>)[field];
}
