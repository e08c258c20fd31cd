/** How much one rendering of a chat template may take: steps, characters and list items, beside the time. */
import { TEXT_CHARACTERS_MAX, TooMuchError } from '../text-budget.js';

/** Expressions and statements of a template: the longest, with tools, have 3000. */
export const NODES_MAX = 1 << 16;
/** Steps of one rendering: 256 messages take 30,000. */
const STEPS_MAX = 1 << 21;
/** Characters that all steps of one rendering make: a template builds its text in some ten layers. */
const CHARACTERS_MAX = 1 << 27;
/** List items that all steps of one rendering make. */
const ITEMS_MAX = 1 << 22;

/** What the rendering that runs now has made. */
const spent = { steps: 0, characters: 0, items: 0 };

/** Begins a rendering: what it makes is counted from here. */
export function startRendering(): void {
  Object.assign(spent, { steps: 0, characters: 0, items: 0 });
}

export function spendStep(): void {
  if (++spent.steps > STEPS_MAX) throw new TooMuchError(`takes more than ${STEPS_MAX} steps`);
}

/** A step is about to make a text of so many characters. */
export function spendCharacters(count: number): void {
  if (count > TEXT_CHARACTERS_MAX) {
    throw new TooMuchError(`makes more than ${TEXT_CHARACTERS_MAX} characters at once`);
  }
  spent.characters += count;
  if (spent.characters > CHARACTERS_MAX) {
    throw new TooMuchError(`makes more than ${CHARACTERS_MAX} characters`);
  }
}

/** A step is about to make a list of so many items. */
export function spendItems(count: number): void {
  spent.items += count;
  if (spent.items > ITEMS_MAX) throw new TooMuchError(`makes more than ${ITEMS_MAX} items`);
}

/** The pieces as one text. */
export function joined(pieces: readonly string[], separator = ''): string {
  const between = separator.length * Math.max(0, pieces.length - 1);
  spendCharacters(pieces.reduce((sum, piece) => sum + piece.length, between));
  return pieces.join(separator);
}

/** `text` as often as that. */
export function repeated(text: string, count: number): string {
  const times = Math.max(0, count);
  spendCharacters(text.length * times);
  return text.repeat(times);
}
