import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import {
  autoLengthText,
  autoSequenceLength,
  sequenceLengthOf,
  usualRequest,
} from '../../../node/cli/sequence-length.js';
import { USUAL_COLUMNS } from '../../../node/data/columns.js';
import { openChatTemplate } from '../../../node/data/chat-template.js';
import { sampleLengths, TEXT_TOKENS_MAX } from '../../../node/data/record-lengths.js';
import { openTokenizer } from '../../../node/data/tokenizer.js';
import { UserError } from '../../../node/errors.js';
import { openModelDirectory } from '../../../node/model/model-directory.js';
import { Scratch, TINY_BASE } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());
const { signal } = new AbortController();
const model = await openModelDirectory(TINY_BASE);
const reading = {
  tokenizer: await openTokenizer(model.dir, model.config),
  chatTemplate: await openChatTemplate(model.dir),
};

/** A file of prompts and answers of so many words each, and then of one that cannot be used. */
async function answersOf(...words: number[]): Promise<string> {
  const file = join(await scratch.directory(), 'answers.jsonl');
  const lines = words.map((count) =>
    JSON.stringify({ prompt: 'Count: ', completion: ' one'.repeat(count) }),
  );
  await writeFile(file, `${[...lines, '{"prompt": 7}'].join('\n')}\n`);
  return file;
}

const tokensOf = (words: number): number =>
  reading.tokenizer.encode(`Count: ${' one'.repeat(words)}`).length;

describe('sampleLengths', () => {
  it('finds how many tokens 95 of 100 records have at most, and passes over what cannot be used', async () => {
    const words = Array.from({ length: 100 }, (_, i) => i + 1);
    const { records, sampled, p95 } = await sampleLengths(
      [await answersOf(...words)],
      reading,
      signal,
    );
    assert.equal(records, 100);
    assert.equal(sampled, 100);
    assert.ok(Math.abs(p95 - tokensOf(95)) <= 2, `${p95}`);
  });

  it('draws from all of many records', async () => {
    const short = new Array<number>(4000).fill(1);
    const long = new Array<number>(1000).fill(40);
    const { sampled, p95 } = await sampleLengths(
      [await answersOf(...short, ...long)],
      reading,
      signal,
    );
    assert.equal(sampled, 2000);
    assert.ok(p95 > 30, `${p95}`);
  });

  it('counts plain texts as no longer than what they may be cut into', async () => {
    const file = join(await scratch.directory(), 'book.txt');
    await writeFile(file, 'word '.repeat(20_000));
    const { p95 } = await sampleLengths([file], reading, signal);
    assert.equal(p95, TEXT_TOKENS_MAX);
  });
});

describe('--sequence-length auto', () => {
  const request = async (...words: number[]) =>
    usualRequest(model, [await answersOf(...words)], USUAL_COLUMNS);

  it('is a multiple of 64, at least that, and says why', async () => {
    assert.equal((await autoSequenceLength(await request(3, 4, 5), signal)).tokens, 64);
    const length = await autoSequenceLength(await request(70), signal);
    assert.equal(length.tokens, 64 * Math.ceil(tokensOf(70) / 64));
    assert.match(
      autoLengthText(length),
      /^sequences of 128 tokens \(--sequence-length auto\): 95 of 100 records have at most \d+ tokens$/,
    );
  });

  it('is no more than the model has positions', async () => {
    const { tokens, why } = await autoSequenceLength(await request(3000), signal);
    assert.equal(tokens, model.config.maxPositions);
    assert.match(why, /but the model has [\d,]+ positions/);
  });

  it('is no more than fits into memory', async () => {
    const usual = await request(400);
    const free = 110e6;
    const { tokens, why } = await autoSequenceLength(usual, signal, free);
    assert.ok(tokens < 448 && tokens % 64 === 0, `${tokens}`);
    assert.match(why, /more do not fit into the 110 MB of memory that are free/);
  });

  it('takes what is asked for without looking at anything', async () => {
    const out = new PassThrough();
    const never = (): never => assert.fail('nothing is read');
    assert.equal(await sequenceLengthOf(96, never, out, signal), 96);
    const usual = await request(3);
    assert.equal(await sequenceLengthOf('auto', () => Promise.resolve(usual), out, signal), 64);
    out.end();
    assert.match(await text(out), /^sequences of 64 tokens .*\n$/);
  });

  it('refuses paths that are not data', async () => {
    const usual = usualRequest(model, ['nothing.bin'], USUAL_COLUMNS);
    await assert.rejects(autoSequenceLength(usual, signal), UserError);
  });
});
