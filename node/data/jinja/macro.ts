/** How the arguments of a macro become names in its body. */
import type { Scope } from './scope.js';
import type { Expression, Parameters, Statement } from './syntax.js';
import {
  Dict,
  JinjaError,
  orUndefined,
  Tuple,
  Undefined,
  type Arguments,
  type Value,
} from './values.js';

/** Names that a macro has beside its parameters, where its body reads them. */
const SPECIAL = ['varargs', 'kwargs', 'caller'];

/** Those of them that `body` reads. */
export function specialNames(body: readonly Statement[]): ReadonlySet<string> {
  const found = new Set<string>();
  const left: unknown[] = [...body];
  for (let node = left.pop(); node !== undefined; node = left.pop()) {
    if (typeof node !== 'object' || node === null) continue;
    if ('type' in node && node.type === 'name' && 'name' in node) {
      const { name } = node;
      if (typeof name === 'string' && SPECIAL.includes(name)) found.add(name);
    }
    left.push(...(Object.values(node) as unknown[]).filter((value) => value !== undefined));
  }
  return found;
}

/** Throws JinjaError for arguments that the macro does not take. `evaluate`: a default, in the scope of the body. */
export function bindParameters(
  {
    name,
    parameters: { names, defaults },
    special,
  }: { name: string; parameters: Parameters; special: ReadonlySet<string> },
  { positional, named }: Arguments,
  scope: Scope,
  evaluate: (usual: Expression) => Value,
): void {
  const rest = new Map(named);
  const missing: [string, Expression | undefined][] = [];
  for (const [i, parameter] of names.entries()) {
    const given = i < positional.length ? positional[i] : rest.get(parameter);
    if (i >= positional.length) rest.delete(parameter);
    if (given === undefined) {
      missing.push([parameter, defaults[i - (names.length - defaults.length)]]);
    } else scope.set(parameter, given);
  }
  for (const [parameter, usual] of missing) {
    const value = usual === undefined ? new Undefined(`parameter ${parameter}`) : evaluate(usual);
    scope.set(parameter, value);
  }
  const caller = rest.get('caller');
  if (special.has('caller') && !names.includes('caller')) {
    scope.set('caller', orUndefined(caller, 'caller'));
    rest.delete('caller');
  }
  if (special.has('varargs')) scope.set('varargs', new Tuple(positional.slice(names.length)));
  else if (positional.length > names.length) {
    throw new JinjaError(`macro ${name} takes at most ${names.length} arguments`);
  }
  if (special.has('kwargs')) scope.set('kwargs', new Dict(rest));
  else if (rest.size > 0) {
    throw new JinjaError(`macro ${name} takes no argument ${[...rest.keys()].join(', ')}`);
  }
}
