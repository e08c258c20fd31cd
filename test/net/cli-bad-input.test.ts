/** What people get wrong, to real processes: each is one clear sentence with the right exit code. */
import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { EMBEDDED_MODEL_DIRECTORY } from '../../node/version.js';
import { CommandLine, until } from './command-line.js';

const LOCAL = ['--listen', '/ip4/127.0.0.1/tcp/0', '--threads', '1'];
const SMALL = [
  ...['--rank', '1', '--target-modules', 'q_proj', '--epoch-seconds', '2', '--steps', '1'],
  ...['--sequence-length', '16', '--batch-size', '1'],
];

let place = '';
let data = '';
let directories = 0;
let occupied: Server;
let occupiedPort = 0;
const started: CommandLine[] = [];

before(async () => {
  place = await mkdtemp(join(tmpdir(), 'murmurate-bad-'));
  data = await file(
    'good.jsonl',
    '{"text": "The quick brown fox jumps over the lazy dog."}\n'.repeat(20),
  );
  occupied = createServer().listen(0, '127.0.0.1');
  await once(occupied, 'listening');
  const address = occupied.address();
  occupiedPort = typeof address === 'object' ? (address?.port ?? 0) : 0;
});

after(async () => {
  for (const command of started) await command.dispose();
  occupied.close();
  await rm(place, { recursive: true, force: true });
});

async function file(name: string, content: string | Uint8Array): Promise<string> {
  await writeFile(join(place, name), content);
  return join(place, name);
}

/** A path in which no peer was yet. */
function newDirectory(): string {
  directories++;
  return join(place, `peer-${directories}`);
}

function launch(...args: string[]): CommandLine {
  const command = new CommandLine(args);
  started.push(command);
  return command;
}

/** Runs a command that must fail with one sentence on stderr, and returns the sentence. */
async function fails(exitCode: number, ...args: string[]): Promise<string> {
  const command = await CommandLine.run(...args);
  assert.equal(command.exit, exitCode, command.output());
  assert.equal(command.stdout, '');
  const lines = command.stderr.trimEnd().split('\n');
  assert.equal(lines.length, 1, command.stderr);
  return lines[0] ?? '';
}

function start(...args: string[]): string[] {
  return ['start', '--dir', newDirectory(), ...LOCAL, ...SMALL, ...args];
}

/** A copy of the embedded model to spoil. */
async function copyOfModel(name: string): Promise<string> {
  const model = join(place, name);
  await mkdir(model);
  for (const part of [
    'config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ]) {
    await cp(join(EMBEDDED_MODEL_DIRECTORY, part), join(model, part));
  }
  return model;
}

describe('private data that cannot be used', () => {
  it('missing: names the path', async () => {
    const sentence = await fails(1, ...start('--data', join(place, 'none.jsonl')));
    assert.match(sentence, /^error: .*none\.jsonl/);
  });

  it('empty: says so', async () => {
    const path = await file('empty.jsonl', '');
    assert.match(await fails(1, ...start('--data', path)), /^error: .*empty\.jsonl/);
  });

  it('malformed: names the line', async () => {
    const path = await file('bad.jsonl', '{"text": "a"}\n{"text": "b"}\n{"text": \n');
    assert.match(await fails(1, ...start('--data', path)), /^error: .*bad\.jsonl.*\b(line )?3\b/);
  });

  it('binary: says so', async () => {
    const path = await file(
      'binary.txt',
      Uint8Array.from({ length: 4000 }, (_, i) => (i * 7) % 256),
    );
    assert.match(await fails(1, ...start('--data', path)), /^error: .*binary\.txt/);
  });
});

describe('a model that cannot be used', () => {
  it('missing: names the path', async () => {
    const model = join(place, 'no-model');
    assert.match(await fails(1, ...start('--data', data, '--model', model)), /^error: .*no-model/);
  });

  it('weights cut short: names the file', async () => {
    const model = await copyOfModel('cut');
    await truncate(join(model, 'model.safetensors'), 100_000);
    const sentence = await fails(1, ...start('--data', data, '--model', model));
    assert.match(sentence, /^error: .*cut.*model\.safetensors/);
  });

  it('too large for the memory: says what takes how much, before it is loaded', async () => {
    const huge = ['--sequence-length', '512', '--batch-size', '4096', '--micro-batch', '4096'];
    const args = ['start', '--dir', newDirectory(), '--data', data, ...LOCAL, ...huge];
    assert.match(
      await fails(1, ...args),
      /^error: the model does not fit into memory: training 4096 sequences of 512 tokens at once takes \d+\.\d GB beside .* \(\w+ weights .*\), but only .* are free: --micro-batch \d+ fits \(.* in all\); or close/,
    );
  });

  it('unknown target modules: lists the known ones, wrong usage', async () => {
    const args = ['start', '--dir', newDirectory(), '--data', data, '--target-modules', 'c_attn'];
    assert.match(await fails(2, ...args), /^error: target module "c_attn" .* q_proj, k_proj/);
  });
});

describe('ports and directories that cannot be had', () => {
  it('used HTTP port: names it and what to do', async () => {
    assert.equal(
      await fails(1, ...start('--data', data, '--http', String(occupiedPort))),
      `error: HTTP port ${occupiedPort} on 127.0.0.1 is in use; choose another with --http, or --http 0 for any free one`,
    );
  });

  it('used listen port: names the address', async () => {
    const listen = `/ip4/127.0.0.1/tcp/${occupiedPort}`;
    const args = ['start', '--dir', newDirectory(), '--data', data, '--listen', listen, ...SMALL];
    assert.match(
      await fails(1, ...args),
      new RegExp(`^error: cannot listen on ${listen}: another program`),
    );
  });

  it('a file where the directory should be: names the path', async () => {
    const path = await file('a-file', '');
    const args = ['start', '--dir', join(path, 'peer'), '--data', data, ...LOCAL];
    assert.match(
      await fails(1, ...args),
      /^error: cannot make the directory .*a-file.* a part of the path is a file/,
    );
  });

  it('a directory that vanishes while the peer runs: says so, waits, and goes on when it is back', async () => {
    const dir = newDirectory();
    const peer = launch(...start('--data', data, '--epochs', '1000', '--dir', dir));
    await peer.status('a first update', ({ adapter }) => adapter.updates > 0);
    await rename(dir, `${dir}-away`);
    const { training } = await peer.status('a sentence on the directory', ({ attention }) =>
      attention.some((sentence) => sentence.includes('it is not there any more')),
    );
    await rename(`${dir}-away`, dir);
    await peer.status(
      'training to go on',
      (report) =>
        report.training.step > training.step + 1 &&
        !report.attention.some((sentence) => sentence.includes('not there any more')),
    );
    peer.kill('SIGINT');
    assert.equal(await peer.ended(), 0, peer.output());
  });

  it('options that make no run: names the field, wrong usage', async () => {
    const sentence = await fails(2, ...start('--data', data, '--fold-alpha', '5:1/1'));
    assert.match(
      sentence,
      /^error: no such run can be founded: .*first fromEpoch of fold.alpha is 5/,
    );
  });
});

describe('a damaged data directory', () => {
  it('key: not replaced silently', async () => {
    const dir = newDirectory();
    await mkdir(dir, { mode: 0o700 });
    await writeFile(join(dir, 'identity.key'), 'rubbish', { mode: 0o600 });
    const args = ['start', '--dir', dir, '--data', data, ...LOCAL, ...SMALL];
    assert.match(await fails(1, ...args), /^error: .*identity\.key is not an Ed25519 key file/);
    assert.equal(await readFile(join(dir, 'identity.key'), 'utf8'), 'rubbish');
  });

  it('manifest: says what to do', async () => {
    const dir = newDirectory();
    await mkdir(dir, { mode: 0o700 });
    await writeFile(join(dir, 'manifest.bin'), 'rubbish', { mode: 0o600 });
    const args = ['start', '--dir', dir, '--data', data, ...LOCAL, ...SMALL];
    assert.match(await fails(1, ...args), /^error: .*manifest\.bin is damaged .*put back a copy/);
  });
});

describe('join', () => {
  it('says at each attempt that nobody answers, and gives up after --timeout', async () => {
    const nobody = `/ip4/127.0.0.1/tcp/1/p2p/12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5`;
    const args = ['join', nobody, '--dir', newDirectory(), '--data', data, ...LOCAL];
    const command = await CommandLine.run(...args, '--timeout', '2');
    assert.equal(command.exit, 1, command.output());
    const lines = command.stderr.trimEnd().split('\n');
    assert.match(
      lines[0] ?? '',
      /^cannot reach \/ip4\/127\.0\.0\.1\/tcp\/1\/p2p\/.*; trying again in 1 s$/,
    );
    assert.match(lines.at(-1) ?? '', /^error: cannot reach .*; gave up after 2 s \(--timeout\)$/);
  });

  it('without --timeout goes on until Ctrl-C, which is no failure', async () => {
    const nobody = `/ip4/127.0.0.1/tcp/1`;
    const waiting = launch('join', nobody, '--dir', newDirectory(), '--data', data, ...LOCAL);
    await until('a second attempt', () => (/again in 2 s/.test(waiting.stderr) ? true : null));
    waiting.kill('SIGINT');
    assert.equal(await waiting.ended(), 0, waiting.output());
  });

  it('lists the runs of a bootstrap node, takes --run, and names the field in which a base differs', async () => {
    const node = launch('bootstrap', '--dir', newDirectory(), '--listen', '/ip4/127.0.0.1/tcp/0');
    const address = await until(
      'the address of the bootstrap node',
      () => /^address +(\S+)$/m.exec(node.stdout)?.[1] ?? null,
      () => node.output(),
    );
    for (const name of ['first', 'second']) {
      const args = start(
        '--data',
        data,
        '--name',
        name,
        '--bootstrap',
        address,
        '--epochs',
        '1000',
      );
      await launch(...args).facts();
    }
    await until(
      'two runs at the bootstrap node',
      () =>
        /first .*1 member\n/.test(node.stderr) && /second .*1 member\n/.test(node.stderr)
          ? true
          : null,
      () => node.output(),
    );
    const joinArgs = ['join', address, '--data', data, ...LOCAL];
    assert.match(
      await fails(2, ...joinArgs, '--dir', newDirectory()),
      /^error: .* knows 2 runs: [0-9a-f]{12} "\w+" \(tiny-base, \d peers?\), .*; choose one with --run ID$/,
    );
    const model = await copyOfModel('other-weights');
    const path = join(model, 'model.safetensors');
    const weights = await readFile(path);
    weights[weights.length - 1] = (weights[weights.length - 1] ?? 0) ^ 1;
    await writeFile(path, weights);
    const dir = newDirectory();
    const chosen = [...joinArgs, '--dir', dir, '--run', 'second'];
    assert.match(
      await fails(1, ...chosen, '--model', model),
      /^error: .*other-weights is not the base model of the run "second": the weights \(\*\.safetensors\) differ: the run has [0-9a-f]{12}.*get the same files/,
    );
    // The directory is not spoilt by the failed attempt.
    const joined = launch(...chosen);
    await joined.status(
      'the founder',
      ({ peers, run }) => run.name === 'second' && peers.length > 0,
    );
    joined.kill('SIGINT');
    assert.equal(await joined.ended(), 0, joined.output());
    node.kill('SIGTERM');
    assert.equal(await node.ended(), 0, node.output());
  });
});
