/** A run that begins from an adapter there was before: real processes, one of which never had the adapter's files. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { loraModules } from '../../node/model/lora.js';
import { openModelDirectory } from '../../node/model/model-directory.js';
import { readPeftAdapter, writePeftAdapter } from '../../node/model/peft.js';
import { adapterLayout, adapterSha256 } from '../../protocol/adapter.js';
import { decodeManifest } from '../../protocol/manifest-codec.js';
import { Prng } from '../../protocol/prng.js';
import { TINY_BASE } from '../unit/model/fixtures.js';
import { CommandLine, until } from './command-line.js';

let place = '';
const started: CommandLine[] = [];

before(async () => {
  place = await mkdtemp(join(tmpdir(), 'murmurate-from-'));
  const lines = Array.from({ length: 40 }, (_, i) =>
    JSON.stringify({ prompt: `number ${i}? `, completion: `answer ${i * 7}` }),
  );
  await writeFile(join(place, 'data.jsonl'), `${lines.join('\n')}\n`);
  const { config } = await openModelDirectory(TINY_BASE);
  const targetModules = ['v_proj', 'q_proj'];
  // Rank-stabilised, and in two of the layers only: what a run of its own would not have.
  const modules = loraModules(config, targetModules).filter(({ name }) => /\.[13]\./.test(name));
  const spec = { rank: 3, alpha: 5, targetModules, modules };
  const random = new Prng(new Uint8Array(32), 'from');
  const { size } = adapterLayout(spec);
  const theta = Float32Array.from({ length: size }, () => 0.2 * (random.nextFloat() - 0.5));
  await writePeftAdapter(join(place, 'adapter'), { spec, theta, baseModelName: 'tiny-base' });
  const path = join(place, 'adapter', 'adapter_config.json');
  const written = JSON.parse(await readFile(path, 'utf8')) as object;
  await writeFile(path, JSON.stringify({ ...written, use_rslora: true }));
});

after(async () => {
  for (const command of started) await command.dispose();
  await rm(place, { recursive: true, force: true });
});

function launch(verb: string, dir: string, ...args: string[]): CommandLine {
  const fixed = [
    '--listen',
    '/ip4/127.0.0.1/tcp/0',
    '--threads',
    '1',
    '--no-mdns',
    '--no-personal',
  ];
  const own = ['--dir', join(place, dir), '--data', join(place, 'data.jsonl')];
  const command = new CommandLine([verb, ...args, ...own, ...fixed]);
  started.push(command);
  return command;
}

const RUN = [
  ...['--name', 'on', '--epochs', '200', '--epoch-seconds', '2', '--steps', '1'],
  ...['--sequence-length', '16', '--batch-size', '2'],
];

it('every peer begins from the adapter, and who joins fetches it from members', async () => {
  const from = ['--from', join(place, 'adapter')];
  const wrong = await CommandLine.run(
    ...['start', ...from, '--rank', '8', '--dir', join(place, 'wrong')],
    ...['--data', join(place, 'data.jsonl'), '--no-mdns', '--http', 'off'],
  );
  assert.match(wrong.stderr, /--rank and --from exclude each other/);
  const founder = launch('start', 'founder', ...RUN, ...from);
  const { address } = await founder.facts();
  const joiner = launch('join', 'joiner', address);
  await joiner.facts();
  const adapter = await readPeftAdapter(join(place, 'adapter'));
  for (const dir of ['founder', 'joiner']) {
    const bytes = await readFile(join(place, dir, 'manifest.bin'));
    const { manifest } = decodeManifest(bytes);
    assert.equal(manifest.adapter.rank, 3);
    assert.ok(Math.abs(manifest.adapter.alpha - 5 * Math.sqrt(3)) < 1e-9);
    assert.equal(manifest.adapter.modules.length, 4);
    assert.equal(manifest.adapter.targetModules.length, 4, 'by their whole names');
    const { theta } = await readPeftAdapter(join(place, 'adapter'), manifest.adapter);
    assert.equal(adapterSha256(theta), manifest.adapter.initialSha256);
    assert.equal(theta.length, adapter.theta.length);
  }
  await founder.status(
    'an update of the other',
    ({ peers }) => peers.filter(({ updatesAccepted }) => updatesAccepted > 0).length === 1,
  );
  await until(
    'one adapter at both',
    async () => {
      const both = [founder, joiner].map((each) => each.status('now', () => true));
      const [a, b] = await Promise.all(both);
      return a?.adapter.updates === b?.adapter.updates && a?.adapter.sha256 === b?.adapter.sha256
        ? true
        : null;
    },
    () => `${founder.output()}\n${joiner.output()}`,
  );
  // What is on disk is whole: the adapter of a peer that has ended is still a sum with the start.
  joiner.kill('SIGTERM');
  await joiner.ended();
  const out = join(place, 'exported');
  const exported = await CommandLine.run('export', out, '--dir', join(place, 'joiner'));
  assert.equal(exported.exit, 0, exported.output());
  const { theta, modules, alpha, rank } = await readPeftAdapter(out);
  const start = await readPeftAdapter(join(place, 'adapter'), { rank, alpha, modules });
  const moved = theta.reduce((sum, one, i) => sum + (one - start.theta[i]!) ** 2, 0);
  const length = start.theta.reduce((sum, one) => sum + one ** 2, 0);
  assert.ok(moved > 0 && moved < length / 4, `moved ${moved} of ${length}`);
  const again = launch('join', 'joiner', address);
  await again.facts();
});
