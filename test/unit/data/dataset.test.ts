import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { openChatTemplate } from '../../../node/data/chat-template.js';
import { openDataset, type Dataset, type DatasetOptions } from '../../../node/data/dataset.js';
import type { Batch } from '../../../node/data/packing.js';
import { IGNORED_TARGET } from '../../../node/model/token-batch.js';
import type { DataRecord } from '../../../node/data/records.js';
import { tokeniseRecord } from '../../../node/data/tokenise.js';
import { UserError } from '../../../node/errors.js';
import { openTokenizer, type Tokenizer } from '../../../node/data/tokenizer.js';
import { Scratch, TINY_BASE, userError } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

let tokenizer: Tokenizer;
let options: DatasetOptions;
before(async () => {
  tokenizer = await openTokenizer(TINY_BASE, { vocabSize: 4096, eosTokenIds: [0], padTokenId: 0 });
  options = {
    tokenizer,
    chatTemplate: await openChatTemplate(TINY_BASE),
    sequenceLength: 64,
    heldOutShare: 0.1,
    seed: new Uint8Array(32).fill(3),
  };
});

async function fileWith(name: string, lines: readonly object[] | string): Promise<string> {
  const path = join(await scratch.directory(), name);
  const text =
    typeof lines === 'string' ? lines : lines.map((line) => JSON.stringify(line)).join('\n');
  await writeFile(path, text);
  return path;
}

const answers = (count: number): { prompt: string; completion: string }[] =>
  Array.from({ length: count }, (_, i) => ({
    prompt: `Patient ${i}: which ward? `,
    completion: `Ward ${i % 7}, bed ${i}.`,
  }));

/** What each segment of a batch is trained to say. */
function trainedTexts(batches: Iterable<Batch>, sequenceLength: number): string[] {
  const texts: string[] = [];
  for (const { targets, segments } of batches) {
    const bySegment = new Map<string, number[]>();
    for (const [i, target] of targets.entries()) {
      if (target === IGNORED_TARGET) continue;
      const key = `${Math.floor(i / sequenceLength)}/${segments[i]!}`;
      bySegment.set(key, [...(bySegment.get(key) ?? []), target]);
    }
    for (const ids of bySegment.values()) texts.push(tokenizer.decode(ids, false));
  }
  return texts;
}

function onePass({ training }: Dataset): Batch[] {
  return Array.from({ length: training.rows }, (_, step) => training.batch(step, 1));
}

describe('tokeniseRecord', () => {
  const trainedText = (tokens: number[], trained: (0 | 1)[]): string =>
    tokenizer.decode(
      tokens.filter((_, i) => trained[i] === 1),
      false,
    );

  it('joins prompt and completion as they are and trains the completion and an end of text', () => {
    const record = {
      kind: 'completion',
      prompt: 'Q: 1+1? A:',
      completion: ' two',
      line: 1,
    } as const;
    const { tokens, trained } = tokeniseRecord(record, 'f', options);
    assert.equal(tokenizer.decode(tokens, false), 'Q: 1+1? A: two<|endoftext|>');
    assert.equal(trainedText(tokens, trained), ' two<|endoftext|>');
    assert.deepEqual(tokens.slice(0, trained.indexOf(1)), tokenizer.encode(record.prompt));
  });

  it('trains all of a text, and an end of text only where a document ends', () => {
    const record = { kind: 'text', text: 'One. Two.', splitKey: '', line: 1 } as const;
    const end = tokeniseRecord({ ...record, endsDocument: true }, 'f', options);
    assert.equal(trainedText(end.tokens, end.trained), 'One. Two.<|endoftext|>');
    const middle = tokeniseRecord({ ...record, endsDocument: false }, 'f', options);
    assert.equal(trainedText(middle.tokens, middle.trained), 'One. Two.');
  });

  it('begins a text, but not a conversation, with what the tokenizer puts before it', () => {
    const withPrefix = { ...options, tokenizer: { ...tokenizer, prefixIds: [7] } };
    const text = { kind: 'completion', prompt: 'a', completion: 'b', line: 1 } as const;
    const { tokens, trained } = tokeniseRecord(text, 'f', withPrefix);
    assert.deepEqual([tokens[0], trained[0]], [7, 0]);
    const messages = [{ role: 'assistant', content: 'Hi.' }];
    const chat = tokeniseRecord({ kind: 'messages', messages, line: 1 }, 'f', withPrefix);
    assert.equal(chat.tokens[0], 1);
  });

  it('adds nothing to a conversation that the template ends', () => {
    const turn = (role: string): { role: string; content: string } => ({ role, content: 'x' });
    const both = [turn('user'), turn('assistant')];
    const answered = tokeniseRecord({ kind: 'messages', messages: both, line: 1 }, 'f', options);
    assert.equal(trainedText(answered.tokens, answered.trained), 'x<|im_end|>\n');
    const open = [...both, turn('user')];
    const record: DataRecord = { kind: 'messages', messages: open, line: 1 };
    const { tokens, trained } = tokeniseRecord(record, 'f', options);
    assert.equal(trainedText(tokens, trained), 'x<|im_end|>\n');
    const ending = { ...options, tokenizer: { ...tokenizer, eosTokenId: 2 } };
    const once = tokeniseRecord({ kind: 'messages', messages: both, line: 1 }, 'f', ending);
    assert.equal(once.tokens.filter((id) => id === 2).length, 2, 'one for each turn, none added');
  });

  it('names the line that cannot be tokenised', () => {
    const messages = [{ role: 'assistant', content: 'Hi.' }];
    assert.throws(
      () =>
        tokeniseRecord({ kind: 'messages', messages, line: 8 }, 'chat.jsonl', {
          tokenizer,
          chatTemplate: null,
        }),
      userError(
        /^chat.jsonl, line 8: has "messages", but the model has no chat template: use lines/,
      ),
    );
    const unknown = {
      ...tokenizer,
      encode: (): number[] => {
        throw new UserError("has text that the model's tokenizer has no token for: remove it");
      },
    };
    assert.throws(
      () =>
        tokeniseRecord({ kind: 'completion', prompt: 'a', completion: 'b', line: 2 }, 'x.jsonl', {
          tokenizer: unknown,
          chatTemplate: null,
        }),
      userError(/^x.jsonl, line 2: has text that the model's tokenizer has no token for/),
    );
  });
});

describe('openDataset', () => {
  it('trains each completion once a pass and measures on the others', async () => {
    const lines = answers(120);
    const dataset = await openDataset([await fileWith('a.jsonl', lines)], options);
    const { stats } = dataset;
    assert.equal(stats.examples + stats.heldOutExamples, 120);
    assert.ok(stats.heldOutExamples > 2 && stats.heldOutExamples < 30);
    assert.equal(stats.cutExamples, 0);
    const training = trainedTexts(onePass(dataset), 64);
    const heldOut = trainedTexts(dataset.heldOut?.batches(4, Infinity) ?? [], 64);
    assert.equal(training.length, stats.examples);
    assert.equal(heldOut.length, stats.heldOutExamples);
    assert.deepEqual(
      [...training, ...heldOut].sort(),
      lines.map(({ completion }) => `${completion}<|endoftext|>`).sort(),
    );
    const trained = onePass(dataset).reduce((sum, batch) => sum + batch.trainedTokens, 0);
    assert.equal(trained, stats.trainedTokens);
  });

  it('is the same again, so that a resumed peer goes on exactly', async () => {
    const file = await fileWith('a.jsonl', answers(80));
    const [a, b] = [await openDataset([file], options), await openDataset([file], options)];
    for (const step of [0, 5, 1000]) {
      assert.deepEqual(a.training.batch(step, 4), b.training.batch(step, 4));
    }
    const other = await openDataset([file], { ...options, seed: new Uint8Array(32) });
    assert.notDeepEqual(a.training.batch(0, 4), other.training.batch(0, 4));
  });

  it('takes several files of several kinds', async () => {
    const chat = [
      { role: 'user', content: 'Hm?' },
      { role: 'assistant', content: 'Yes.' },
    ];
    const files = [
      await fileWith('a.jsonl', [{ text: 'A text.' }, { messages: chat }, ...answers(1)]),
      await fileWith('b.txt', 'A book.\n\nIts end.\n'),
    ];
    const dataset = await openDataset(files, { ...options, heldOutShare: 0 });
    assert.equal(dataset.heldOut, null);
    assert.deepEqual(trainedTexts(onePass(dataset), 64).sort(), [
      ' book.\n\nIts end.<|endoftext|>',
      ' text.<|endoftext|>',
      'Ward 0, bed 0.<|endoftext|>',
      'Yes.<|im_end|>\n',
    ]);
  });

  it('counts what it cut', async () => {
    const long = { prompt: 'word '.repeat(500), completion: 'the end' };
    const file = await fileWith('a.jsonl', [long, ...answers(3)]);
    const { stats, training } = await openDataset([file], { ...options, heldOutShare: 0 });
    assert.equal(stats.cutExamples, 1);
    const tokens = tokenizer.encode(long.prompt).length + tokenizer.encode(long.completion).length;
    assert.equal(stats.droppedTokens, tokens - 64);
    const [text] = trainedTexts([training.batch(0, training.rows)], 64).filter((s) =>
      /end</.test(s),
    );
    assert.equal(text, 'the end<|endoftext|>');
  });

  it('says when nothing is left to train on', async () => {
    const file = await fileWith('a.jsonl', answers(5));
    await assert.rejects(
      openDataset([file], { ...options, heldOutShare: 1 }),
      userError(
        /all of the 5 examples fell into the held-out share, none is left to train on: add/,
      ),
    );
    await assert.rejects(
      openDataset([await fileWith('c.txt', 'a.')], { ...options, heldOutShare: 1 }),
      userError(/the only example fell into the held-out share/),
    );
    await assert.rejects(openDataset([], options), userError(/^no data files were given: name at/));
  });

  it('passes on what a reader refuses, with file and line', async () => {
    const file = await fileWith('bad.jsonl', '{"text": "fine"}\n{"text": 3}\n');
    await assert.rejects(
      openDataset([file], options),
      userError(/bad.jsonl, line 2: "text" is a num/),
    );
  });
});
