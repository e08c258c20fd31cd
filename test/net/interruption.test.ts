/** Ctrl-C while a command is at work, as real processes: gone within 5 s, with the exit code that fits. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { CommandLine, until } from './command-line.js';

const STOP_MS_MAX = 5_000;

describe('Ctrl-C', () => {
  let dir = '';
  const commands: CommandLine[] = [];
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'murmurate-interruption-'));
  });
  after(async () => {
    for (const command of commands) await command.dispose();
    await rm(dir, { recursive: true, force: true });
  });

  const interrupt = async (command: CommandLine): Promise<number | NodeJS.Signals> => {
    const sentMs = performance.now();
    command.kill('SIGINT');
    const exit = await command.ended();
    assert.ok(performance.now() - sentMs < STOP_MS_MAX, command.output());
    return exit;
  };

  it('in the middle of a text that generate writes exits 130, without an error', async () => {
    const args = ['--base', '--max-tokens', '4096', '--dir', join(dir, 'none')];
    const command = new CommandLine(['generate', 'The swarm', ...args]);
    commands.push(command);
    await until('some text', () => command.stdout || null);
    assert.equal(await interrupt(command), 130, command.output());
    // What it runs on and what it takes, and nothing else.
    assert.match(command.stderr, /^device: [^\n]*\ngenerating takes about [^\n]*\n$/);
  });

  it('while eval measures a file exits 130, without an error', async () => {
    const data = join(dir, 'long.txt');
    const lines = Array.from(
      { length: 4000 },
      (_, i) => `Bird ${i} turns when its neighbours turn.\n\n`,
    );
    await writeFile(data, lines.join(''));
    const command = new CommandLine(['eval', data, '--base', '--dir', join(dir, 'none')]);
    commands.push(command);
    await until('some progress', () => command.stderr || null);
    assert.equal(await interrupt(command), 130, command.output());
    assert.doesNotMatch(command.stderr, /error/);
    assert.equal(command.stdout, '');
  });

  it('while a new peer still loads its model exits 0, and the directory is free again', async () => {
    const data = join(dir, 'data.txt');
    await writeFile(data, 'A starling turns when its neighbours turn.\n\n'.repeat(50));
    const home = join(dir, 'peer');
    const args = ['start', '--data', data, '--dir', home, '--listen', '/ip4/127.0.0.1/tcp/0'];
    const command = new CommandLine([...args, '--log-level', 'debug']);
    commands.push(command);
    await until('the model', () => (command.stderr.includes('base model opened') ? true : null));
    assert.equal(await interrupt(command), 0, command.output());
    assert.ok(!command.stderr.includes('error'), command.output());
    const status = await CommandLine.run('status', '--dir', home);
    assert.equal(status.exit, 1);
    assert.match(status.stderr, /^error: no peer with a status server runs in /);
  });
});
