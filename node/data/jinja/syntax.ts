/** The syntax tree of a chat template. */
import type { Value } from './values.js';

/** Arguments of a call, a filter or a test. */
export interface CallArguments {
  positional: Expression[];
  named: [name: string, value: Expression][];
  /** After * and **. */
  list: Expression | null;
  dict: Expression | null;
}

export type Expression =
  | { type: 'constant'; value: Value }
  | { type: 'name'; name: string }
  | { type: 'list' | 'tuple'; items: Expression[] }
  | { type: 'dict'; entries: [Expression, Expression][] }
  | { type: 'attribute'; of: Expression; name: string }
  | { type: 'item'; of: Expression; key: Expression }
  | { type: 'slice'; of: Expression; bounds: (Expression | null)[] }
  | { type: 'call'; callee: Expression; args: CallArguments }
  /** `of` is null for the body of a {% filter %} or {% set %} block. */
  | { type: 'filter'; of: Expression | null; name: string; args: CallArguments }
  | { type: 'test'; of: Expression; name: string; args: CallArguments }
  | { type: 'not'; of: Expression }
  | { type: 'sign'; of: Expression; isNegative: boolean }
  | { type: 'binary'; operator: string; left: Expression; right: Expression }
  | { type: 'and' | 'or'; left: Expression; right: Expression }
  | { type: 'concat'; parts: Expression[] }
  | { type: 'compare'; first: Expression; rest: [operator: string, right: Expression][] }
  | { type: 'condition'; test: Expression; then: Expression; else: Expression | null };

/** What a value is assigned to. */
export type Target =
  | { type: 'name'; name: string }
  | { type: 'attribute'; of: string; name: string }
  | { type: 'tuple'; items: Target[] };

export interface Parameters {
  names: string[];
  /** Of the last of them. */
  defaults: Expression[];
}

export type Statement =
  | { type: 'text'; text: string }
  | { type: 'print'; value: Expression }
  | { type: 'if'; branches: { test: Expression; body: Statement[] }[]; otherwise: Statement[] }
  | ForStatement
  | { type: 'set'; target: Target; value: Expression }
  | { type: 'setBlock'; target: Target; filter: Expression | null; body: Statement[] }
  | { type: 'macro'; name: string; parameters: Parameters; body: Statement[] }
  | { type: 'callBlock'; parameters: Parameters; call: Expression; body: Statement[] }
  | { type: 'filterBlock'; filter: Expression; body: Statement[] }
  | { type: 'with'; assignments: [Target, Expression][]; body: Statement[] }
  | { type: 'scope'; body: Statement[] }
  | { type: 'generation'; body: Statement[] }
  /** A statement that needs other templates: an error where it is reached. */
  | { type: 'refused'; name: string }
  | { type: 'break' | 'continue' };

export interface ForStatement {
  type: 'for';
  target: Target;
  of: Expression;
  test: Expression | null;
  isRecursive: boolean;
  body: Statement[];
  otherwise: Statement[];
}
