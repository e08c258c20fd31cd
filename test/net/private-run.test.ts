/** Closed runs as real processes over loopback: invites, strangers, a swarm key, and no secret in any output. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { makeSwarmKey } from '../../node/net/swarm-key.js';
import { decodeInvite } from '../../protocol/invite.js';
import { CommandLine } from './command-line.js';

let place = '';
const started: CommandLine[] = [];
/** What must never be printed: key material, in every form that a program might print it in. */
const secrets = new Set<string>();

before(async () => {
  place = await mkdtemp(join(tmpdir(), 'murmurate-private-'));
  const lines = Array.from({ length: 40 }, (_, i) =>
    JSON.stringify({ prompt: `number ${i}?`, completion: ` answer ${i * 7}` }),
  );
  await writeFile(join(place, 'data.jsonl'), `${lines.join('\n')}\n`);
});

after(async () => {
  for (const command of started) await command.dispose();
  await rm(place, { recursive: true, force: true });
});

function launch(verb: string, dir: string, ...args: string[]): CommandLine {
  const fixed = ['--listen', '/ip4/127.0.0.1/tcp/0', '--threads', '1', '--no-mdns'];
  const data = ['--data', join(place, 'data.jsonl')];
  const logs = ['--log-level', 'debug'];
  const dirs = ['--dir', join(place, dir)];
  const command = new CommandLine([verb, ...args, ...dirs, ...data, ...fixed, ...logs]);
  started.push(command);
  return command;
}

/** Tiny steps, and enough epochs for a slow machine: membership is on trial here, not training. */
const RUN = [
  ...['--name', 'closed', '--rank', '2', '--target-modules', 'q_proj', 'v_proj'],
  ...['--epochs', '40', '--epoch-seconds', '2', '--start-in', '1', '--steps', '2'],
  ...['--sequence-length', '16', '--batch-size', '2', '--invite-only'],
  ...['--update-size', 'small'],
];

async function invite(...args: string[]): Promise<string> {
  const command = await CommandLine.run('invite', '--dir', join(place, 'founder'), ...args);
  assert.equal(command.exit, 0, command.output());
  const text = command.stdout.trim();
  noteSecret(decodeInvite(text).secret);
  secrets.add(text);
  assert.match(command.stderr, /keep it secret/);
  return text;
}

function noteSecret(bytes: Uint8Array): void {
  for (const encoding of ['hex', 'base64', 'base64url'] as const)
    secrets.add(Buffer.from(bytes).toString(encoding));
}

/** Resolves when the process has said `pattern` on stderr. */
async function says(command: CommandLine, pattern: RegExp): Promise<void> {
  const code = await command.ended();
  assert.equal(code, 1, command.output());
  assert.match(command.stderr, pattern);
}

describe('a run with invites, in a private network', () => {
  const keyFile = (): string => join(place, 'swarm.key');
  let founder: CommandLine;
  let address = '';
  let members: CommandLine[] = [];
  let invites: string[] = [];

  it('lets in whom the founder invites, with nothing but the invite', async () => {
    await makeSwarmKey(keyFile());
    noteSecret(Buffer.from((await readFile(keyFile(), 'utf8')).trim().slice(-64), 'hex'));
    founder = launch('start', 'founder', ...RUN, '--swarm-key', keyFile());
    ({ address } = await founder.facts());
    invites = [await invite(), await invite('--hours', '1')];
    members = invites.map((text, i) => launch('join', `member${i}`, text));
    for (const each of [founder, ...members]) {
      await each.status('updates of both others', ({ peers }) => {
        return peers.filter(({ updatesAccepted }) => updatesAccepted > 0).length === 2;
      });
    }
    const { membership } = await founder.status('two admissions', () => true);
    assert.deepEqual({ ...membership, refused: 0 }, { mode: 'invite', admitted: 2, refused: 0 });
  });

  it('refuses a stranger with the key, a used invite and an expired one, in a sentence each', async () => {
    const key = ['--swarm-key', keyFile()];
    const strangers = [
      launch('join', 'stranger', address, ...key),
      launch('join', 'second', invites[0] ?? ''),
    ];
    await says(strangers[0]!, /admits the peers that it lists or invites only.*founder 12D3Koo/);
    await says(strangers[1]!, /another peer has used this invite already/);
    const expired = await invite('--expires-epochs', '0');
    const used = await founder.status('the next epoch', ({ run }) => run.epoch > 0);
    await founder.status('two more epochs', ({ run }) => run.epoch > used.run.epoch + 1);
    await says(launch('join', 'late', expired), /the invite has expired/);
    const { membership } = await founder.status(
      'a refusal',
      ({ membership: { refused } }) => refused > 0,
    );
    assert.equal(membership.admitted, 2);
  });

  it('needs no invite after a restart, and ends with one adapter at all members', async () => {
    members[0]!.kill('SIGKILL');
    await members[0]!.ended();
    members[0] = launch('join', 'member0', address);
    const all = [founder, ...members];
    const ends = await Promise.all(
      all.map((each) => each.status('the end', ({ run }) => run.state === 'finished')),
    );
    assert.ok(
      ends.every(({ peers }) => peers.filter((peer) => peer.updatesAccepted > 0).length === 2),
    );
    const hashes = new Set<string>();
    await founder.status('one hash', ({ adapter }) => adapter.sha256 !== '');
    for (const each of all) {
      const { adapter } = await each.status('all updates', ({ adapter: { updates } }) => {
        return updates === Math.max(...ends.map((end) => end.adapter.updates));
      });
      hashes.add(adapter.sha256);
    }
    assert.equal(hashes.size, 1);
  });

  it('keeps keys in files of their owner alone, and prints none', async () => {
    for (const dir of ['founder', 'member0', 'member1']) {
      const files = (await readdir(join(place, dir))).filter((name) => name.endsWith('.key'));
      assert.deepEqual(files.sort(), ['identity.key', 'swarm.key']);
      for (const name of files) {
        const path = join(place, dir, name);
        assert.equal((await stat(path)).mode & 0o777, 0o600, path);
        if (name === 'identity.key') noteSecret((await readFile(path)).subarray(4, 36));
      }
    }
    const outputs = started.map((command) => `${command.stdout}${command.stderr}`);
    assert.ok(outputs.join('').length > 1000 && secrets.size > 10);
    for (const secret of secrets) {
      assert.ok(!outputs.some((output) => output.includes(secret)), 'a secret was printed');
    }
  });
});
