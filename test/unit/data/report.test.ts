import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { openChatTemplate } from '../../../node/data/chat-template.js';
import { openDataset } from '../../../node/data/dataset.js';
import {
  PROBLEMS_MAX,
  reportOn,
  type DataReport,
  type ReportOptions,
} from '../../../node/data/report.js';
import { openTokenizer } from '../../../node/data/tokenizer.js';
import { Scratch, TINY_BASE } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

let options: ReportOptions;
before(async () => {
  options = {
    tokenizer: await openTokenizer(TINY_BASE, { vocabSize: 4096, eosTokenIds: [0], padTokenId: 0 }),
    chatTemplate: await openChatTemplate(TINY_BASE),
    sequenceLength: 16,
    heldOutShare: 0.3,
    seed: new Uint8Array(32),
    onProgress: () => undefined,
    signal: new AbortController().signal,
  };
});

async function fileWith(lines: readonly (object | string)[]): Promise<string> {
  const path = join(await scratch.directory(), 'data.jsonl');
  const texts = lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line)));
  await writeFile(path, texts.join('\n'));
  return path;
}

const report = async (lines: readonly (object | string)[]): Promise<DataReport> =>
  reportOn([await fileWith(lines)], options);

describe('the report on data', () => {
  it('counts what training would count', async () => {
    const long = 'The long and winding road that leads to your door. '.repeat(6);
    const lines = [
      ...Array.from({ length: 30 }, (_, i) => ({
        prompt: `Which ward has patient ${i}? `,
        completion: `Ward ${i}.`,
      })),
      { prompt: long, completion: 'Yes.' },
      { text: long },
    ];
    const file = await fileWith(lines);
    const found = await reportOn([file], options);
    const all = await openDataset([file], { ...options, heldOutShare: 0 });
    const { stats } = await openDataset([file], options);
    assert.equal(found.records, 32);
    assert.deepEqual(found.byKind, { completion: 31, text: 1 });
    assert.deepEqual(found.split, stats);
    assert.ok(stats.heldOutExamples > 0);
    assert.equal(found.lengths.total, all.stats.tokens);
    // The first token of a text is trained, but no row asks for it.
    assert.equal(found.trainedTokens, all.stats.trainedTokens + 1);
    assert.equal(found.contextTokens, all.stats.tokens - found.trainedTokens);
    assert.equal(found.longer.records, all.stats.cutExamples);
    assert.equal(found.longer.droppedTokens, all.stats.droppedTokens);
    assert.ok(found.longer.droppedTokens > 0);
    const { min, median, p95, max } = found.lengths;
    assert.ok(min <= median && median <= p95 && p95 <= max);
    assert.equal(
      found.histogram.reduce((sum, bar) => sum + bar.records, 0),
      32,
    );
    assert.ok(found.histogram.at(-1)!.upTo >= max && found.histogram.at(-1)!.upTo < 2 * max);
    assert.deepEqual([found.problemCount, found.problems], [0, []]);
  });

  it('finds what is there twice, and prompts that touch their completion', async () => {
    const found = await report([
      { prompt: 'Who?', completion: 'Anna.' },
      { prompt: 'Who? ', completion: ' Anna.' },
      { prompt: 'WHO', completion: 'Anna!' },
      { prompt: 'Who', completion: '\nAnna' },
      { text: 'Anna' },
    ]);
    assert.deepEqual([found.duplicates, found.nearDuplicates, found.touching], [1, 3, 2]);
  });

  it('goes on after a problem, counts all and keeps the first ones with their lines', async () => {
    const found = await report([
      '{"text":"One."}',
      ...Array<string>(25).fill('{"text":7}'),
      '{',
      '{"text":"Two."}',
    ]);
    assert.deepEqual(
      [found.records, found.problemCount, found.problems.length],
      [2, 26, PROBLEMS_MAX],
    );
    assert.match(found.problems[0]!, /data.jsonl, line 2: "text" is a number/);
    const broken = await reportOn(
      [await fileWith([{ text: 'a' }, '\ud800\u0000']), await fileWith([{ text: 'b' }])],
      options,
    );
    assert.deepEqual([broken.records, broken.problemCount], [2, 1]);
    assert.match(broken.problems[0]!, /line 2: has NUL bytes/);
    const none = await report(['{"text":7}']);
    assert.deepEqual([none.records, none.problemCount, none.split], [0, 1, null]);
  });

  it('shows three records as they are trained, the first among them', async () => {
    const lines = Array.from({ length: 20 }, (_, i) => ({ prompt: `Q${i} `, completion: `A${i}` }));
    const { samples } = await report(lines);
    assert.equal(samples.length, 3);
    assert.equal(samples[0]!.line, 1);
    for (const { stretches, line } of samples) {
      const parts = stretches.map(({ tokens, trained }) => [
        options.tokenizer.decode(tokens, false),
        trained,
      ]);
      assert.deepEqual(parts, [
        [`Q${line - 1} `, false],
        [`A${line - 1}<|endoftext|>`, true],
      ]);
    }
  });

  it('stops when it is told to', async () => {
    const signal = AbortSignal.abort(new DOMException('interrupted', 'AbortError'));
    await assert.rejects(reportOn([await fileWith([{ text: 'a' }])], { ...options, signal }), {
      name: 'AbortError',
    });
  });
});
