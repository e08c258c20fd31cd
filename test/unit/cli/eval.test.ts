import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text as collect } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { evalVerb } from '../../../node/cli/eval.js';
import { runProgram } from '../../../node/cli/program.js';
import { openModelDirectory } from '../../../node/model/model-directory.js';
import { loraModules } from '../../../node/model/lora.js';
import { writePeftAdapter } from '../../../node/model/peft.js';
import { adapterLayout } from '../../../protocol/adapter.js';
import { Prng } from '../../../protocol/prng.js';
import { Scratch, textReference, TINY_BASE } from '../model/fixtures.js';

interface Row {
  tokens: number;
  base: { loss: number; perplexity: number };
  adapter: { loss: number; perplexity: number } | null;
}
interface Report {
  adapter: string;
  sequenceLength: number;
  files: (Row & { file: string })[];
  all: Row;
}

describe('eval', () => {
  const scratch = new Scratch();
  const notes = textReference('notes.jsonl');
  let dir = '';
  let adapterDir = '';
  let prose = '';

  before(async () => {
    dir = await scratch.directory();
    adapterDir = join(dir, 'adapter');
    prose = join(dir, 'prose.txt');
    await writeFile(prose, 'The kettle sang before the rain began.\n\n'.repeat(40));
    const { config } = await openModelDirectory(TINY_BASE);
    const targetModules = ['q_proj'];
    const spec = { rank: 2, alpha: 4, targetModules, modules: loraModules(config, targetModules) };
    const random = new Prng(new Uint8Array(32), 'eval');
    const { size } = adapterLayout(spec);
    const theta = Float32Array.from({ length: size }, () => 0.2 * (random.nextFloat() - 0.5));
    await writePeftAdapter(adapterDir, { spec, theta, baseModelName: 'tiny-base' });
  });
  after(() => scratch.remove());

  async function run(...args: string[]): Promise<{ stdout: string; stderr: string }> {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const { signal } = new AbortController();
    const io = { stdout, stderr, terminal: false, signal, interrupt: () => undefined };
    const exitCode = await runProgram([evalVerb], ['eval', '--dir', dir, ...args], io);
    stdout.end();
    stderr.end();
    const said = { stdout: await collect(stdout), stderr: await collect(stderr) };
    assert.equal(exitCode, 0, said.stderr);
    return said;
  }
  const report = async (...args: string[]): Promise<Report> =>
    JSON.parse((await run(...args, '--json')).stdout) as Report;

  it('measures each file and all together, base and adapter side by side', async () => {
    const { files, all, adapter } = await report('--adapter', adapterDir, notes, prose);
    assert.equal(adapter, 'adapter');
    assert.deepEqual(
      files.map(({ file }) => file),
      [notes, prose],
    );
    assert.equal(all.tokens, files[0]!.tokens + files[1]!.tokens);
    for (const row of [...files, all]) {
      for (const { loss, perplexity } of [row.base, row.adapter!]) {
        assert.ok(Math.abs(perplexity / Math.exp(loss) - 1) < 1e-12);
      }
      assert.ok(Math.abs(row.base.loss - row.adapter!.loss) > 1e-3, 'the adapter does something');
    }
    const alone = await report('--base', notes);
    assert.equal(alone.adapter, 'none');
    assert.equal(alone.files[0]!.adapter, null);
    assert.ok(Math.abs(alone.all.base.loss - files[0]!.base.loss) < 1e-5);
  });

  it('says how far reading is, over all files, and stops there when it is told to', async (t) => {
    let nowMs = performance.now();
    // Each example seems to take six seconds, of which every tenth is told.
    t.mock.method(performance, 'now', () => (nowMs += 6_000));
    const interruption = new AbortController();
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const { signal } = interruption;
    let said = '';
    stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      if (text.startsWith('read 10 ')) interruption.abort(new Error('stop'));
    });
    const io = { stdout, stderr, terminal: false, signal, interrupt: () => undefined };
    const args = ['eval', '--dir', dir, '--base', notes, notes, notes];
    assert.equal(await runProgram([evalVerb], args, io), 130);
    stdout.end();
    assert.match(said, /\nread 2 records, \d+ tokens\nread 4 records, \d+ tokens\n/);
    assert.match(said, /read 10 records, \d+ tokens\n/, 'a file has six');
    assert.doesNotMatch(said, /read 12|measuring/);
    assert.equal(await collect(stdout), '');
  });

  it('measures every row of a file once, whatever the length of the rows', async () => {
    const [short, long] = [
      await report('--base', notes, '--sequence-length', '128'),
      await report('--base', notes, '--sequence-length', '512'),
    ];
    assert.deepEqual([short.sequenceLength, long.sequenceLength], [128, 512]);
    assert.equal(short.all.tokens, long.all.tokens);
    assert.ok(Math.abs(short.all.base.loss - long.all.base.loss) < 1e-5);
  });

  it('prints a table and says how far it is', async () => {
    const { stdout, stderr } = await run('--adapter', adapterDir, notes, prose);
    assert.match(stdout, /│ file .*│ tokens │ +base │ perplexity │ adapter │ perplexity │/);
    assert.match(stdout, /│ all +│/);
    assert.match(stdout, /base and adapter: nats per trained token, in sequences of 128 tokens\n$/);
    assert.match(stderr, /measuring: (\d+) of \1\n$/);
  });

  it('scores multiple choice beside losses, for base and adapter', async () => {
    const items = join(dir, 'items.jsonl');
    const rows = ['sang', 'rained'].map((word, gold) => ({
      ...{ context: 'The kettle', choices: ['sang before the rain.', 'rained all the day.'] },
      ...{ gold, word },
    }));
    await writeFile(items, rows.map((row) => JSON.stringify(row)).join('\n'));
    const both = await run(items, notes, '--adapter', adapterDir, '--json', '--threads', '1');
    const report = JSON.parse(both.stdout) as Report & {
      multipleChoice: { file: string; items: number; base: object; adapter: object }[];
    };
    assert.deepEqual([report.files.length, report.files[0]?.file], [1, notes]);
    const [scored] = report.multipleChoice;
    assert.deepEqual([scored?.file, scored?.items], [items, 2]);
    // Of one question twice, each answer right once, one is right whatever the model is.
    for (const scores of [scored?.base, scored?.adapter]) {
      assert.deepEqual(scores, {
        acc: { share: 0.5, stderr: 0.5, low: 0, high: 1 },
        accNorm: { share: 0.5, stderr: 0.5, low: 0, high: 1 },
      });
    }
    const { stdout } = await run(items, '--adapter', adapterDir, '--threads', '1');
    assert.match(stdout, /items .* base acc .* acc_norm .* adapter acc .* acc_norm/);
    assert.match(stdout, /items.jsonl .* 2 .* 0.500 \[0.000, 1.000\]/);
    assert.doesNotMatch(stdout, /perplexity/);
  });
});
