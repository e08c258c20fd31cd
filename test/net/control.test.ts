/** A run that changes while it lives, as real processes: pause, restart, resume, extend, leave. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { CommandLine } from './command-line.js';

let place = '';
const started: CommandLine[] = [];

before(async () => {
  place = await mkdtemp(join(tmpdir(), 'murmurate-control-'));
  const lines = Array.from({ length: 40 }, (_, i) => JSON.stringify({ text: `note ${i * 7}` }));
  await writeFile(join(place, 'notes.jsonl'), `${lines.join('\n')}\n`);
});

after(async () => {
  for (const command of started) await command.dispose();
  await rm(place, { recursive: true, force: true });
});

function launch(verb: string[], dir: string, run: readonly string[] = []): CommandLine {
  const local = ['--listen', '/ip4/127.0.0.1/tcp/0', '--no-mdns', '--threads', '1'];
  const data = ['--dir', join(place, dir), '--data', join(place, 'notes.jsonl')];
  const command = new CommandLine([...verb, ...data, ...local, ...run]);
  started.push(command);
  return command;
}

/** Tiny steps, and more epochs than the test takes. */
const RUN = [
  ...['--name', 'offices', '--rank', '2', '--target-modules', 'q_proj', '--epochs', '5000'],
  ...['--epoch-seconds', '2', '--steps', '2', '--sequence-length', '16', '--batch-size', '2'],
];

async function tell(verb: string, dir: string, ...args: string[]): Promise<CommandLine> {
  return CommandLine.run(verb, '--dir', join(place, dir), ...args);
}

describe('a run that changes while it lives', () => {
  let founder: CommandLine;
  let joiner: CommandLine;
  let address = '';

  it('pause stops training and not sharing; the peer is healthy and says what it does', async () => {
    founder = launch(['start'], 'a', RUN);
    ({ address } = await founder.facts());
    joiner = launch(['join', address], 'b');
    await joiner.status('an update of its own', ({ training }) => training.step > 0);
    const paused = await tell('pause', 'b');
    assert.equal(paused.exit, 0, paused.output());
    assert.match(
      paused.stdout,
      /^the peer shares but does not train, .* until murmurate resume\n$/,
    );
    const before = await joiner.status('rest', ({ run }) => run.state === 'resting');
    const { url } = await joiner.facts();
    assert.equal((await fetch(`${url}/healthz`)).status, 200);
    const later = await joiner.status(
      'two updates of the other peer',
      ({ adapter }) => adapter.updates >= before.adapter.updates + 2,
    );
    assert.equal(later.training.step, before.training.step);
    assert.match(later.attention.join(), /Training was paused/);
  });

  it('a pause survives a restart, and ends with resume', async () => {
    joiner.kill('SIGKILL');
    await joiner.ended();
    joiner = launch(['join', address], 'b');
    const rested = await joiner.status('rest', ({ run }) => run.state === 'resting');
    const resumed = await tell('resume', 'b');
    assert.equal(resumed.exit, 0, resumed.output());
    await joiner.status('a step', ({ training }) => training.step > rested.training.step);
  });

  it('extend is the founder’s, and all peers hear of it', async () => {
    const refused = await tell('extend', 'b', '--epochs', '6000');
    assert.equal(refused.exit, 1, refused.output());
    assert.match(refused.stderr, /^error: Only the founder of this run can extend it/);
    const extended = await tell('extend', 'a', '--epochs', '6000');
    assert.equal(extended.exit, 0, extended.output());
    assert.match(extended.stdout, /^the run has 6000 epochs now/);
    await joiner.status('6000 epochs', ({ run }) => run.epochsMax === 6000);
  });

  it('leave ends a peer with exit code 0 within 5 s; nobody answers there then', async () => {
    const left = tell('leave', 'b');
    assert.equal(await joiner.ended(), 0, joiner.output());
    const endedMs = performance.now();
    const { exit, stdout } = await left;
    assert.ok(performance.now() - endedMs < 5_000, 'the command ends with the peer');
    assert.equal(exit, 0);
    assert.match(stdout, /^the peer has left its run; .* goes on from here\n$/);
    const again = await tell('leave', 'b');
    assert.equal(again.exit, 1);
    assert.match(again.stderr, /^error: no peer runs in .*\/b; start it first/);
    await founder.status('the founder alone', ({ peers }) =>
      peers.every((peer) => peer.address === null),
    );
  });
});
