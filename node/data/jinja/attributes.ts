/** What stands behind a dot or in brackets: attributes, methods and items, as Jinja's sandbox finds them. */
import { bind, wholeOf } from './arguments.js';
import { spendItems } from './budget.js';
import { textMethod } from './text-methods.js';
import {
  Callable,
  Dict,
  isEqual,
  isInteger,
  isList,
  itemsOf,
  JinjaError,
  Namespace,
  Range,
  Thing,
  Tuple,
  Undefined,
  View,
  type Arguments,
  type Value,
} from './values.js';

/** `value.name`: an attribute or method, else an item of that name. */
export function attributeOf(value: Value, name: string): Value {
  if (value instanceof Undefined) value.fail();
  const found = name.startsWith('_') ? undefined : ownAttribute(value, name);
  if (found !== undefined) return found;
  if (value instanceof Dict && !name.startsWith('__')) {
    const item = value.get(name);
    if (item !== undefined) return item;
  }
  return new Undefined(`attribute ${name}`);
}

/** `value[key]`: an item, else an attribute of that name. */
export function itemOf(value: Value, key: Value): Value {
  if (value instanceof Undefined) value.fail();
  if (value instanceof Dict && !(key instanceof Undefined) && itemsOf(key) === null) {
    const item = value.get(key);
    if (item !== undefined) return item;
  } else if (isInteger(key)) {
    const item = itemAt(value, Number(key));
    if (item !== undefined) return item;
  }
  if (typeof key === 'string' && !key.startsWith('_')) {
    const found = ownAttribute(value, key);
    if (found !== undefined) return found;
  }
  return new Undefined(typeof key === 'string' ? `item ${key}` : 'an item');
}

function itemAt(value: Value, place: number): Value | undefined {
  const items = value instanceof Range ? value.items() : itemsOf(value);
  if (items !== null) return items[place < 0 ? place + items.length : place];
  if (typeof value !== 'string') return undefined;
  // Most texts have no character of two units.
  if (!/[\ud800-\udbff]/.test(value)) return value.at(place);
  return Array.from(value).at(place);
}

/** `value[start:stop:step]`; Undefined for what has no slices. */
export function sliceOf(value: Value, bounds: readonly (Value | null)[]): Value {
  if (value instanceof Undefined) value.fail();
  const isText = typeof value === 'string';
  const items = isText
    ? Array.from(value)
    : value instanceof Range
      ? value.items()
      : itemsOf(value);
  if (items === null) return new Undefined('a slice');
  const [start = null, stop = null, by = null] = bounds.map((bound) =>
    bound === null ? null : wholeOf(bound, 0),
  );
  const step = by ?? 1;
  if (step === 0) throw new JinjaError('a slice takes a step other than 0');
  const { length } = items;
  const [low, high] = step > 0 ? [0, length] : [-1, length - 1];
  const within = (bound: number | null, usual: number): number => {
    if (bound === null) return usual;
    return Math.min(high, Math.max(low, bound < 0 ? bound + length : bound));
  };
  const [from, to] = [within(start, step > 0 ? low : high), within(stop, step > 0 ? high : low)];
  const taken: Value[] = [];
  for (let at = from; step > 0 ? at < to : at > to; at += step) taken.push(items[at] as Value);
  spendItems(taken.length);
  if (isText) return (taken as string[]).join('');
  return value instanceof Tuple ? new Tuple(taken) : taken;
}

function ownAttribute(value: Value, name: string): Value | undefined {
  if (value instanceof Namespace) return value.attributes.get(name);
  if (value instanceof Thing || value instanceof Callable) return value.attribute(name);
  const method = methodOf(value, name);
  return method && new Callable(method);
}

function methodOf(value: Value, name: string): ((args: Arguments) => Value) | undefined {
  if (typeof value === 'string') {
    return textMethod(value, name, (one, key, isItem) =>
      isItem ? itemOf(one, /^\d+$/.test(key) ? Number(key) : key) : attributeOf(one, key),
    );
  }
  if (value instanceof Dict) return dictMethod(value, name);
  if (isList(value) || value instanceof Tuple) return listMethod(value, name);
  return undefined;
}

/** Methods that change what they belong to are none here: they are not safe in Jinja's sandbox either. */
function dictMethod(dict: Dict, name: string): ((args: Arguments) => Value) | undefined {
  switch (name) {
    case 'get':
      return (args) => {
        const [key = null, usual = null] = bind(args, ['key', 'default']);
        const value = dict.get(key);
        return value === undefined ? usual : value;
      };
    case 'items':
    case 'keys':
    case 'values':
      return (args) => {
        bind(args, []);
        return new View(name, dict);
      };
    case 'copy':
      return () => new Dict(dict.entries());
    default:
      return undefined;
  }
}

function listMethod(
  list: readonly Value[] | Tuple,
  name: string,
): ((args: Arguments) => Value) | undefined {
  const items = itemsOf(list) ?? [];
  switch (name) {
    case 'index':
      return (args) => {
        const [sought = null] = bind(args, ['value']);
        const at = items.findIndex((item) => isEqual(item, sought));
        if (at === -1) throw new JinjaError('the value that is sought is not in the list');
        return at;
      };
    case 'count':
      return (args) => {
        const [sought = null] = bind(args, ['value']);
        return items.filter((item) => isEqual(item, sought)).length;
      };
    case 'copy':
      return isList(list) ? () => [...items] : undefined;
    default:
      return undefined;
  }
}
