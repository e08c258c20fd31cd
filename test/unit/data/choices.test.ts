import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { holdsChoices, readChoices, type ChoiceItem } from '../../../node/data/choices.js';
import { choiceRequests, scoreChoices } from '../../../node/train/choices.js';
import { Scratch, userError } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

async function fileOf(...rows: object[]): Promise<string> {
  const path = join(await scratch.directory(), 'a.jsonl');
  await writeFile(path, rows.map((row) => JSON.stringify(row)).join('\n'));
  return path;
}

async function goldOf(row: object): Promise<number | undefined> {
  return (await readChoices(await fileOf(row)))[0]?.gold;
}

describe('items of multiple choice', () => {
  it('are read in the forms that are in use', async () => {
    const rows = [
      { context: 'A', choices: ['x', 'y'], gold: 1 },
      { query: 'B', choices: ['x', 'y', 'z'], label: 'C' },
      { question: 'C', choices: { text: ['x', 'y'], label: ['1', '2'] }, answerKey: '2' },
      { ctx: '', endings: ['x', 'y', 'z', 'w'], label: '3' },
      { question: 'E', choices: ['no', 'yes'], answer: 'yes', id: 7 },
    ];
    const file = await fileOf(...rows);
    assert.equal(await holdsChoices(file), true);
    const items = await readChoices(file);
    assert.deepEqual(
      items.map(({ context, gold, line }) => [context, gold, line]),
      [
        ['A', 1, 1],
        ['B', 2, 2],
        ['C', 1, 3],
        ['', 3, 4],
        ['E', 1, 5],
      ],
    );
    assert.deepEqual(items[2]?.choices, ['x', 'y']);
    for (const other of [
      { text: 'a' },
      { choices: ['a', 'b'] },
      { prompt: 'a', completion: 'b' },
    ]) {
      assert.equal(await holdsChoices(await fileOf(other)), false);
    }
  });

  it('say which choice is right in one way, or are refused with their line', async () => {
    assert.equal(await goldOf({ context: 'a', choices: ['1', '2'], gold: 0 }), 0);
    const refuses = async (row: object, pattern: RegExp): Promise<void> => {
      const fine = { context: 'a', choices: ['x', 'y'], gold: 0 };
      await assert.rejects(readChoices(await fileOf(fine, row)), userError(pattern));
    };
    await refuses(
      { context: 'a', choices: ['1', '2', '0'], gold: '1' },
      /line 2: "gold" may mean choice 0 or 1; give its number, from 0, without quotes/,
    );
    await refuses({ context: 'a', choices: ['x', 'y'], gold: 2 }, /"gold" names none of the 2/);
    await refuses({ context: 'a', choices: ['x', 'y'], gold: [1] }, /"gold" names none of the 2/);
    await refuses({ context: 'a', choices: ['x'], gold: 0 }, /must have 2 to 256 texts/);
    await refuses({ context: 'a', choices: ['x', ''], gold: 0 }, /none of them empty/);
    await refuses({ context: 'a', choices: ['x', 3], gold: 0 }, /"choices" is not a list of texts/);
    await refuses({ context: 7, choices: ['x', 'y'], gold: 0 }, /"context" is not text/);
    await refuses({ choices: ['x', 'y'], gold: 0 }, /line 2: has no "context"/);
    await refuses({ text: 'a' }, /has no "context"/);
  });

  it('give white space at the end of a context to the choice, and begin with a token', () => {
    /** A token for each character. */
    const tokenizer = {
      encode: (text: string) => Array.from(text, (one) => one.charCodeAt(0)),
      ...{ prefixIds: [], eosTokenId: 2 },
    };
    const reader = { tokenizer, bosTokenId: 1, maxPositions: 5 };
    const item = (context: string): ChoiceItem[] => [
      { context, choices: ['ab', 'c'], gold: 0, line: 3 },
    ];
    const of = (context: string, choice = 0) =>
      choiceRequests(item(context), 'a.jsonl', reader)[choice];
    const codes = (text: string): number[] => tokenizer.encode(text);
    assert.deepEqual(of('q'), { item: 0, choice: 0, tokens: codes('q ab'), scored: 3 });
    assert.deepEqual(of('q '), { item: 0, choice: 0, tokens: codes('q  ab'), scored: 4 });
    assert.deepEqual(of('', 1), { item: 0, choice: 1, tokens: [1, ...codes(' c')], scored: 2 });
    // Cut from the left to the positions and the last target.
    assert.deepEqual(of('long'), { item: 0, choice: 0, tokens: codes('ong ab'), scored: 3 });
    assert.throws(
      () => choiceRequests(item('q      '), 'a.jsonl', reader),
      userError(/a.jsonl, line 3: choice 0 has 9 tokens, but must have 1 to 5/),
    );
  });

  it('are answered by the largest likelihood, and by the largest per character', () => {
    const items: ChoiceItem[] = [
      { context: '', choices: ['long one', 'x'], gold: 0, line: 1 },
      { context: '', choices: ['a', 'b'], gold: 0, line: 2 },
    ];
    const requests = items.flatMap(({ choices }, item) =>
      choices.map((_, choice) => ({ item, choice, tokens: [], scored: 1 })),
    );
    const { acc, accNorm } = scoreChoices(items, requests, [-8, -4, -1, -1]);
    assert.deepEqual([acc.share, accNorm.share], [0.5, 1]);
    assert.equal(acc.stderr, 0.5);
    assert.deepEqual([acc.low, acc.high], [0, 1]);
    const single = scoreChoices(items.slice(0, 1), requests.slice(0, 2), [-8, -4]);
    assert.deepEqual(single.acc, { share: 0, stderr: null, low: 0, high: 1 });
  });
});
