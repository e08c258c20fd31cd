/**
 * Regular expressions that PEFT matches module names with (rank_pattern, alpha_pattern). They come with an adapter from
 * elsewhere, so they are run as a set of states in time proportional to pattern and name, never by backtracking.
 */

/** Characters of a pattern: a whole module name has fewer than 200. */
const PATTERN_LENGTH_MAX = 1_000;
/** Repetitions that a pattern may ask for, and states in all. */
const REPEAT_MAX = 100;
const STATES_MAX = 5_000;

type Node =
  | { kind: 'one'; test: (character: string) => boolean }
  | { kind: 'all'; parts: Node[] }
  | { kind: 'any'; options: Node[] }
  | { kind: 'repeat'; part: Node; min: number; max: number }
  | { kind: 'start' | 'end' };

type State =
  | { kind: 'one'; test: (character: string) => boolean; to: number }
  | { kind: 'split'; to: number[] }
  | { kind: 'start' | 'end'; to: number }
  | { kind: 'found' };

export type NameTest = (name: string) => boolean;

/**
 * Whether a module name matches as in PEFT: `(.*\.)?(pattern)$` from its beginning. Null for what this reader does not
 * know: look-around, back references, flags, a pattern that is too long or not one at all.
 */
export function namePattern(pattern: string): NameTest | null {
  if (pattern.length > PATTERN_LENGTH_MAX) return null;
  if (/^[\w.-]*$/.test(pattern)) return (name) => endsWith(name, pattern);
  try {
    const states: State[] = [{ kind: 'found' }];
    const begin = compile(new Parser(`(.*\\.)?(${pattern})$`).parse(), 0, states);
    return (name) => run(states, begin, name);
  } catch (error) {
    if (error instanceof UnknownPattern) return null;
    throw error;
  }
}

/** The common case: a name or its end, whose dots stand for any character. */
function endsWith(name: string, pattern: string): boolean {
  const from = name.length - pattern.length;
  if (from < 0 || (from > 0 && name[from - 1] !== '.')) return false;
  for (let i = 0; i < pattern.length; i++) {
    if (pattern[i] !== '.' && pattern[i] !== name[from + i]) return false;
  }
  return true;
}

class UnknownPattern extends Error {}

const CLASSES: Readonly<Record<string, RegExp>> = {
  d: /\d/,
  D: /\D/,
  w: /\w/,
  W: /\W/,
  s: /\s/,
  S: /\S/,
};

class Parser {
  #at = 0;

  constructor(readonly text: string) {}

  parse(): Node {
    const node = this.#options();
    if (this.#at < this.text.length) throw new UnknownPattern();
    return node;
  }

  #take(wanted: string): boolean {
    if (!this.text.startsWith(wanted, this.#at)) return false;
    this.#at += wanted.length;
    return true;
  }

  #options(): Node {
    const options = [this.#sequence()];
    while (this.#take('|')) options.push(this.#sequence());
    return { kind: 'any', options };
  }

  #sequence(): Node {
    const parts: Node[] = [];
    while (this.#at < this.text.length && !/[|)]/.test(this.text[this.#at] ?? '')) {
      parts.push(this.#repeated(this.#atom()));
    }
    return { kind: 'all', parts };
  }

  #repeated(part: Node): Node {
    const match = /^(?:[*+?]|\{(\d+)(,?)(\d*)\})/.exec(this.text.slice(this.#at));
    if (match === null) return part;
    this.#at += match[0].length;
    // Lazy matching finds the same names.
    this.#take('?');
    if (/^[*+{]/.test(this.text.slice(this.#at))) throw new UnknownPattern();
    const [sign, least, comma, most] = match;
    const min = least === undefined ? (sign === '+' ? 1 : 0) : Number(least);
    const isOpen = sign === '*' || sign === '+' || (comma === ',' && most === '');
    const max = isOpen ? Infinity : sign === '?' ? 1 : Number(most === '' ? least : most);
    if (min > REPEAT_MAX || (max > REPEAT_MAX && max !== Infinity) || max < min) {
      throw new UnknownPattern();
    }
    return { kind: 'repeat', part, min, max };
  }

  #atom(): Node {
    if (this.#take('(')) {
      if (!this.#take('?:') && this.text[this.#at] === '?') throw new UnknownPattern();
      const inner = this.#options();
      if (!this.#take(')')) throw new UnknownPattern();
      return inner;
    }
    if (this.#take('[')) return this.#set();
    if (this.#take('^')) return { kind: 'start' };
    if (this.#take('$')) return { kind: 'end' };
    if (this.#take('.')) return { kind: 'one', test: (one) => one !== '\n' };
    if (this.#take('\\')) return { kind: 'one', test: this.#escaped() };
    const character = this.text[this.#at++] ?? '';
    if (/[*+?{]/.test(character)) throw new UnknownPattern();
    return { kind: 'one', test: (one) => one === character };
  }

  /** What follows a backslash. */
  #escaped(): (character: string) => boolean {
    const character = this.text[this.#at++] ?? '';
    const known = CLASSES[character];
    if (known !== undefined) return (one) => known.test(one);
    // Letters and digits stand for something else: \b, \A, \1.
    if (character === '' || /[a-z0-9]/i.test(character)) throw new UnknownPattern();
    return (one) => one === character;
  }

  /** After its bracket: "a-z_]". */
  #set(): Node {
    const isNegated = this.#take('^');
    const tests: ((character: string) => boolean)[] = [];
    for (;;) {
      if (tests.length > 0 && this.#take(']')) break;
      if (this.#at >= this.text.length) throw new UnknownPattern();
      if (this.#take('\\')) {
        tests.push(this.#escaped());
        continue;
      }
      const first = this.text[this.#at++] ?? '';
      const range = /^-([^\]\\])/.exec(this.text.slice(this.#at));
      if (range !== null) this.#at += 2;
      const last = range?.[1] ?? first;
      tests.push((one) => first <= one && one <= last);
    }
    return { kind: 'one', test: (one) => tests.some((test) => test(one)) !== isNegated };
  }
}

/** Adds the states of `node`, after which `to` follows; returns the one to begin with. */
function compile(node: Node, to: number, states: State[]): number {
  const add = (state: State): number => {
    if (states.length >= STATES_MAX) throw new UnknownPattern();
    return states.push(state) - 1;
  };
  switch (node.kind) {
    case 'one':
      return add({ kind: 'one', test: node.test, to });
    case 'start':
    case 'end':
      return add({ kind: node.kind, to });
    case 'all':
      return node.parts.reduceRight((next, part) => compile(part, next, states), to);
    case 'any':
      return add({
        kind: 'split',
        to: node.options.map((option) => compile(option, to, states)),
      });
    case 'repeat': {
      let begin = to;
      if (node.max === Infinity) {
        const again: State = { kind: 'split', to: [to] };
        begin = add(again);
        again.to.push(compile(node.part, begin, states));
      }
      for (let i = node.min; i < node.max && node.max !== Infinity; i++) {
        begin = add({ kind: 'split', to: [compile(node.part, begin, states), to] });
      }
      for (let i = 0; i < node.min; i++) begin = compile(node.part, begin, states);
      return begin;
    }
  }
}

function run(states: readonly State[], begin: number, name: string): boolean {
  const reach = (from: readonly number[], at: number): Set<number> => {
    const reached = new Set<number>();
    const open = [...from];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      if (reached.has(next)) continue;
      reached.add(next);
      const state = states[next];
      if (state?.kind === 'split') open.push(...state.to);
      if (state?.kind === 'start' && at === 0) open.push(state.to);
      if (state?.kind === 'end' && at === name.length) open.push(state.to);
    }
    return reached;
  };
  let now = reach([begin], 0);
  for (let at = 0; at < name.length; at++) {
    const next: number[] = [];
    for (const i of now) {
      const state = states[i];
      if (state?.kind === 'one' && state.test(name[at] ?? '')) next.push(state.to);
    }
    now = reach(next, at + 1);
  }
  return now.has(0);
}
