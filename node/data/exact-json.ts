/**
 * JSON as Python reads it: 1.0 is not 1, whole numbers have any size, and the keys of an object stay in their order.
 * JSON.parse does otherwise, and a template that writes the arguments of a call would write others than were given.
 */

/** A number that JavaScript would write in another way than it is written in the file. */
export class ExactNumber {
  constructor(readonly text: string) {}

  get isWhole(): boolean {
    return /^-?\d+$/.test(this.text);
  }

  /** For code that needs a number, such as weights of turns. */
  valueOf(): number {
    return Number(this.text);
  }

  /** JSON.stringify is for sizes alone. */
  toJSON(): number {
    return Number(this.text);
  }
}

/** What may be read in another way: such numbers, and keys that JavaScript puts first. */
const MAY_DIFFER = /[\d.][eE.]|\d{16}|-0|"\d+"\s*:|"__proto__"/;

/** As JSON.parse, but for such numbers, which are ExactNumber, and objects with such keys, which are Map. Throws SyntaxError. */
export function parseExactly(text: string): unknown {
  const parsed: unknown = JSON.parse(text);
  return MAY_DIFFER.test(text) ? new Reader(text).value() : parsed;
}

const STRING = /"(?:[^"\\]|\\.)*"/sy;
const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/y;
const KEY_OUT_OF_ORDER = /^(\d+|__proto__)$/;

/** Of a text that is known to be JSON. */
class Reader {
  #at = 0;

  constructor(readonly text: string) {}

  value(): unknown {
    this.#skip();
    switch (this.text[this.#at]) {
      case '{':
        return this.#object();
      case '[':
        return this.#list();
      case '"':
        return JSON.parse(this.#take(STRING)) as string;
      case 't':
        return this.#word('true', true);
      case 'f':
        return this.#word('false', false);
      case 'n':
        return this.#word('null', null);
      default:
        return numberOf(this.#take(NUMBER));
    }
  }

  #skip(): void {
    while (' \n\r\t'.includes(this.text[this.#at] ?? '.')) this.#at++;
  }

  #take(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.text)?.[0];
    if (found === undefined) throw new SyntaxError('not JSON');
    this.#at += found.length;
    return found;
  }

  #word<T>(word: string, value: T): T {
    this.#at += word.length;
    return value;
  }

  /** Whether another item follows; past the comma, or past the end. */
  #goesOn(close: string): boolean {
    this.#skip();
    const character = this.text[this.#at];
    if (character !== close && character !== ',') return true;
    this.#at++;
    return character === ',';
  }

  #list(): unknown[] {
    const items: unknown[] = [];
    this.#at++;
    while (this.#goesOn(']')) items.push(this.value());
    return items;
  }

  #object(): unknown {
    const entries: [string, unknown][] = [];
    this.#at++;
    while (this.#goesOn('}')) {
      this.#skip();
      const key = JSON.parse(this.#take(STRING)) as string;
      this.#skip();
      this.#at++; // The colon.
      entries.push([key, this.value()]);
    }
    const isOutOfOrder = entries.some(([key]) => KEY_OUT_OF_ORDER.test(key));
    return isOutOfOrder ? new Map(entries) : Object.fromEntries(entries);
  }
}

function numberOf(text: string): number | ExactNumber {
  const value = Number(text);
  const isWhole = /^-?\d+$/.test(text);
  // A float whose value is no whole number is one in JavaScript too.
  return Number.isSafeInteger(value) === isWhole ? value : new ExactNumber(text);
}
