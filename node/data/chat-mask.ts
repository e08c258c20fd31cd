/**
 * Which stretches of a rendered conversation are trained. Where the template marks what the assistant writes with
 * {% generation %}, exactly that; else what a turn's own words change in the rendering, from where the assistant
 * begins to write to the end of its turn.
 */
import { UserError } from '../errors.js';
import type { ChatContext, ChatMessage, ChatTemplate } from './chat-template.js';
import { droppedFrom, holdsWords, type Dropped } from './chat-dropped.js';
import { trainedTurns } from './chat-turns.js';

type Span = [start: number, end: number];

/** A text and the stretches of it that are trained: [start, end) in UTF-16 units, in order. */
export interface MaskedText {
  text: string;
  trained: Span[];
  /** Whether the text breaks off after an answer: nothing in the template ends it. */
  isOpen: boolean;
}

export interface MaskedConversation {
  /** One text, or one for each answer before which the template changes what was said earlier. */
  texts: MaskedText[];
  /** What the template leaves out. */
  dropped: Dropped[];
}

export interface MaskOptions {
  /** Texts of tokens such as <|im_end|>. */
  specialTokens: ReadonlySet<string>;
  /** Trains a block of thoughts that the template adds empty; else the answer after it alone. */
  emptyThoughts: boolean;
}

/** Characters that Unicode keeps free: one of them is not in the text. */
const FREE = Array.from({ length: 32 }, (_, i) => String.fromCharCode(0xfdd0 + i));

/** Text between a header and the answer that a template may put there. */
const HEADER_GAP_MAX = 400;

/** Characters before an answer that may begin its words: "<think>\n" at the end of a generation prompt. */
const PREFILLED = 16;

/** As "<think>\n\n</think>\n\n". */
const EMPTY_THOUGHTS = /^\s*([<[][^<>[\]/]+[>\]])\s*[<[]\/[^<>[\]]+[>\]]\s*$/;

/** Throws UserError: messages that the template refuses, and an answer that cannot be told from the rest. */
export function maskConversation(
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  context: ChatContext,
  options: MaskOptions,
): MaskedConversation {
  return new Mask(template, messages, context, options).result();
}

/** An answer in a text that ends with it. */
interface Answer {
  /** The text up to where it ends: its own words, and the template's end of turn. */
  text: string;
  start: number;
  /** Where the turn's own words end. */
  end: number;
  /** What the template puts after them when nothing follows. */
  tail: string;
}

class Mask {
  readonly #whole: string;
  readonly #generated: Span[] | null;
  readonly #trained: readonly number[];

  constructor(
    readonly template: ChatTemplate,
    readonly messages: readonly ChatMessage[],
    readonly context: ChatContext,
    readonly options: MaskOptions,
  ) {
    const { text, generated } = template.renderMarked(messages, context);
    this.#whole = text;
    this.#generated = generated;
    this.#trained = trainedTurns(messages);
  }

  result(): MaskedConversation {
    const texts = this.#generated === null ? this.#byTurns() : this.#byMarks(this.#generated);
    return { texts, dropped: this.#droppedFrom(texts) };
  }

  #droppedFrom(texts: readonly MaskedText[]): Dropped[] {
    const told = texts.map(({ text, trained }) =>
      trained.map(([start, end]) => text.slice(Math.max(0, start - PREFILLED), end)).join('\n'),
    );
    return droppedFrom(this.messages, this.context, {
      whole: this.#whole,
      trained: this.#trained,
      told: told.join('\n'),
    });
  }

  /** What stands between the tags, without the turns that are not to be trained. */
  #byMarks(generated: readonly Span[]): MaskedText[] {
    const skipped = this.messages.flatMap((message, i) =>
      message.role === 'assistant' && !this.#trained.includes(i) ? [this.#placeIn(i)] : [],
    );
    const added = this.#trained
      .filter((i) => this.messages[i]?.role !== 'assistant')
      .map((i) => this.#placeIn(i));
    const trained = [...outside(generated, skipped), ...added].sort(([a], [b]) => a - b);
    const shared = { text: this.#whole, trained, isOpen: false };
    // An answer of which the template forgets a part later is trained in the conversation up to it.
    const lost = new Set(this.#droppedFrom([shared]).map(({ turn }) => (turn ?? 0) - 1));
    const last = this.messages.length - 1;
    const own = this.#trained
      .filter((i) => lost.has(i) && i < last)
      .flatMap((i) => this.#markedUpTo(i));
    const elsewhere = own.map(({ turn }) => this.#placeIn(turn));
    const rest = { ...shared, trained: outside(trained, elsewhere) };
    return [...own.map(({ text }) => text), ...(rest.trained.length > 0 ? [rest] : [])];
  }

  /** The conversation up to a turn, in which its own marks alone are trained. */
  #markedUpTo(turn: number): { turn: number; text: MaskedText }[] {
    const upTo = this.messages.slice(0, turn + 1);
    const { text, generated } = this.template.renderMarked(upTo, this.context);
    const place = this.#place(upTo, turn, text);
    if (place === null) return [];
    const trained = (generated ?? []).filter((span) => isShared(span, place));
    // Nothing is forgotten where the whole begins in the same way: the template never shows it.
    const isForgotten = trained.length > 0 && !this.#whole.startsWith(text.slice(0, place[1]));
    return isForgotten ? [{ turn, text: { text, trained, isOpen: false } }] : [];
  }

  #placeIn(turn: number): [number, number] {
    const place = this.#place(this.messages, turn, this.#whole);
    if (place === null) throw this.#unknownPlace(turn);
    return place;
  }

  #byTurns(): MaskedText[] {
    const shared: MaskedText = { text: this.#whole, trained: [], isOpen: false };
    const own: MaskedText[] = [];
    for (const turn of this.#trained) {
      const answer = this.#answer(turn);
      const isLast = turn === this.messages.length - 1;
      if (this.#whole.startsWith(answer.text.slice(0, answer.end))) {
        const tail = isLast ? answer.tail : this.#sharedTail(answer);
        shared.trained.push([answer.start, answer.end + tail.length]);
        shared.isOpen = isLast && this.#isOpen(answer.tail);
      } else {
        const text = answer.text.slice(0, answer.end) + answer.tail;
        const trained: [number, number][] = [[answer.start, text.length]];
        own.push({ text, trained, isOpen: this.#isOpen(answer.tail) });
      }
    }
    return shared.trained.length > 0 ? [...own, shared] : own;
  }

  /** Whether no end of turn follows the answer. */
  #isOpen(tail: string): boolean {
    if (tail.trim() !== '') return false;
    return !Array.from(this.options.specialTokens).some((token) => tail.includes(token));
  }

  /** The turn in the conversation that ends with it, as it is when the model has just written it. */
  #answer(turn: number): Answer {
    const upTo = this.messages.slice(0, turn + 1);
    const isLast = upTo.length === this.messages.length;
    const text = isLast ? this.#whole : this.#tryRender(upTo, false);
    const place = text === null ? null : this.#place(upTo, turn, text);
    if (text === null || place === null) throw this.#unknownPlace(turn);
    const [start, end] = place;
    if (this.messages[turn]?.role !== 'assistant') {
      return { text, start, end, tail: this.#withoutHeader(text.slice(end), '') };
    }
    const { begins, header } = this.#beginning(turn, text, start, end);
    const tail = this.#withoutHeader(text.slice(end), header);
    return this.#withThoughts(turn, { text, start: begins, end, tail });
  }

  /**
   * Some templates leave the thoughts of every answer out, also of the one that is to be learnt. The model writes
   * them after the generation prompt all the same, and so they are trained there.
   */
  #withThoughts(turn: number, answer: Answer): Answer {
    const { content = null, ...fields }: Partial<ChatMessage> = this.messages[turn] ?? {};
    const given = fields['reasoning_content'] ?? fields['thinking'] ?? fields['reasoning'];
    const isThinking = typeof given === 'string' || content?.includes('</think>') === true;
    // Calls are in the words of the template alone.
    if (content === null || !isThinking || fields['tool_calls'] !== undefined) return answer;
    const prompt = this.#tryRender(this.messages.slice(0, turn), true);
    if (prompt === null) return answer;
    const opening = /<think>\s*$/.exec(prompt)?.[0] ?? '';
    const isGiven = typeof given === 'string' && opening !== '' && !content.includes('</think>');
    const words = isGiven ? `${given.trim()}\n</think>\n\n${content}` : content;
    const told = answer.text.slice(Math.max(0, answer.start - PREFILLED), answer.end);
    if (!words.includes('</think>') || holdsWords(told, isGiven ? given : words)) return answer;
    const written = opening === '' ? words : words.replace(/^\s*<think>\s*/, '');
    const text = `${prompt}${written}${answer.tail}`;
    return { ...answer, text, start: prompt.length, end: text.length - answer.tail.length };
  }

  #unknownPlace(turn: number): UserError {
    return new UserError(
      `turn ${turn + 1}: the model's chat template shows its words in no single place, so what to train cannot be told: use prompt/completion lines`,
    );
  }

  #tryRender(messages: readonly ChatMessage[], addGenerationPrompt: boolean): string | null {
    try {
      return this.template.render(messages, addGenerationPrompt, this.context);
    } catch (cause) {
      if (cause instanceof UserError) return null;
      throw cause;
    }
  }

  /** Where the words of a turn stand in `text`: what changes when others take their place. */
  #place(messages: readonly ChatMessage[], turn: number, text: string): [number, number] | null {
    const mark = FREE.find((character) => !text.includes(character));
    const message = messages[turn];
    if (mark === undefined || message === undefined) return null;
    for (const other of substitutes(message, `${mark}-${mark}`)) {
      const changed = this.#tryRender(messages.with(turn, other), false);
      if (changed === null || !changed.includes(mark)) continue;
      const start = commonStart(text, changed);
      const room = Math.min(text.length, changed.length) - start;
      return [start, text.length - commonEnd(text, changed, room)];
    }
    return null;
  }

  /**
   * Where the assistant begins to write its turn: behind what the template puts there for it to go on from. A block
   * of thoughts that the template itself left empty is no part of the answer.
   */
  #beginning(
    turn: number,
    text: string,
    start: number,
    end: number,
  ): { begins: number; header: string } {
    const before = this.messages.slice(0, turn);
    const prompt = this.#tryRender(before, true);
    if (prompt === null) return { begins: start, header: '' };
    const rest = this.#tryRender(before, false) ?? '';
    const added = prompt.slice(commonStart(prompt, rest));
    let begins = this.#afterToken(text, start);
    // Without a generation prompt the role before the answer is the template's, as it is before any other turn; or
    // the prompt ends in it all the same.
    const isBegun = added !== '' || text.slice(prompt.length, start).trim() === '';
    const header = added === '' && isBegun ? this.#afterWords(prompt, before.at(-1)) : added;
    if (text.startsWith(prompt) && isBegun) {
      begins = Math.min(prompt.length, end);
    } else if (added !== '') {
      const at = text.lastIndexOf(header, start - header.length);
      const after = at + header.length;
      if (at !== -1 && after <= start && start - after <= HEADER_GAP_MAX) begins = after;
    }
    const isEmpty = EMPTY_THOUGHTS.test(text.slice(begins, start));
    return { begins: isEmpty && !this.options.emptyThoughts ? start : begins, header };
  }

  /** What stands in `prompt` behind the words of its last message. */
  #afterWords(prompt: string, message: ChatMessage | undefined): string {
    const words = message?.content?.trim() ?? '';
    const at = words === '' ? -1 : prompt.lastIndexOf(words);
    return at === -1 ? '' : prompt.slice(at + words.length);
  }

  /** Spaces between a special token, such as [/INST], and the words behind it are the assistant's. */
  #afterToken(text: string, start: number): number {
    const at = start - (/ *$/.exec(text.slice(Math.max(0, start - 8), start))?.[0].length ?? 0);
    const ends = Array.from(this.options.specialTokens).some(
      (token) => token !== '' && text.endsWith(token, at),
    );
    return ends ? at : start;
  }

  /** `tail` up to where the header of another answer begins, which some templates always add. */
  #withoutHeader(tail: string, header: string): string {
    const name = header.trim();
    const at = name.length < 2 ? -1 : tail.indexOf(name);
    return at === -1 ? tail : tail.slice(0, at);
  }

  /** What follows the answer in the whole conversation and does not belong to the next turn. */
  #sharedTail({ end, tail }: Answer): string {
    const after = this.#whole.slice(end);
    let length = commonStart(after, tail);
    const tokens = Array.from(this.options.specialTokens);
    // Not the first half of a token of either text: "<|" is in "<|end|>" and in "<|user|>".
    for (let at = 0; at < length; at++) {
      const cut = tokens.some(
        (token) =>
          at + token.length > length && (after.startsWith(token, at) || tail.startsWith(token, at)),
      );
      if (cut) length = at;
    }
    if (length > 0) return after.slice(0, length);
    // An end of turn that is another one at the end of the conversation, with the next header behind it.
    const ends = tokens.filter((token) => token !== '' && after.startsWith(token));
    const ended = ends.find((one) => tokens.some((next) => after.startsWith(next, one.length)));
    return ended ?? '';
  }
}

/** The message with `mark` for its words, the simplest first: some templates take no conversation without its calls. */
function substitutes(message: ChatMessage, mark: string): ChatMessage[] {
  const { role, content } = message;
  const spoken = ['tool_calls', 'reasoning_content', 'reasoning', 'thinking'];
  const bare = Object.fromEntries(
    Object.entries(message).filter(([field]) => !spoken.includes(field)),
  );
  const calls = message['tool_calls'];
  const marked: Record<string, unknown> = { ...message };
  for (const field of ['reasoning_content', 'reasoning', 'thinking']) {
    if (typeof marked[field] === 'string') marked[field] = mark;
  }
  if (Array.isArray(calls)) {
    const made = { name: mark, arguments: { [mark]: mark } };
    marked['tool_calls'] = calls.map((call: unknown) => ({
      ...(typeof call === 'object' ? call : {}),
      function: made,
    }));
  }
  return [
    { ...bare, role, content: mark },
    { ...marked, role, content: content === null || content === '' ? content : mark },
  ];
}

function isShared([start, end]: Span, [from, to]: Span): boolean {
  return start < Math.max(to, from + 1) && from < end;
}

/** The spans that hold something and have nothing in common with `places`. */
function outside(spans: readonly Span[], places: readonly Span[]): Span[] {
  return spans.filter(
    (span) => span[1] > span[0] && !places.some((place) => isShared(span, place)),
  );
}

function commonStart(a: string, b: string): number {
  const most = Math.min(a.length, b.length);
  let at = 0;
  while (at < most && a.charCodeAt(at) === b.charCodeAt(at)) at++;
  return at;
}

function commonEnd(a: string, b: string, most: number): number {
  let count = 0;
  while (
    count < most &&
    a.charCodeAt(a.length - 1 - count) === b.charCodeAt(b.length - 1 - count)
  ) {
    count++;
  }
  return count;
}
