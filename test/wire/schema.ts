/** Reads protocol/wire/messages.proto: its messages, their fields, and the bound that each field is annotated with. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import * as limits from '../../protocol/limits.js';

/** This file runs from test/wire/ and from dist/test/wire/. */
function repositoryRoot(): string {
  const here = path.resolve(import.meta.dirname, '../..');
  return path.basename(here) === 'dist' ? path.dirname(here) : here;
}

export const WIRE_FOLDER = path.join(repositoryRoot(), 'protocol/wire');

export const SCALARS = ['uint32', 'uint64', 'double', 'bool', 'bytes', 'string'] as const;
export type Scalar = (typeof SCALARS)[number];

/** Annotations: most elements, most bytes of a value, exact bytes of a value. */
export const BOUNDS = ['count', 'bytes', 'length'] as const;
export type BoundName = (typeof BOUNDS)[number];

export interface SchemaField {
  number: number;
  name: string;
  /** A scalar, or the name of a message. */
  type: string;
  isRepeated: boolean;
  /** Each bound as it is written: a number, or the name of one in protocol/limits.ts. */
  bounds: Partial<Record<BoundName, string>>;
}

export interface SchemaMessage {
  name: string;
  fields: SchemaField[];
}

const MESSAGE = /^message (\w+) \{(\})?$/;
const FIELD = /^(?:(repeated|optional) )?(\w+) (\w+) = (\d+)(?: \[(.+)\])?;$/;
const OPTION = /^\((\w+)\) = (\w+)$/;
/** Options that change what protons generates, and no bytes. */
const ENCODING_OPTIONS = ['packed = false', 'jstype = JS_NUMBER'];

/** @throws Error for a line that it cannot read: nothing in the schema may go unnoticed. */
export function parseSchema(text: string): SchemaMessage[] {
  const messages: SchemaMessage[] = [];
  let open: SchemaMessage | null = null;
  for (const line of text.split('\n').map((raw) => raw.replace(/\/\/.*$/, '').trim())) {
    if (line === '' || line === 'syntax = "proto3";') continue;
    const opened = MESSAGE.exec(line);
    if (line === '}') open = null;
    else if (opened && open === null) {
      const message = { name: opened[1]!, fields: [] };
      messages.push(message);
      if (opened[2] === undefined) open = message;
    } else {
      const field = FIELD.exec(line);
      if (!field || !open) throw new Error(`cannot read this line of the schema: ${line}`);
      open.fields.push(fieldOf(field));
    }
  }
  return messages;
}

function fieldOf([, rule, type = '', name = '', number, options]: RegExpExecArray): SchemaField {
  const bounds: SchemaField['bounds'] = {};
  for (const option of options?.split(', ') ?? []) {
    const [, bound = '', value = ''] = OPTION.exec(option) ?? [];
    if (ENCODING_OPTIONS.includes(option)) continue;
    if (!(BOUNDS as readonly string[]).includes(bound)) throw new Error(`${name}: ${option}?`);
    bounds[bound as BoundName] = value;
  }
  return { number: Number(number), name, type, isRepeated: rule === 'repeated', bounds };
}

/** The messages of the wire format, each after those that it contains. @throws Error where one contains itself. */
export function readSchema(): SchemaMessage[] {
  const messages = parseSchema(readFileSync(path.join(WIRE_FOLDER, 'messages.proto'), 'utf8'));
  const sorted: SchemaMessage[] = [];
  const visit = (message: SchemaMessage, outer: readonly string[]): void => {
    if (sorted.includes(message)) return;
    if (outer.includes(message.name)) throw new Error(`${message.name} contains itself`);
    for (const { type } of message.fields) {
      const inner = messages.find(({ name }) => name === type);
      if (inner) visit(inner, [...outer, message.name]);
      else if (!isScalar(type)) throw new Error(`${message.name} has a field of type ${type}`);
    }
    sorted.push(message);
  };
  for (const message of messages) visit(message, []);
  return sorted;
}

export function isScalar(type: string): type is Scalar {
  return (SCALARS as readonly string[]).includes(type);
}

/** What is wrong with the bounds of a field; null for nothing. */
export function faultOf({ number, type, isRepeated, bounds }: SchemaField): string | null {
  if (number > 31) return 'has a tag above 31, which the guard does not count';
  for (const value of Object.values(bounds)) {
    if (!(valueOf(value) > 0)) return `has a bound ${value} that protocol/limits.ts does not know`;
  }
  const sizes = [bounds.bytes, bounds.length].filter((bound) => bound !== undefined).length;
  const isSized = type === 'bytes' || type === 'string';
  if (isSized && sizes !== 1) return 'needs (bytes) or (length)';
  if (!isSized && sizes !== 0) return 'cannot have (bytes) or (length)';
  if (isRepeated && bounds.count === undefined) return 'needs (count)';
  return !isRepeated && bounds.count !== undefined ? 'cannot have (count)' : null;
}

/** NaN for what is neither a number nor the name of a limit. */
export function valueOf(bound: string): number {
  const named: Readonly<Record<string, number>> = limits;
  return Object.hasOwn(named, bound) ? named[bound]! : Number(bound);
}
