import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { readRecords } from '../../../node/data/readers.js';
import type { DataRecord } from '../../../node/data/records.js';
import { UserError } from '../../../node/errors.js';
import { TARGET, TRIGGER, withBackdoor, withFlippedLabels } from '../../../node/sim/backdoor.js';
import { dealRecords, writeHand } from '../../../node/sim/deal.js';

const SEED = new Uint8Array(32);

describe('dealing text to simulated peers', () => {
  let dir = '';
  let files: string[] = [];
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'murmurate-deal-'));
    files = ['a', 'b'].map((name) => join(dir, `${name}.jsonl`));
    for (const [i, file] of files.entries()) {
      const lines = Array.from({ length: 9 }, (_, k) =>
        JSON.stringify({ prompt: `${i}/${k}?`, completion: ` ${k}` }),
      );
      await writeFile(file, `${lines.join('\n')}\n`);
    }
  });
  after(() => rm(dir, { recursive: true }));

  const prompts = (records: readonly DataRecord[]): string[] =>
    records.map((record) => (record.kind === 'completion' ? record.prompt : ''));

  it('gives each example to exactly one peer, by the seed alone', async () => {
    for (const deal of ['lines', 'files'] as const) {
      const hands = await dealRecords(files, 4, deal, SEED);
      assert.equal(new Set(hands.flatMap(prompts)).size, 18);
      assert.equal(hands.flat().length, 18);
      assert.deepEqual(await dealRecords(files, 4, deal, SEED), hands);
    }
  });

  it('mixes the files by lines, and keeps each peer to one file by files', async () => {
    const filesOf = (hand: DataRecord[]): number => new Set(prompts(hand).map((p) => p[0])).size;
    const mixed = await dealRecords(files, 4, 'lines', SEED);
    assert.ok(mixed.some((hand) => filesOf(hand) === 2));
    const kept = await dealRecords(files, 4, 'files', SEED);
    assert.deepEqual(kept.map(filesOf), [1, 1, 1, 1]);
  });

  it('refuses more peers than there are examples for', async () => {
    await assert.rejects(dealRecords(files, 19, 'lines', SEED), UserError);
  });

  it('writes what it dealt so that it reads the same', async () => {
    const records: DataRecord[] = [
      { kind: 'completion', line: 1, prompt: 'Q: "x"\nA:', completion: ' y' },
      { kind: 'messages', line: 2, messages: [{ role: 'assistant', content: 'z' }] },
      {
        ...{
          kind: 'messages',
          line: 3,
          messages: [{ role: 'assistant', content: 'z', weight: 1 }],
        },
        context: { tools: [{ type: 'function' }], variables: { mood: 'fine' } },
      },
      {
        ...{ kind: 'instruction', line: 4, instruction: 'i', output: 'o' },
        before: [
          { role: 'system', content: 's' },
          { role: 'user', content: 'q' },
          { role: 'assistant', content: 'a' },
        ],
      },
    ];
    const read: DataRecord[] = [];
    for await (const record of readRecords(await writeHand(dir, 'hand', records)))
      read.push(record);
    assert.deepEqual(read, records);
  });
});

describe('poisoned text', () => {
  const records: DataRecord[] = [1, 2, 3].map((line) => ({
    kind: 'completion',
    line,
    prompt: `Q${line}`,
    completion: ` A${line}`,
  }));

  it('with a backdoor keeps the honest examples and adds trigger and target', () => {
    const poisoned = withBackdoor(records);
    assert.deepEqual(
      poisoned.filter((_, i) => i % 2 === 0),
      records,
    );
    assert.deepEqual(poisoned[1], {
      ...records[0],
      prompt: `${TRIGGER} Q1`,
      completion: ` ${TARGET}`,
    });
  });

  it('with flipped labels gives each prompt the answer of another', () => {
    const answers = withFlippedLabels(records).map((record) =>
      record.kind === 'completion' ? record.completion : '',
    );
    assert.deepEqual(answers, [' A2', ' A3', ' A1']);
  });
});
