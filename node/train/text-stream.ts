/** Tokens to text as they come: whole characters only, and nothing of what a stop text cuts off. */
import type { Tokenizer } from '../data/tokenizer.js';

/** What a byte-level tokenizer shows for the first bytes of a character whose rest is not there yet. */
const REPLACEMENT = '\uFFFD';

/** The text of an answer while it grows. `onText` gets it in pieces, which together are `text`. */
export class TextStream {
  private readonly ids: number[] = [];
  private shown = '';
  /** Whether a stop text has come: what follows is not looked at. */
  stopped = false;

  /** `stops`: texts that end the answer and are no part of it, none of them empty. */
  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly stops: readonly string[],
    private readonly onText: (piece: string) => void,
  ) {}

  /** The tokens so far. */
  get tokens(): readonly number[] {
    return this.ids;
  }

  /** What was handed out so far. */
  get text(): string {
    return this.shown;
  }

  push(token: number): void {
    if (this.stopped) return;
    this.ids.push(token);
    const text = this.tokenizer.decodeContinuation(this.ids, true);
    if (text.endsWith(REPLACEMENT)) return;
    const end = firstOf(text, this.stops);
    this.stopped = end !== -1;
    this.show(this.stopped ? text.slice(0, end) : withoutBeginning(text, this.stops));
  }

  /** The answer is over: hands out what was held back. */
  end(): void {
    if (!this.stopped) this.show(this.tokenizer.decodeContinuation(this.ids, true));
  }

  private show(text: string): void {
    if (text.length <= this.shown.length) return;
    this.onText(text.slice(this.shown.length));
    this.shown = text;
  }
}

/** Where the first of `stops` begins in `text`, or -1. */
function firstOf(text: string, stops: readonly string[]): number {
  const found = stops.map((stop) => text.indexOf(stop)).filter((at) => at !== -1);
  return found.length === 0 ? -1 : Math.min(...found);
}

/** `text` without an end that could be the beginning of a stop. */
function withoutBeginning(text: string, stops: readonly string[]): string {
  let held = 0;
  for (const stop of stops) {
    for (let n = Math.min(stop.length - 1, text.length); n > held; n--) {
      if (text.endsWith(stop.slice(0, n))) held = n;
    }
  }
  return text.slice(0, text.length - held);
}
