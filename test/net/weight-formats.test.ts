/** Peers of one run whose frozen weights have different formats: real processes, one hash; and what refuses a format. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { WEIGHT_FORMATS } from '../../node/model/weight-format.js';
import { CommandLine, until } from './command-line.js';

let place = '';
const started: CommandLine[] = [];
const cacheBefore = process.env['HF_HUB_CACHE'];

before(async () => {
  place = await mkdtemp(join(tmpdir(), 'murmurate-formats-'));
  process.env['HF_HUB_CACHE'] = join(place, 'hub');
  const lines = Array.from({ length: 40 }, (_, i) =>
    JSON.stringify({ prompt: `number ${i}? `, completion: `answer ${i * 7}` }),
  );
  await writeFile(join(place, 'data.jsonl'), `${lines.join('\n')}\n`);
});

after(async () => {
  for (const command of started) await command.dispose();
  if (cacheBefore === undefined) delete process.env['HF_HUB_CACHE'];
  else process.env['HF_HUB_CACHE'] = cacheBefore;
  await rm(place, { recursive: true, force: true });
});

function launch(verb: string, dir: string, ...args: string[]): CommandLine {
  const own = ['--dir', join(place, dir), '--data', join(place, 'data.jsonl')];
  const fixed = [
    '--listen',
    '/ip4/127.0.0.1/tcp/0',
    '--threads',
    '1',
    '--no-mdns',
    '--no-personal',
  ];
  const command = new CommandLine([verb, ...args, ...own, ...fixed]);
  started.push(command);
  return command;
}

const RUN = [
  ...['--epochs', '200', '--epoch-seconds', '3', '--steps', '1'],
  ...['--sequence-length', '16', '--batch-size', '2', '--rank', '2'],
];

it('peers with fp32, bf16, int8 and int4 weights take part in one run and hold one adapter', async () => {
  const founder = launch('start', 'fp32', ...RUN, '--weights', 'fp32');
  const { address } = await founder.facts();
  const joiners = WEIGHT_FORMATS.slice(1).map((format) =>
    launch('join', format, address, '--weights', format),
  );
  const all = [founder, ...joiners];
  for (const [i, peer] of all.entries()) {
    const { training } = await peer.status('a device', () => true);
    const format = WEIGHT_FORMATS[i]!;
    assert.match(peer.output(), new RegExp(`\\(${format} weights `));
    assert.equal(/, (\w+)$/.exec(training.device)?.[1] ?? 'fp32', format);
  }
  await until(
    'one adapter of updates by all four',
    async () => {
      const reports = await Promise.all(all.map((each) => each.status('now', () => true)));
      const hashes = new Set(reports.map(({ adapter }) => adapter.sha256));
      const authors = reports.map(
        ({ peers }) => peers.filter(({ updatesAccepted }) => updatesAccepted > 0).length,
      );
      return hashes.size === 1 && authors.every((count) => count >= all.length - 1) ? true : null;
    },
    () => all.map((each) => each.output()).join('\n'),
  );
  // Of bf16 the model's own file is enough.
  const packed = await readdir(join(place, 'hub'), { recursive: true });
  assert.ok(packed.length > 0);
  for (const format of ['int8', 'int4']) {
    const peer = all[WEIGHT_FORMATS.findIndex((one) => one === format)]!;
    assert.match(peer.output(), /packing the weights: \d+ of 5 million/);
  }
  assert.doesNotMatch(joiners[0]!.output(), /packing/);
});

describe('weights', () => {
  const start = (...args: string[]): Promise<CommandLine> =>
    CommandLine.run(
      ...['start', '--dir', join(place, 'refused'), '--data', join(place, 'data.jsonl')],
      ...['--no-mdns', '--http', 'off', ...args],
    );

  it('of an unknown format are refused as wrong usage', async () => {
    const { exit, stderr } = await start('--weights', 'int5');
    assert.equal(exit, 2);
    assert.match(
      stderr,
      /^error: --weights is "int5"; it must be one of auto, fp32, bf16, int8, int4$/m,
    );
  });

  it('that a device has no kernels for are refused before anything is tried', async () => {
    const { exit, stderr } = await start('--weights', 'int4', '--device', 'tfjs');
    assert.equal(exit, 2);
    assert.match(
      stderr,
      /^error: --device tfjs can't compute with --weights int4, only with fp32: use --weights auto, or --device cpu$/m,
    );
  });

  it('that cannot be packed where the cache is end the peer with the place and what to do', async () => {
    const file = join(place, 'file');
    await writeFile(file, '');
    process.env['HF_HUB_CACHE'] = join(file, 'hub');
    try {
      for (const args of [
        ['start', '--dir', join(place, 'refused'), '--data', join(place, 'data.jsonl')],
        ['generate', '--base', 'Hello'],
      ]) {
        const { exit, stderr } = await CommandLine.run(...args, '--weights', 'int4');
        assert.equal(exit, 1, stderr);
        assert.match(
          stderr,
          /^error: .*file\/hub.* cannot be written \(ENOTDIR\): .*HF_HUB_CACHE/m,
        );
      }
    } finally {
      process.env['HF_HUB_CACHE'] = join(place, 'hub');
    }
  });
});

it('generate and eval read with each format, from the copies that training has made', async () => {
  for (const format of WEIGHT_FORMATS) {
    const own = ['--base', '--weights', format];
    const written = await CommandLine.run('generate', 'Hello', '--max-tokens', '4', ...own);
    assert.equal(written.exit, 0, written.output());
    assert.match(written.stderr, new RegExp(`\\(${format} weights `));
    const measured = await CommandLine.run('eval', join(place, 'data.jsonl'), '--json', ...own);
    assert.equal(measured.exit, 0, measured.output());
    const { all } = JSON.parse(measured.stdout) as { all: { base: { loss: number } } };
    assert.ok(all.base.loss > 1 && all.base.loss < 12, `${format}: ${all.base.loss}`);
  }
});
