import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text as collect } from 'node:stream/consumers';
import { after, describe, it } from 'node:test';
import { dataText } from '../../../node/cli/data-options.js';
import { dataVerb } from '../../../node/cli/data.js';
import { doctorOptions } from '../../../node/cli/doctor.js';
import { peerOptions } from '../../../node/cli/peer-options.js';
import { runProgram } from '../../../node/cli/program.js';
import { runOptions } from '../../../node/cli/run-options.js';
import { inForce } from '../../../node/cli/settings-in-force.js';
import { DataDirectory } from '../../../node/store/directory.js';
import { writeSettings } from '../../../node/store/settings.js';
import { encodeManifest } from '../../../protocol/manifest-codec.js';
import { sampleManifest } from '../manifest-sample.js';
import { Scratch, TINY_BASE } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

async function check(...args: string[]): Promise<Record<string, unknown>> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const { signal } = new AbortController();
  const io = { stdout, stderr, terminal: false, signal, interrupt: () => undefined };
  assert.equal(await runProgram([dataVerb], ['data', 'check', ...args, '--json'], io), 0);
  stdout.end();
  return JSON.parse(await collect(stdout)) as Record<string, unknown>;
}

describe('verbs that look before a peer trains', () => {
  it('have the defaults of start', () => {
    const { rank, steps, sequenceLength, batchSize } = doctorOptions;
    for (const [own, of] of [
      [rank, runOptions.rank],
      [steps, runOptions.steps],
      [sequenceLength, runOptions.sequenceLength],
      [dataVerb.options['sequenceLength'], runOptions.sequenceLength],
      [batchSize, runOptions.batchSize],
      [dataVerb.options['heldOut'], peerOptions.heldOut],
    ] as const) {
      assert.equal((own as { default?: unknown } | undefined)?.default, of.default);
    }
  });

  it('take what the run says where nobody says otherwise', () => {
    const manifest = sampleManifest();
    const options = { rank: 1, sequenceLength: 2, batchSize: 3, other: 4 };
    assert.equal(inForce(options, new Set(), null), options);
    assert.deepEqual(inForce(options, new Set(['rank']), manifest), {
      ...{ rank: 1, other: 4 },
      sequenceLength: manifest.training.sequenceLength,
      batchSize: manifest.training.batchSize,
    });
  });

  it('data check: measures as the run and the peer of the directory do', async () => {
    const dir = await scratch.directory();
    const file = join(dir, 'a.csv');
    const words = Array.from({ length: 60 }, (_, i) => `word ${i}`).join(' ');
    const rows = Array.from({ length: 20 }, (_, i) => `Who is ${i}? ,${words}`);
    await writeFile(file, `Frage,Antwort\n${rows.join('\n')}\n`);
    const directory = new DataDirectory(join(dir, 'peer'));
    await directory.create();
    const manifest = sampleManifest();
    const training = { ...manifest.training, sequenceLength: 4_096 };
    await directory.writeManifest(encodeManifest({ ...manifest, training }).bytes);
    const columns = { text: null, prompt: 'Frage', completion: 'Antwort', messages: null };
    await writeSettings(directory, {
      ...{ model: null, modelDir: TINY_BASE, dataFiles: [file], columns },
      ...{ heldOutShare: 0.5, isResting: false },
    });
    const inRun = await check(file, '--dir', join(dir, 'peer'));
    assert.deepEqual([inRun['sequenceLength'], inRun['records']], [4_096, 20]);
    assert.equal((inRun['longer'] as { records: number }).records, 0);
    assert.ok((inRun['split'] as { heldOutExamples: number }).heldOutExamples > 3);
    // A switch leaves the names of the columns as they were.
    const accepting = await check(file, '--dir', join(dir, 'peer'), '--accept-dropped');
    assert.equal(accepting['records'], 20);
    const named = ['--prompt-column', 'Frage', '--completion-column', 'Antwort'];
    const alone = await check(file, '--dir', join(dir, 'none'), ...named);
    // Long enough for all of them: see sequence-length.test.ts.
    assert.ok((alone['sequenceLength'] as number) < 512);
    assert.equal((alone['longer'] as { records: number }).records, 0);
    const asked = await check(file, '--dir', join(dir, 'peer'), '--sequence-length', '64');
    assert.equal(asked['sequenceLength'], 64);
  });
});

describe('the line on the data of a peer', () => {
  const stats = {
    ...{ files: 1, leftOut: 0, examples: 1_200, tokens: 90_000, trainedTokens: 20_000 },
    ...{ heldOutExamples: 0, heldOutTokens: 0, cutExamples: 0, droppedTokens: 0 },
  };
  const said = (change: Partial<typeof stats>): string =>
    dataText({ ...stats, ...change }, { sequenceLength: 128 });

  it('counts what is cut and what is dropped', () => {
    assert.equal(
      said({}),
      '1,200 records to train on; none is longer than a sequence (128 tokens)',
    );
    assert.equal(
      said({ examples: 1, heldOutExamples: 3, cutExamples: 1 }),
      '1 record to train on and 3 held out; 1 is longer than a sequence (128 tokens) and cut into several',
    );
    assert.match(
      said({ cutExamples: 14, droppedTokens: 8_120 }),
      /; 14 are longer .* and cut into several, and 8,120 of 90,000 tokens, none of them trained, are dropped$/,
    );
  });
});
