/**
 * A Jinja template of a model, run within bounds: steps, text and list items that it makes, beside the time. The
 * interpreter is Hugging Face's own; here it is counted what each of its steps makes.
 */
import {
  loadBounded,
  startCounting,
  TEXT_CHARACTERS_MAX,
  TooMuchError,
} from './bounded-library.js';

/**
 * The part of @huggingface/jinja that is used here. The package's own declarations import without file extensions, which
 * NodeNext resolution does not find.
 */
interface Library {
  Template: new (source: string) => Template;
  Interpreter: { prototype: { evaluate: Evaluate } };
  Environment: { prototype: { set: (name: string, value: unknown) => unknown } };
}
interface Template {
  parsed: object;
  render(items: Record<string, unknown>): string;
}
/** A node of the syntax tree; undefined stands for an absent one. */
type Node = { type: string } | undefined;
type Evaluate = (node: Node, environment: unknown) => { type: string; value: unknown };

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

let loaded: Library | null = null;

/** A parsed template. */
export class BoundedTemplate {
  readonly #template: Template;

  /** Throws the library's error for what is not Jinja, and TooMuchError. */
  constructor(source: string) {
    this.#template = new (library().Template)(source);
    if (countNodes(this.#template.parsed) > NODES_MAX) {
      throw new TooMuchError(`has more than ${NODES_MAX} expressions and statements`);
    }
  }

  /** Throws TooMuchError, and the library's error when the template refuses what it is given. */
  render(items: Record<string, unknown>): string {
    startCounting();
    Object.assign(spent, { steps: 0, characters: 0, items: 0 });
    return this.#template.render(items);
  }
}

function library(): Library {
  if (loaded !== null) return loaded;
  const own = loadBounded('@huggingface/jinja') as Library;
  countSteps(own.Interpreter.prototype);
  boundRange(own.Environment.prototype);
  loaded = own;
  return own;
}

/** Counts what each step makes, in the library's copy that this file alone uses. */
function countSteps(interpreter: Library['Interpreter']['prototype']): void {
  const { evaluate } = interpreter;
  interpreter.evaluate = function counted(this: unknown, node, environment) {
    if (++spent.steps > STEPS_MAX) throw new TooMuchError(`takes more than ${STEPS_MAX} steps`);
    const made = evaluate.call(this, node, environment);
    if (isLookUp(node)) return made;
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

/** The library's own range() fills memory with 10 ** 9 numbers before anyone can stop it. */
function boundRange(environment: Library['Environment']['prototype']): void {
  const { set } = environment;
  environment.set = function declare(this: unknown, name, value) {
    return set.call(this, name, name === 'range' ? range : value);
  };
}

/** As Python's. */
function range(first: unknown, second?: unknown, third: unknown = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(stop) || !Number.isSafeInteger(third)) {
    throw new Error('range() takes whole numbers');
  }
  const [from, to, step] = [Number(start), Number(stop), Number(third)];
  if (step === 0) throw new Error('range() step must not be zero');
  const length = Math.max(0, Math.ceil((to - from) / step));
  if (length > RANGE_MAX)
    throw new TooMuchError(`asks for a range() of ${length} numbers, more than ${RANGE_MAX}`);
  return Array.from({ length }, (_, i) => from + i * step);
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
