/**
 * The config file: YAML in which every key is an option, as its flag without the dashes. Nothing is interpreted here:
 * each value is kept as the text that stands there, with its line, for the option's own rules to read.
 */
import { stat } from 'node:fs/promises';
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type YAMLMap } from 'yaml';
import { EXIT_USAGE, UserError } from '../errors.js';
import { readBoundedFile } from '../json-file.js';
import { INVITE_PREFIX } from '../../protocol/invite.js';
import { exposure } from '../private-file.js';

/** Looked for in the working directory where none is named. */
export const CONFIG_FILE = 'murmurate.yaml';

/** All options with a comment to each take 10 KB. */
const BYTES_MAX = 256 * 1024;

/** One key with its value or values. */
export interface Setting {
  key: string;
  texts: readonly string[];
  /** From 1. */
  line: number;
}

export interface ConfigFile {
  /** As it was named. */
  path: string;
  /** What stands at the left margin. */
  settings: readonly Setting[];
  /** What stands under the name of a verb. */
  sections: readonly { verb: string; line: number; settings: readonly Setting[] }[];
}

/**
 * Throws UserError: missing, unreadable or too long, no YAML, not of this form, or holding an invite that others
 * than its owner may read.
 */
export async function readConfigFile(path: string): Promise<ConfigFile> {
  const bytes = await readBoundedFile(path, BYTES_MAX, 'the config file');
  const text = new TextDecoder().decode(bytes);
  await checkSecrecy(path, text);
  return parseConfigFile(text, path);
}

/** As readConfigFile, from its text. */
export function parseConfigFile(text: string, path: string): ConfigFile {
  const lineCounter = new LineCounter();
  // "failsafe" leaves every value the text that it is: 1e-3 and no are read by the rules of the option.
  const document = parseDocument(text, { schema: 'failsafe', lineCounter, prettyErrors: false });
  const [fault] = [...document.errors, ...document.warnings];
  if (fault) {
    const { line } = lineCounter.linePos(fault.pos[0]);
    throw fileError(path, line, `${fault.message.replaceAll(/\s+/g, ' ')}; see "murmurate init"`);
  }
  const reader = new Reader(path, lineCounter);
  const { contents } = document;
  const isEmpty = contents === null || (isScalar(contents) && contents.value === '');
  if (isEmpty) return { path, settings: [], sections: [] };
  if (!isMap(contents)) throw fileError(path, 1, 'is no list of settings like "epochs: 30"');
  return { path, ...reader.read(contents) };
}

/** A sentence that names file and line. */
export function fileError(path: string, line: number, words: string): UserError {
  return new UserError(`${path}:${line}: ${words}`, EXIT_USAGE);
}

class Reader {
  constructor(
    private readonly path: string,
    private readonly lineCounter: LineCounter,
  ) {}

  read(map: YAMLMap): Pick<ConfigFile, 'settings' | 'sections'> {
    const settings: Setting[] = [];
    const sections: { verb: string; line: number; settings: Setting[] }[] = [];
    for (const { key, value } of map.items) {
      const line = this.lineOf(key);
      const name = this.textOf(key, line, 'a key');
      if (!isMap(value)) settings.push({ key: name, texts: this.textsOf(name, value, line), line });
      else {
        const inner = this.read(value);
        const [nested] = inner.sections;
        if (nested)
          throw this.error(nested.line, `"${nested.verb}" has settings of its own inside`);
        sections.push({ verb: name, line, settings: [...inner.settings] });
      }
    }
    return { settings, sections };
  }

  private textsOf(key: string, value: unknown, line: number): string[] {
    if (!isSeq(value)) return [this.textOf(value, line, key)];
    return value.items.map((item) => this.textOf(item, this.lineOf(item) || line, key));
  }

  private textOf(node: unknown, line: number, what: string): string {
    if (isAlias(node)) throw this.error(line, `${what} refers to another value; write it out`);
    if (isScalar(node) && typeof node.value === 'string' && node.value !== '') return node.value;
    throw this.error(line, `${what} has no value; give one, or delete the line`);
  }

  private lineOf(node: unknown): number {
    const at = (node as { range?: [number, number, number] | null } | null)?.range?.[0];
    return at === undefined ? 0 : this.lineCounter.linePos(at).line;
  }

  private error(line: number, words: string): UserError {
    return fileError(this.path, line, words);
  }
}

/** An invite is worth a place in a run to whoever reads it. */
async function checkSecrecy(path: string, text: string): Promise<void> {
  if (!text.toLowerCase().includes(INVITE_PREFIX)) return;
  const problem = exposure(path, await stat(path), process.getuid?.() ?? null, 'an invite');
  if (problem !== null) throw new UserError(problem);
}
