/**
 * Chat templates as Transformers runs them: Jinja with Python's values (node/data/jinja/), within bounds, and with
 * what stands between {% generation %} tags told apart. `@huggingface/jinja` writes other text than Python for more than half of the
 * expressions in test/reference/jinja.json.
 */
import { randomBytes } from 'node:crypto';
import { startRendering } from './jinja/budget.js';
import { globals, valueOf } from './jinja/functions.js';
import { Interpreter } from './jinja/interpreter.js';
import { parseTemplate } from './jinja/parser.js';
import { json } from './jinja/printing.js';
import { Scope } from './jinja/scope.js';
import type { Statement } from './jinja/syntax.js';
import type { Value } from './jinja/values.js';

/** A rendered text, and what stands between {% generation %} and {% endgeneration %} in it. */
export interface Rendering {
  text: string;
  /** Null where the template has no such tags. */
  generated: [start: number, end: number][] | null;
}

export interface JinjaTemplate {
  /** Throws what the template throws, JinjaError for what is no valid use of a value, and TooMuchError. */
  render(variables: Readonly<Record<string, unknown>>): Rendering;
}

/** No text of anybody's: a character that Unicode keeps free, and a number that nobody can know. */
const MARK = `\ufdd0${randomBytes(8).toString('hex')}`;
const MARKS = { begin: `${MARK}b\ufdd0`, end: `${MARK}e\ufdd0` };

/**
 * `now`: what strftime_now tells. Throws JinjaError for what is no valid template, and TooMuchError. withTimeLimit is the
 * caller's duty, for each rendering too.
 */
export function compileJinja(source: string, now: () => Date = () => new Date()): JinjaTemplate {
  startRendering();
  const program = parseTemplate(source);
  const isMarked = hasGeneration(program);
  return {
    render(variables) {
      startRendering();
      const given = Object.entries(variables).map(([name, value]): [string, Value] => [
        name,
        valueOf(value),
      ]);
      const scope = new Scope(new Scope(null, globals(now)), given);
      const text = new Interpreter(MARKS).run(program, scope);
      return isMarked ? withoutMarks(text) : { text, generated: null };
    },
  };
}

/** A value as Python's json.dumps writes it, letters of all scripts as they are. */
export function jsonOf(value: unknown): string {
  startRendering();
  return json(valueOf(value));
}

/** Whether a statement at any depth marks what is generated. */
function hasGeneration(program: readonly Statement[]): boolean {
  const left: unknown[] = [...program];
  for (let node = left.pop(); node !== undefined; node = left.pop()) {
    if (typeof node !== 'object' || node === null) continue;
    if ('type' in node && node.type === 'generation') return true;
    left.push(...(Object.values(node) as unknown[]).filter((value) => value !== undefined));
  }
  return false;
}

function withoutMarks(marked: string): Rendering {
  const generated: [number, number][] = [];
  let text = '';
  let start = 0;
  for (const part of marked.split(/(\ufdd0[0-9a-f]{16}[be]\ufdd0)/)) {
    if (part === MARKS.begin) start = text.length;
    else if (part === MARKS.end) generated.push([start, text.length]);
    else text += part;
  }
  return { text, generated };
}
