/** Filters that go through lists. */
import { bind, flagOf, textOf, wholeOf } from './arguments.js';
import { attributeOf, itemOf } from './attributes.js';
import { joined, spendItems } from './budget.js';
import type { Filter, FilterContext } from './filters.js';
import { binary } from './numbers.js';
import { str } from './printing.js';
import {
  compare,
  Dict,
  isEqual,
  isTrue,
  iterate,
  JinjaError,
  Lazy,
  lengthOf,
  orUndefined,
  Tuple,
  typeName,
  Undefined,
  type Arguments,
  type Value,
} from './values.js';

/** What a filter looks at in each item: the item itself, or an attribute like "function.name" or "0". */
function getter(attribute: Value | undefined, usual: Value = null): (item: Value) => Value {
  if (attribute === undefined || attribute === null) return (item) => item;
  const parts: Value[] =
    typeof attribute === 'string'
      ? attribute.split('.').map((part) => (/^\d+$/.test(part) ? Number(part) : part))
      : [attribute];
  return (item) =>
    parts.reduce<Value>((found, part) => {
      const next = itemOf(found, part);
      return usual !== null && next instanceof Undefined ? usual : next;
    }, item);
}

const withoutCase = (value: Value): Value =>
  typeof value === 'string' ? value.toLowerCase() : value;

function sortedBy(
  items: readonly Value[],
  keyOf: (item: Value) => readonly Value[],
  isReversed: boolean,
): Value[] {
  spendItems(items.length);
  const keyed = items.map((item) => ({ item, key: keyOf(item) }));
  const order = (a: readonly Value[], b: readonly Value[]): number => {
    const at = a.findIndex((one, i) => !isEqual(one, b[i] as Value));
    return at === -1 ? 0 : compare(a[at] as Value, b[at] as Value);
  };
  // Equal ones stay in their order, reversed or not.
  keyed.sort((a, b) => (isReversed ? -order(a.key, b.key) : order(a.key, b.key)));
  return keyed.map(({ item }) => item);
}

const sort: Filter = (value, args) => {
  const [reverse, caseSensitive, attribute] = bind(args, [
    ...['reverse', 'case_sensitive', 'attribute'],
  ]);
  const names = typeof attribute === 'string' ? attribute.split(',') : [attribute];
  const getters = names.map((name) => getter(name));
  const post = flagOf(caseSensitive) ? (one: Value): Value => one : withoutCase;
  return sortedBy(iterate(value), (item) => getters.map((get) => post(get(item))), flagOf(reverse));
};

const dictsort: Filter = (value, args) => {
  const [caseSensitive, by, reverse] = bind(args, ['case_sensitive', 'by', 'reverse']);
  if (!(value instanceof Dict)) throw new JinjaError(`${typeName(value)} is no dict to sort`);
  const place = ['key', 'value'].indexOf(textOf(by, 'key'));
  if (place === -1) throw new JinjaError('a dict is sorted by key or by value');
  const post = flagOf(caseSensitive) ? (one: Value): Value => one : withoutCase;
  const pairs = value.entries().map((pair) => new Tuple(pair));
  const keyOf = (pair: Value): Value[] => [post((pair as Tuple).items[place] ?? null)];
  return sortedBy(pairs, keyOf, flagOf(reverse));
};

const unique: Filter = (value, args) => {
  const [caseSensitive, attribute] = bind(args, ['case_sensitive', 'attribute']);
  const get = getter(attribute);
  const seen = new Dict();
  const kept = iterate(value).filter((item) => {
    const key = flagOf(caseSensitive) ? get(item) : withoutCase(get(item));
    if (seen.has(key)) return false;
    seen.set(key, true);
    return true;
  });
  return new Lazy(kept);
};

const extreme =
  (sign: number): Filter =>
  (value, args) => {
    const [caseSensitive, attribute] = bind(args, ['case_sensitive', 'attribute']);
    const get = getter(attribute);
    const keyOf = (item: Value): Value =>
      flagOf(caseSensitive) ? get(item) : withoutCase(get(item));
    const items = iterate(value);
    if (items.length === 0) return new Undefined('an item of an empty list');
    return items.reduce((best, item) =>
      sign * compare(keyOf(item), keyOf(best)) < 0 ? item : best,
    );
  };

const join: Filter = (value, args) => {
  const [separator, attribute] = bind(args, ['d', 'attribute']);
  const get = getter(attribute);
  return joined(
    iterate(value).map((item) => str(get(item))),
    separator === undefined ? '' : str(separator),
  );
};

const map: Filter = (value, { positional, named }, context) => {
  const items = iterate(value);
  if (positional.length === 0 && named.has('attribute')) {
    const [attribute, usual = null] = bind({ positional, named }, ['attribute', 'default']);
    return new Lazy(items.map(getter(attribute, usual)));
  }
  const [name, ...rest] = positional;
  const work = textOf(name ?? null, '');
  return new Lazy(items.map((item) => context.filter(work, item, { positional: rest, named })));
};

/** select, reject, selectattr and rejectattr. */
const chosen =
  (isKept: boolean, byAttribute: boolean): Filter =>
  (value, args, context) => {
    if (!isTrue(value)) return new Lazy([]);
    const [attribute, ...others] = args.positional;
    if (byAttribute && attribute === undefined) throw new JinjaError('takes an attribute');
    const get = byAttribute ? getter(attribute) : (item: Value): Value => item;
    const [name, ...rest] = byAttribute ? others : args.positional;
    const holds = (item: Value): boolean =>
      name === undefined ? isTrue(item) : tested(name, item, rest, args, context);
    return new Lazy(iterate(value).filter((item) => holds(get(item)) === isKept));
  };

function tested(
  name: Value,
  item: Value,
  positional: readonly Value[],
  { named }: Arguments,
  context: FilterContext,
): boolean {
  return context.test(textOf(name, ''), item, { positional, named });
}

const batch: Filter = (value, args) => {
  const [count, fill = null] = bind(args, ['linecount', 'fill_with']);
  const size = Math.max(1, wholeOf(count ?? null, 1));
  const items = iterate(value);
  spendItems(items.length);
  const parts = Array.from({ length: Math.ceil(items.length / size) }, (_, i) =>
    items.slice(i * size, (i + 1) * size),
  );
  const last = parts.at(-1);
  if (fill !== null && last !== undefined) {
    spendItems(size);
    parts[parts.length - 1] = [...last, ...new Array<Value>(size - last.length).fill(fill)];
  }
  return new Lazy(parts);
};

const slice: Filter = (value, args) => {
  const [count, fill = null] = bind(args, ['slices', 'fill_with']);
  const slices = wholeOf(count ?? null, 1);
  if (slices < 1) throw new JinjaError('slice takes a number above 0');
  const items = iterate(value);
  spendItems(slices + items.length);
  const [each, extra] = [Math.floor(items.length / slices), items.length % slices];
  let from = 0;
  const parts = Array.from({ length: slices }, (_, i) => {
    const to = from + each + (i < extra ? 1 : 0);
    const part = items.slice(from, to);
    from = to;
    return fill !== null && i >= extra ? [...part, fill] : part;
  });
  return new Lazy(parts);
};

const groupby: Filter = (value, args) => {
  const [attribute, usual = null, caseSensitive] = bind(args, [
    ...['attribute', 'default', 'case_sensitive'],
  ]);
  const get = getter(attribute ?? null, usual);
  const keyOf = (item: Value): Value =>
    flagOf(caseSensitive) ? get(item) : withoutCase(get(item));
  const groups: { key: Value; items: Value[] }[] = [];
  for (const item of sortedBy(iterate(value), (one) => [keyOf(one)], false)) {
    const key = keyOf(item);
    const last = groups.at(-1);
    if (last !== undefined && isEqual(last.key, key)) last.items.push(item);
    else groups.push({ key, items: [item] });
  }
  return groups.map(({ items }) => new Tuple([get(items[0] ?? null), items]));
};

function reversed(value: Value): Value {
  if (typeof value === 'string') return Array.from(value).reverse().join('');
  return new Lazy([...iterate(value)].reverse());
}

export const LIST_FILTERS: Readonly<Record<string, Filter>> = {
  length: (value) => lengthOf(value),
  count: (value) => lengthOf(value),
  list: (value) => {
    const items = iterate(value);
    spendItems(items.length);
    return [...items];
  },
  first: (value) => {
    // Of what can be gone through once the rest stays.
    const first = value instanceof Lazy ? value.next() : iterate(value)[0];
    return orUndefined(first, 'an item of an empty list');
  },
  last: (value) => {
    if (value instanceof Lazy) throw new JinjaError('a generator has no last item');
    return orUndefined(iterate(value).at(-1), 'an item of an empty list');
  },
  reverse: reversed,
  sum: (value, args) => {
    const [attribute, start = 0] = bind(args, ['attribute', 'start']);
    return iterate(value)
      .map(getter(attribute))
      .reduce<Value>((total, item) => binary('+', total, item), start);
  },
  items: (value) => {
    if (value instanceof Undefined) return new Lazy([]);
    if (!(value instanceof Dict)) throw new JinjaError(`${typeName(value)} is no dict`);
    return new Lazy(value.entries().map((pair) => new Tuple(pair)));
  },
  attr: (value, args) => {
    const [name] = bind(args, ['name']);
    const found = attributeOf(value, textOf(name ?? null, ''));
    // The filter sees attributes alone, and no items.
    return value instanceof Dict && value.get(name ?? null) === found
      ? new Undefined('attribute')
      : found;
  },
  min: extreme(1),
  max: extreme(-1),
  select: chosen(true, false),
  reject: chosen(false, false),
  selectattr: chosen(true, true),
  rejectattr: chosen(false, true),
  ...{ sort, dictsort, unique, join, map, batch, slice, groupby },
};
