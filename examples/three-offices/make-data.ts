/**
 * Writes data/<office>.jsonl: every fact of offices.ts in every phrasing, paired and shuffled by a
 * fixed seed, so that the same bytes come out on every machine.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { Prng } from '../../protocol/prng.js';
import { OFFICES } from './offices.js';
import type { Office } from './offices/office.js';
import { DATA_DIRECTORY } from './paths.js';

/** Another seed pairs subjects with other answers: another world, as consistent as this one. */
export const SEED = 1;

/** One line of a data file. */
export interface Example {
  /** "Q: ...?\nA:" */
  prompt: string;
  /** " ...", one short sentence. */
  completion: string;
}

/** All lines of one office, in file order. The order and the facts depend on `seed` and the name. */
export function officeExamples(office: Office, seed: number): Example[] {
  const seedBytes = Uint8Array.of(seed & 255, (seed >> 8) & 255);
  const prng = new Prng(seedBytes, `three-offices/${office.name}`);
  const examples: Example[] = [];
  for (const { subjects, answers, phrasings } of office.topics) {
    if (answers.length !== subjects.length) {
      throw new RangeError(
        `${office.name}: ${subjects.length} subjects but ${answers.length} answers`,
      );
    }
    const order = prng.permutation(subjects.length);
    subjects.forEach((subject, i) => {
      const answer = answers[order[i] ?? 0] ?? '';
      for (const phrasing of phrasings) {
        const question = phrasing.replace('{}', subject);
        examples.push({ prompt: `Q: ${question}\nA:`, completion: ` ${answer}` });
      }
    });
  }
  const shuffled: Example[] = [];
  for (const index of prng.permutation(examples.length)) {
    const example = examples[index];
    if (example !== undefined) shuffled.push(example);
  }
  return shuffled;
}

/** The bytes of an office's data file: one JSON object per line, "\n" at the end of each. */
export function officeFile(office: Office, seed: number): string {
  return officeExamples(office, seed)
    .map((example) => `${JSON.stringify(example)}\n`)
    .join('');
}

async function main(): Promise<void> {
  const directory = process.argv[2] ?? DATA_DIRECTORY;
  await mkdir(directory, { recursive: true });
  for (const office of OFFICES) {
    const path = join(directory, `${office.name}.jsonl`);
    await writeFile(path, officeFile(office, SEED));
    console.log(`${path}: ${officeExamples(office, SEED).length} lines`);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main();
