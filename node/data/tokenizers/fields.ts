/** Reads fields of tokenizer.json, which nobody has checked yet, and says which of them is wrong. */

/** A part of tokenizer.json: its fields can have any value. */
export type Fields = Readonly<Record<string, unknown>>;

/** Sequences in sequences; real files have one level. */
const DEPTH_MAX = 8;

export class FormatError extends Error {
  override readonly name = 'FormatError';
}

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function fieldsOf(value: unknown, what: string): Fields {
  if (isFields(value)) return value;
  throw new FormatError(`${what} is not a JSON object`);
}

export function listOf(value: unknown, what: string): readonly unknown[] {
  if (Array.isArray(value)) return value as readonly unknown[];
  throw new FormatError(`${what} is not a list`);
}

/** `fallback` where the field is missing or null. */
export function textOf(fields: Fields, name: string, fallback?: string): string {
  const value = fields[name] ?? fallback;
  if (typeof value === 'string') return value;
  throw new FormatError(`"${name}" is not a text`);
}

export function switchOf(fields: Fields, name: string, fallback: boolean): boolean {
  const value = fields[name] ?? fallback;
  if (typeof value === 'boolean') return value;
  throw new FormatError(`"${name}" is not true or false`);
}

export function countOf(fields: Fields, name: string, fallback?: number): number {
  const value = fields[name] ?? fallback;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return value;
  throw new FormatError(`"${name}" is not a whole number`);
}

/** Ids by token, as `model.vocab` of BPE, WordPiece and WordLevel has them. */
export function vocabularyOf(value: unknown): Map<string, number> {
  const vocabulary = new Map<string, number>();
  for (const [token, id] of Object.entries(fieldsOf(value, 'the vocabulary'))) {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= 2 ** 24) {
      throw new FormatError(`the id of the token ${JSON.stringify(token)} is not a whole number`);
    }
    vocabulary.set(token, id);
  }
  return vocabulary;
}

/** The members of a "Sequence" under `name`. */
export function membersOf(fields: Fields, name: string, depth: number): Fields[] {
  if (depth >= DEPTH_MAX) throw new FormatError('sequences lie too deep in each other');
  return listOf(fields[name], `"${name}"`).map((member) => fieldsOf(member, `"${name}"`));
}
