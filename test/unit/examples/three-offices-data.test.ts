/** The example's data: reproducible, consistent, and answerable from other lines of the same office. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';

import { officeExamples, officeFile, SEED } from '../../../examples/three-offices/make-data.js';
import { OFFICES } from '../../../examples/three-offices/offices.js';
import { DATA_DIRECTORY } from '../../../examples/three-offices/paths.js';

for (const office of OFFICES) {
  test(`the script reproduces the committed bytes of ${office.name}`, async () => {
    const committed = await readFile(join(DATA_DIRECTORY, `${office.name}.jsonl`), 'utf8');
    assert.equal(officeFile(office, SEED), committed);
  });

  test(`another seed gives ${office.name} other facts about the same subjects`, () => {
    const lines = new Map(officeExamples(office, SEED).map((e) => [e.prompt, e.completion]));
    const others = officeExamples(office, SEED + 1);
    assert.deepEqual(new Set(others.map((e) => e.prompt)), new Set(lines.keys()));
    assert.ok(others.some((e) => lines.get(e.prompt) !== e.completion));
  });

  test(`every question of ${office.name} is asked once and has one answer`, () => {
    const examples = officeExamples(office, SEED);
    assert.ok(examples.length >= 300 && examples.length <= 999);
    assert.equal(new Set(examples.map((e) => e.prompt)).size, examples.length);
  });

  test(`every fact of ${office.name} is stated in eight different words`, () => {
    for (const { subjects, answers, phrasings } of office.topics) {
      assert.equal(new Set(subjects).size, subjects.length);
      assert.equal(new Set(answers).size, answers.length);
      assert.equal(answers.length, subjects.length);
      assert.equal(new Set(phrasings).size, 8);
      for (const phrasing of phrasings) assert.equal(phrasing.split('{}').length, 2, phrasing);
    }
  });
}

test('no office holds an answer to a question of another', () => {
  const seen = new Map<string, string>();
  for (const office of OFFICES) {
    for (const { answers, phrasings, subjects } of office.topics) {
      for (const subject of subjects) {
        for (const phrasing of phrasings) {
          const prompt = phrasing.replace('{}', subject);
          assert.equal(seen.get(prompt) ?? office.name, office.name, prompt);
          seen.set(prompt, office.name);
        }
      }
      for (const answer of answers) {
        assert.equal(seen.get(answer) ?? office.name, office.name, answer);
        seen.set(answer, office.name);
      }
    }
  }
});
