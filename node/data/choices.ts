/** Items of multiple choice for eval: a context, what it may go on with, and which of that is right. */
import { UserError } from '../errors.js';
import { readJson } from './json.js';
import { placeText, type Row } from './records.js';
import { formatOf } from './sources.js';

/** Choices of one item: questions have four, cloze tests some tens. */
const CHOICES_MAX = 256;

const CONTEXTS = ['context', 'query', 'question', 'ctx', 'prompt'] as const;
const CHOICES = ['choices', 'endings'] as const;
const GOLD = ['gold', 'label', 'answer', 'answerKey'] as const;

export interface ChoiceItem {
  /** May be empty. */
  context: string;
  /** Two at least, none of them empty. */
  choices: string[];
  /** Index of the right one. */
  gold: number;
  line: number;
}

/** Whether the file's first row is such an item. Throws UserError as the reader of the file. */
export async function holdsChoices(file: string): Promise<boolean> {
  if (formatOf(file) !== 'json') return false;
  for await (const { fields } of readJson(file, (fault) => {
    throw fault;
  })) {
    return fieldOf(fields, CHOICES) !== null && fieldOf(fields, GOLD) !== null;
  }
  return false;
}

/** Throws UserError with file and line for a row that is no such item. */
export async function readChoices(file: string): Promise<ChoiceItem[]> {
  const items: ChoiceItem[] = [];
  const rows = readJson(file, (fault) => {
    throw fault;
  });
  for await (const row of rows) items.push(itemOf(row, placeText(file, row)));
  return items;
}

function fieldOf(fields: Row['fields'], names: readonly string[]): string | null {
  return names.find((name) => (fields[name] ?? null) !== null) ?? null;
}

function itemOf({ fields, line }: Row, where: string): ChoiceItem {
  const refuse = (what: string): never => {
    throw new UserError(
      `${where}: ${what}: an item of multiple choice has "context" (or "query", "question"), "choices" and "gold" (or "label", "answer")`,
    );
  };
  const named = (names: readonly string[]): string =>
    fieldOf(fields, names) ?? refuse(`has no "${names[0]}"`);
  const contextField = named(CONTEXTS);
  const context = fields[contextField];
  if (typeof context !== 'string') return refuse(`"${contextField}" is not text`);
  const field = named(CHOICES);
  const { texts, labels } = listOf(fields[field]) ?? refuse(`"${field}" is not a list of texts`);
  const isWrong = texts.length < 2 || texts.length > CHOICES_MAX || texts.includes('');
  if (isWrong) refuse(`"${field}" must have 2 to ${CHOICES_MAX} texts, none of them empty`);
  const goldField = named(GOLD);
  const found = goldOf(fields[goldField], texts, labels);
  if (found.length === 1 && found[0] !== undefined) {
    return { context, choices: texts, gold: found[0], line };
  }
  return refuse(
    found.length === 0
      ? `"${goldField}" names none of the ${texts.length} choices (their numbers begin at 0)`
      : `"${goldField}" may mean choice ${found.join(' or ')}; give its number, from 0, without quotes`,
  );
}

/** A list of texts, or as in ARC {"text": [...], "label": [...]}. */
function listOf(value: unknown): { texts: string[]; labels: unknown[] } | null {
  const isTexts = (list: unknown): list is string[] =>
    Array.isArray(list) && list.every((one) => typeof one === 'string');
  if (isTexts(value)) return { texts: value, labels: [] };
  if (typeof value !== 'object' || value === null || !('text' in value)) return null;
  const { text } = value;
  if (!isTexts(text)) return null;
  const labels = 'label' in value && Array.isArray(value.label) ? value.label : [];
  return { texts: text, labels };
}

/** The choices that a gold value may mean: by its number, its label, its text, or a letter. */
function goldOf(value: unknown, texts: readonly string[], labels: readonly unknown[]): number[] {
  const inside = (index: number): number[] =>
    Number.isInteger(index) && index >= 0 && index < texts.length ? [index] : [];
  if (typeof value === 'number') return inside(value);
  if (typeof value !== 'string') return [];
  if (labels.includes(value)) return inside(labels.indexOf(value));
  const byText = texts.flatMap((text, i) => (text === value ? [i] : []));
  const byNumber = /^\d+$/.test(value) ? inside(Number(value)) : [];
  const byLetter = /^[A-Z]$/.test(value) ? inside(value.charCodeAt(0) - 65) : [];
  return [...new Set([...byText, ...byNumber, ...byLetter])];
}
