/** The commands of daily use as real processes over loopback: found, join, kill, resume, leave, export. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { CommandLine } from './command-line.js';

let place = '';
const started: CommandLine[] = [];

before(async () => {
  place = await mkdtemp(join(tmpdir(), 'murmurate-cli-'));
  for (const name of ['clinic', 'law']) {
    const lines = Array.from({ length: 40 }, (_, i) =>
      JSON.stringify({ prompt: `${name} ${i}?`, completion: ` answer ${i * 7} of the ${name}` }),
    );
    await writeFile(join(place, `${name}.jsonl`), `${lines.join('\n')}\n`);
  }
});

after(async () => {
  for (const command of started) await command.dispose();
  await rm(place, { recursive: true, force: true });
});

function launch(...args: string[]): CommandLine {
  const command = new CommandLine(args);
  started.push(command);
  return command;
}

const LOCAL = ['--listen', '/ip4/127.0.0.1/tcp/0', '--threads', '1'];
/** Tiny steps: the commands are on trial here, not the training. */
const EPOCHS = 20;
const RUN = [
  ...['--name', 'offices', '--rank', '2', '--target-modules', 'q_proj', 'v_proj'],
  ...['--epochs', String(EPOCHS), '--epoch-seconds', '2', '--start-in', '1', '--steps', '2'],
  ...['--sequence-length', '16', '--batch-size', '2'],
];

function startArgs(): string[] {
  return [
    'start',
    '--dir',
    join(place, 'a'),
    '--data',
    join(place, 'clinic.jsonl'),
    ...LOCAL,
    ...RUN,
  ];
}

function joinArgs(address: string): string[] {
  return ['join', address, '--dir', join(place, 'b'), '--data', join(place, 'law.jsonl'), ...LOCAL];
}

describe('a run from start to end', () => {
  let founder: CommandLine;
  let joiner: CommandLine;
  let founded: Awaited<ReturnType<CommandLine['facts']>>;

  it('start prints run, address and status URL, and join needs nothing but that address', async () => {
    founder = launch(...startArgs());
    founded = await founder.facts();
    assert.match(founded.address, /^\/ip4\/127\.0\.0\.1\/tcp\/\d+\/p2p\/12D3Koo/);
    joiner = launch(...joinArgs(founded.address));
    assert.equal((await joiner.facts()).runId, founded.runId);
    const both = await founder.status('an update of the other peer', ({ peers }) =>
      peers.some((peer) => peer.updatesAccepted > 0 && peer.address !== null),
    );
    assert.equal(both.run.name, 'offices');
    assert.equal(both.run.epochSeconds, 2);
    assert.ok(both.traffic.bytesIn.total > 0);
  });

  it('refuses a second process on the directory, and says which process holds it', async () => {
    const second = await CommandLine.run(...startArgs());
    assert.equal(second.exit, 1);
    assert.match(
      second.stderr,
      new RegExp(`^error: .* is in use by process ${founder.pid}; stop that`),
    );
  });

  it('status prints what the peer says, by directory and by URL, for people and as JSON', async () => {
    const people = await CommandLine.run('status', '--dir', join(place, 'a'));
    assert.equal(people.exit, 0, people.output());
    assert.match(people.stdout, /^run +offices [0-9a-f]{12}, epoch \d+ of 20, /);
    const json = await CommandLine.run('status', founded.url, '--json');
    assert.equal((JSON.parse(json.stdout) as { peerId: string }).peerId, founded.peerId);
  });

  it('export writes an adapter while the peer runs', async () => {
    const target = join(place, 'early');
    const early = await CommandLine.run('export', target, '--dir', join(place, 'a'));
    assert.equal(early.exit, 0, early.output());
    const config = JSON.parse(
      await readFile(join(target, 'adapter_config.json'), 'utf8'),
    ) as object;
    assert.deepEqual({ ...config, r: 2, peft_type: 'LORA' }, config);
  });

  it('kill -9, then the same command: the same peer, at the same address, with its log', async () => {
    const before = await founder.status('three updates', ({ adapter }) => adapter.updates >= 3);
    founder.kill('SIGKILL');
    assert.equal(await founder.ended(), 'SIGKILL');
    founder = launch(...startArgs());
    const resumed = await founder.facts();
    assert.deepEqual({ ...resumed, url: '' }, { ...founded, url: '' });
    const after = await founder.status('the other peer again', ({ peers }) =>
      peers.some((peer) => peer.address !== null),
    );
    assert.ok(after.adapter.updates >= before.adapter.updates);
    assert.ok(
      after.training.step >= before.training.step - 2,
      'steps of a finished epoch are kept',
    );
  });

  it('Ctrl-C ends a peer with exit code 0 within 5 s, and the same command goes on', async () => {
    await joiner.status('an update of its own', ({ training }) => training.step > 0);
    const startMs = performance.now();
    joiner.kill('SIGINT');
    assert.equal(await joiner.ended(), 0, joiner.output());
    assert.ok(performance.now() - startMs < 5_000, 'within 5 s');
    joiner = launch(...joinArgs(founded.address), '--exit-when-finished');
    await joiner.facts();
  });

  it('both end with one adapter, --exit-when-finished exits 0, and exports agree', async () => {
    const finished = await founder.status(
      'the end of the run',
      ({ run }) => run.state === 'finished',
    );
    assert.equal(finished.run.epoch, EPOCHS);
    assert.equal(await joiner.ended(), 0, joiner.output());
    founder.kill('SIGTERM');
    assert.equal(await founder.ended(), 0, founder.output());
    const reports = [];
    for (const name of ['a', 'b']) {
      const target = join(place, `${name}-adapter`);
      const done = await CommandLine.run('export', target, '--dir', join(place, name), '--json');
      assert.equal(done.exit, 0, done.output());
      const { sha256, updates } = JSON.parse(done.stdout) as { sha256: string; updates: number };
      reports.push({ sha256, updates });
    }
    assert.deepEqual(reports[0], reports[1]);
    const [a, b] = await Promise.all(
      ['a', 'b'].map((name) =>
        readFile(join(place, `${name}-adapter`, 'adapter_model.safetensors')),
      ),
    );
    assert.ok(a?.equals(b ?? Buffer.alloc(0)));
  });

  it('export --merge and --gguf write the whole model and the adapter for llama.cpp', async () => {
    const [dir, merged, gguf] = ['b', 'merged', 'adapter.gguf'].map((name) => join(place, name));
    const done = await CommandLine.run(
      ...['export', '--merge', merged!, '--dtype', 'fp32', '--gguf', gguf!, '--dir', dir!],
    );
    assert.equal(done.exit, 0, done.output());
    assert.equal((await readFile(gguf!)).toString('latin1', 0, 4), 'GGUF');
    const write = async (...args: string[]): Promise<string> => {
      const asked = ['generate', 'law 3?', '--max-tokens', '12', '--device', 'cpu', ...args];
      return (await CommandLine.run(...asked)).stdout;
    };
    const expected = await write('--dir', dir!);
    assert.equal(await write('--base', '--model', merged!), expected);
    assert.notEqual(await write('--base'), expected);
  });

  it('generate, eval and compare work on the directory that is left', async () => {
    const text = await CommandLine.run(
      'generate',
      'law 3?',
      '--dir',
      join(place, 'b'),
      '--max-tokens',
      '4',
    );
    assert.equal(text.exit, 0, text.output());
    const files = ['law', 'clinic'].map((name) => join(place, `${name}.jsonl`));
    const evaluated = await CommandLine.run('eval', ...files, '--dir', join(place, 'b'), '--json');
    assert.equal(evaluated.exit, 0, evaluated.output());
    const { adapter, all } = JSON.parse(evaluated.stdout) as {
      adapter: string;
      all: Record<'base' | 'adapter', { loss: number }>;
    };
    assert.equal(adapter, 'swarm');
    assert.ok(all.adapter.loss < all.base.loss, evaluated.stdout);
    const compared = await CommandLine.run(
      ...[
        'compare',
        '--dir',
        join(place, 'b'),
        '--json',
        '--on',
        `law=${join(place, 'law.jsonl')}`,
      ],
      ...[`clinic=${join(place, 'clinic.jsonl')}`],
    );
    assert.equal(compared.exit, 0, compared.output());
    const { heldOutLoss } = JSON.parse(compared.stdout) as {
      heldOutLoss: Record<string, Record<string, number>>;
    };
    assert.deepEqual(Object.keys(heldOutLoss), ['law', 'clinic']);
    for (const losses of Object.values(heldOutLoss)) {
      assert.deepEqual(Object.keys(losses), ['base', 'alone', 'swarm', 'personal']);
      for (const loss of Object.values(losses)) assert.ok(loss > 0 && loss < 12, String(loss));
      assert.notEqual(losses['alone'], losses['base']);
    }
  });

  it('history lists each epoch, measures it once, and export and eval take one of them or a personal one', async () => {
    const dir = ['--dir', join(place, 'b')];
    const json = async (...args: string[]): Promise<Record<string, unknown>> => {
      const done = await CommandLine.run(...args, ...dir, '--json');
      assert.equal(done.exit, 0, done.output());
      return JSON.parse(done.stdout) as Record<string, unknown>;
    };
    const history = await json('history', '--eval');
    const epochs = history['epochs'] as { epoch: number; sha256: string; heldOutLoss: number }[];
    const best = epochs.find(({ epoch }) => epoch === history['best']) ?? assert.fail();
    assert.ok(
      epochs.length > 3 && epochs.every(({ heldOutLoss }) => heldOutLoss >= best.heldOutLoss),
    );
    const again = await CommandLine.run('history', '--eval', ...dir);
    assert.match(again.stdout, new RegExp(`best here: epoch ${best.epoch}; murmurate export`));
    assert.doesNotMatch(again.stderr, /device/, 'what was measured opens no model');
    const [first] = epochs;
    const past = await json('export', join(place, 'past'), '--epoch', String(first?.epoch));
    assert.equal(past['sha256'], first?.sha256);
    const made = await json('personal');
    const target = join(place, 'personal');
    const { personal, sha256 } = await json('export', target, '--personal');
    const { swarmSha256, heldOutLoss } = personal as {
      swarmSha256: string;
      heldOutLoss: Record<'swarm' | 'single' | 'mixture', number>;
    };
    assert.deepEqual(made['heldOutLoss'], heldOutLoss);
    assert.equal(swarmSha256, epochs.at(-1)?.sha256);
    assert.notEqual(sha256, swarmSha256);
    assert.ok(heldOutLoss.single < heldOutLoss.swarm);
    assert.ok(heldOutLoss.mixture < heldOutLoss.swarm);
    const unchanged = await json('export', join(place, 'unchanged'));
    assert.equal(unchanged['sha256'], swarmSha256, 'the swarm’s adapter is what it was');
    const evaluated = await json('eval', join(place, 'law.jsonl'), '--personal');
    const all = evaluated['all'] as Record<'adapter' | 'mixture', { loss: number }>;
    assert.ok(all.mixture.loss < all.adapter.loss);
  });

  it('resuming with flags that contradict the manifest names them and exits 2', async () => {
    const other = await CommandLine.run(...startArgs(), '--rank', '4', '--epochs', '21');
    assert.equal(other.exit, 2, other.output());
    assert.match(
      other.stderr,
      /^error: .*holds the run "offices", which these options contradict: --rank 4 \(the run has 2\), --epochs 21 \(the run has 20\); leave them out/,
    );
  });

  it('start in a directory of a joined run says to use join', async () => {
    const args = ['start', '--dir', join(place, 'b'), '--data', join(place, 'law.jsonl'), ...LOCAL];
    const wrong = await CommandLine.run(...args);
    assert.equal(wrong.exit, 2, wrong.output());
    assert.match(
      wrong.stderr,
      /holds the run "offices", which another peer founded; go on with murmurate join/,
    );
  });

  it('join without anybody to reach, and with a damaged state, resumes alone and says both', async () => {
    await writeFile(join(place, 'b', 'state.bin'), 'rubbish');
    const lone = launch(...joinArgs(founded.address));
    const report = await lone.status('a sentence', ({ attention }) => attention.length > 1);
    assert.match(report.attention.join('\n'), /Cannot reach .*next attempt in \d+ s/);
    assert.match(
      report.attention.join('\n'),
      /state\.bin is damaged .* kept as .*state\.bin\.damaged/,
    );
    assert.ok(report.adapter.updates > 0);
    lone.kill('SIGINT');
    assert.equal(await lone.ended(), 0, lone.output());
  });
});
