/** One conversation in the terminal: messages, answers as they are written, and commands that begin with a slash. */
import type { Writable } from 'node:stream';
import type { ChatMessage } from '../data/chat-template.js';
import { fitConversation, type ConversationFormat } from '../data/conversation.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { errnoOf, replaceFile } from '../files.js';
import { UserError } from '../errors.js';
import { isFile } from '../model/weight-index.js';
import type { NextTokenModel } from '../model/next-token-model.js';
import { generate } from '../train/generate.js';
import type { AdapterWatch } from './adapter-watch.js';
import { LINE_CHARACTERS_MAX, type LineInput } from './line-input.js';
import { twoColumns, wideTerminal } from './two-columns.js';
import { seedOf } from './writing-options.js';
import { printable } from '../printable.js';
import { rawOutput } from './output.js';

/** Who answers: each keeps to what it said itself. */
export interface Voice {
  readonly name: string;
  model: NextTokenModel;
}

export interface ChatInit {
  /** One, or base and adapter. */
  readonly voices: readonly Voice[];
  readonly tokenizer: Tokenizer;
  readonly format: ConversationFormat;
  readonly ends: readonly number[];
  readonly options: {
    readonly system: string | null;
    readonly maxTokens: number;
    readonly temperature: number;
    readonly topP: number;
    readonly seed: string;
  };
  /** The conversation. */
  readonly out: Writable;
  /** All else. */
  readonly notes: Writable;
  /** Whether a person watches `notes`. */
  readonly isTerminal: boolean;
  /** Whether a person types: else the answers stand alone on `out`, so that a script can use them. */
  readonly isTyped: boolean;
  /** What is in the swarm's adapter; null for another one. */
  readonly content: string | null;
  /** Null where the adapter is not a swarm's. */
  readonly watch: AdapterWatch | null;
  /** Takes the newest adapter and says what is in it. */
  readonly reload: () => Promise<string>;
}

/** A voice and its conversation, without the system message. */
interface Speaker {
  readonly voice: Voice;
  turns: ChatMessage[];
}

const HELP = `/reset         forget the conversation
/system TEXT   begin a new one with this system message; without TEXT, with none
/save FILE     write the conversation as one line of JSON lines with "messages"
/reload        take the newest adapter of the peer in --dir
/quit          end (also: end of input, or Ctrl-C twice)
Ctrl-C stops an answer. A message that begins with a slash: write two.
`;

export class ChatSession {
  private system: string | null;
  private speakers: Speaker[];
  /** Of the answer that is being written. */
  private answering: AbortController | null = null;
  private isWarned = false;
  private answers = 0;

  constructor(private readonly init: ChatInit) {
    this.system = init.options.system;
    this.speakers = init.voices.map((voice) => ({ voice, turns: [] }));
  }

  /** Resolves at the end of the input and after /quit; rejects with `signal.reason`. */
  async run(input: LineInput, signal: AbortSignal): Promise<void> {
    const { isTyped, content, format } = this.init;
    if (isTyped && content !== null) this.note(`adapter: ${content}`);
    if (isTyped) this.note(`${format.name}; /help lists the commands`);
    for (;;) {
      const line = await input.next('you> ', signal);
      if (line === null || line.trim() === '/quit') return;
      this.isWarned = false;
      if (line.trim() === '') continue;
      try {
        if (/^\/(?!\/)/.test(line)) await this.command(line);
        else await this.message(line.replace(/^\/\//, '/'), signal);
      } catch (error) {
        // One message or command that cannot be done is not the end of the conversation.
        if (!(error instanceof UserError)) throw error;
        this.note(error.message);
      }
    }
  }

  /** Stops the answer; when none is being written, the second time in a row calls `end`. */
  onCtrlC(end: () => void): void {
    if (this.answering !== null && !this.answering.signal.aborted) this.answering.abort();
    else if (this.isWarned) end();
    else {
      this.isWarned = true;
      this.note('Ctrl-C again, or /quit, ends the conversation');
    }
  }

  private async message(content: string, signal: AbortSignal): Promise<void> {
    if (content.length > LINE_CHARACTERS_MAX) {
      throw new UserError(
        `the message has ${content.length} characters, but may have ${LINE_CHARACTERS_MAX}: send less at a time`,
      );
    }
    const { voices, out } = this.init;
    const width = voices.length === 2 ? wideTerminal(out) : null;
    const answering = new AbortController();
    this.answering = answering;
    const stop = AbortSignal.any([signal, answering.signal]);
    try {
      const answers = [];
      for (const speaker of this.speakers) {
        if (stop.aborted) break;
        const { name } = speaker.voice;
        answers.push({ name, text: await this.answer(speaker, content, stop, width === null) });
      }
      const [first, second] = answers;
      if (width !== null && first && second) out.write(twoColumns([first, second], width));
    } finally {
      this.answering = null;
    }
    signal.throwIfAborted();
    this.answers += 1;
    if (await this.init.watch?.isNewer()) this.note('a newer adapter is there: /reload takes it');
  }

  /** What the speaker answers; a part of it where it is stopped, which the conversation then goes on from. */
  private async answer(
    speaker: Speaker,
    content: string,
    stop: AbortSignal,
    isShown: boolean,
  ): Promise<string> {
    const { tokenizer, format, ends, options, out, voices } = this.init;
    const { name, model } = speaker.voice;
    const tokensMax = Math.min(options.maxTokens, Math.floor(model.capacity / 2));
    const asked = [...speaker.turns, { role: 'user', content }];
    const fitted = fitConversation(format, this.withSystem(asked), model.capacity - tokensMax);
    if (fitted === null) {
      throw new UserError(
        `the message does not fit: of --context ${model.capacity} tokens ${tokensMax} are for the answer (--max-tokens)`,
      );
    }
    if (fitted.dropped > 0)
      this.note(`${name}: the oldest ${fitted.dropped} messages left, for want of room`);
    if (isShown && (this.init.isTyped || voices.length > 1)) out.write(`${name}> `);
    let text = '';
    const onText = (piece: string): void => {
      // An answer after "A:" begins with a space.
      const shown = text === '' ? piece.trimStart() : piece;
      text += shown;
      if (isShown) out.write(printable(shown));
    };
    const request = {
      prompt: fitted.ids,
      tokensMax,
      temperature: options.temperature,
      topP: options.topP,
      // The same for both voices, another for each answer.
      seed: seedOf(`${options.seed}/${this.answers}`),
      ends: [...ends, ...format.ends],
      stops: format.stops,
    };
    try {
      const { finish } = await generate(model, tokenizer, request, onText, stop);
      if (isShown) out.write('\n');
      if (finish === 'length') this.note(`cut after ${tokensMax} tokens: see --max-tokens`);
    } catch (error) {
      if (!stop.aborted) throw error;
      if (isShown) out.write('\n');
      this.note('stopped');
    }
    const kept = fitted.messages.filter(({ role }) => role !== 'system');
    speaker.turns = [...kept, { role: 'assistant', content: text.trimEnd() }];
    return text;
  }

  private withSystem(turns: readonly ChatMessage[]): ChatMessage[] {
    return this.system === null ? [...turns] : [{ role: 'system', content: this.system }, ...turns];
  }

  private async command(line: string): Promise<void> {
    const [name = '', ...words] = line.trim().split(/\s+/);
    const argument = words.join(' ');
    switch (name) {
      case '/help':
        this.init.notes.write(HELP);
        return;
      case '/system':
        this.system = argument === '' ? null : line.trim().slice(name.length).trim();
        this.reset();
        return;
      case '/reset':
        this.reset();
        return;
      case '/save':
        await this.save(argument);
        return;
      case '/reload':
        if (this.init.watch === null) throw new UserError('/reload is for the adapter of a peer');
        this.note(`adapter: ${await this.init.reload()}`);
        return;
      default:
        throw new UserError(`there is no command ${name}; /help lists those that are`);
    }
  }

  private reset(): void {
    for (const speaker of this.speakers) speaker.turns = [];
    this.note('a new conversation');
  }

  /** One line for each voice, as murmurate's own --data takes them. */
  private async save(file: string): Promise<void> {
    if (file === '') throw new UserError('/save needs the name of a file, like /save talk.jsonl');
    const lines = this.speakers.map(({ turns }) =>
      JSON.stringify({ messages: this.withSystem(turns) }),
    );
    if (await isFile(file)) throw new UserError(`${file} is there already: give another name`);
    try {
      await replaceFile(file, [`${lines.join('\n')}\n`], 0o600);
    } catch (cause) {
      const code = errnoOf(cause);
      if (code === null) throw cause;
      throw new UserError(`${file} cannot be written (${code}): give another name`);
    }
    this.note(`saved to ${file}`);
  }

  private note(text: string): void {
    const safe = printable(text);
    const line = this.init.isTerminal ? `\x1b[2m${safe}\x1b[0m\n` : `${safe}\n`;
    rawOutput(this.init.notes).write(line);
  }
}
