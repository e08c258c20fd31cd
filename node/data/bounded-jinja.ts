/**
 * The interpreter of chat templates, @huggingface/jinja, run within bounds: steps, text and list items that a template
 * makes, beside the time. Here it is counted what each of its steps makes.
 */
import { loadBounded, startCountingAdded } from './bounded-library.js';
import { TEXT_CHARACTERS_MAX, TooMuchError } from './text-budget.js';

// -- The library, whose declarations cannot be resolved here: they import without file extensions -------------------

/** A value of the library, as far as it is used here. */
export interface Value {
  type: string;
  value: unknown;
  /** As the text of a template shows it. */
  toString(): string;
}
export interface Operation {
  operator: { value: string };
  left: unknown;
  right: unknown;
}
export interface Filter {
  value?: string;
  callee?: { value?: string };
}
/** The library's interpreter with the methods that its declarations leave out. */
export interface Inside {
  run(program: unknown): Value;
  evaluate(node: unknown, environment: Environment): Value;
  evaluateBlock(statements: readonly unknown[], environment: Environment): Value;
  evaluateBinaryExpression(node: Operation, environment: Environment): Value;
  applyFilter(operand: Value, filter: Filter, environment: Environment): Value;
  evaluateFor(node: { body: readonly unknown[] }, environment: Environment): Value;
}
export interface Environment {
  set(name: string, value: unknown): Value;
}
interface Library {
  Environment: new () => Environment;
  Interpreter: { new (environment: Environment): Inside; prototype: Inside };
  tokenize: (source: string, options: object) => unknown;
  parse: (tokens: unknown) => object;
}
/** A node of the syntax tree; undefined stands for an absent one. */
type Node = { type: string } | undefined;

/** Expressions and statements of a template: the longest, with tools, have 3000. */
export const NODES_MAX = 1 << 16;
/** Steps of one rendering: 256 messages take 30,000. */
export const STEPS_MAX = 1 << 21;
/** Characters that all steps of one rendering make: a template builds its text in some ten layers. */
export const CHARACTERS_MAX = 1 << 27;
/** List items that all steps of one rendering make. */
export const ITEMS_MAX = 1 << 22;
/** Numbers of one range(), as in Jinja's own sandbox. */
export const RANGE_MAX = 100_000;

/** What the rendering that runs now has made. */
const spent = { steps: 0, characters: 0, items: 0 };

const loaded = loadBounded('@huggingface/jinja');
const library = loaded.exports as Library;
countSteps(library.Interpreter.prototype);

export const { Environment, Interpreter } = library;

/** Throws the library's error for what is not Jinja, and TooMuchError. */
export function parseTemplate(source: string): object {
  const { parse, tokenize } = library;
  const program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
  if (countNodes(program) <= NODES_MAX) return program;
  throw new TooMuchError(`has more than ${NODES_MAX} expressions and statements`);
}

/** Begins a rendering: what it makes is counted from here. */
export function startRendering(): void {
  startCountingAdded();
  Object.assign(spent, { steps: 0, characters: 0, items: 0 });
}

/** `value` with its lists as lists of the library's context, whose methods are bounded. */
export function owned(value: unknown): unknown {
  if (Array.isArray(value)) return loaded.listOf(value.map(owned));
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, owned(item)]));
}

/** Counts what each step makes, in the library's copy that this file alone loads. */
function countSteps(interpreter: Inside): void {
  const { evaluate } = interpreter;
  interpreter.evaluate = function counted(this: Inside, node, environment) {
    if (++spent.steps > STEPS_MAX) throw new TooMuchError(`takes more than ${STEPS_MAX} steps`);
    const made = evaluate.call(this, node, environment);
    if (isLookUp(node as Node)) return made;
    if (typeof made.value === 'string') spend('characters', made.value.length);
    else if (Array.isArray(made.value)) spend('items', made.value.length);
    else if (isObject(made.value) && 'size' in made.value) spend('items', Number(made.value.size));
    return made;
  };
}

function spend(kind: 'characters' | 'items', size: number): void {
  const [sizeMax, sumMax] =
    kind === 'characters' ? [TEXT_CHARACTERS_MAX, CHARACTERS_MAX] : [ITEMS_MAX, ITEMS_MAX];
  if (size > sizeMax) throw new TooMuchError(`makes more than ${sizeMax} ${kind} at once`);
  spent[kind] += size;
  if (spent[kind] > sumMax) throw new TooMuchError(`makes more than ${sumMax} ${kind}`);
}

/** Whether a step only finds what is there: the content of a message is not copied each time it is named. */
function isLookUp(node: Node): boolean {
  if (node === undefined) return true;
  if (node.type === 'Identifier' || node.type === 'StringLiteral') return true;
  if (node.type !== 'MemberExpression' || !('property' in node)) return false;
  const { property } = node;
  return !(isObject(property) && 'type' in property && property.type === 'SliceExpression');
}

/** As Python's: the library's own fills memory with 10 ** 9 numbers before anyone can stop it. */
export function range(first: unknown, second?: unknown, third: unknown = 1): unknown[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(stop) || !Number.isSafeInteger(third)) {
    throw new Error('range() takes whole numbers');
  }
  const [from, to, step] = [Number(start), Number(stop), Number(third)];
  if (step === 0) throw new Error('range() step must not be zero');
  const length = Math.max(0, Math.ceil((to - from) / step));
  if (length > RANGE_MAX)
    throw new TooMuchError(`asks for a range() of ${length} numbers, more than ${RANGE_MAX}`);
  return loaded.listOf(Array.from({ length }, (_, i) => from + i * step));
}

/** Objects of the syntax tree, one that is met twice counted twice; stops beyond the bound. */
function countNodes(tree: object): number {
  const left: object[] = [tree];
  let nodes = 0;
  for (let node = left.pop(); node !== undefined && nodes <= NODES_MAX; node = left.pop()) {
    if ('type' in node) nodes++;
    const children: unknown[] =
      Symbol.iterator in node ? [...(node as Iterable<unknown>)] : Object.values(node);
    left.push(...children.filter(isObject));
  }
  return nodes;
}

/** Not `instanceof Object`: the library's objects are those of another context. */
function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
