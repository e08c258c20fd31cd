import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Prng } from '../../protocol/prng.js';
import { CommandLine, until } from './command-line.js';

const DATA = path.resolve(import.meta.dirname, '../../../examples/three-offices/data');
const LOOPBACK = ['--listen', '/ip4/127.0.0.1/tcp/0'];
const EPOCHS = 20;
/** How many times a random peer is killed. */
const KILLS = 6;

const scratch = await mkdtemp(path.join(tmpdir(), 'murmurate-crash-'));
const processes: CommandLine[] = [];

/** Starts one command; `slot` 0 is the bootstrap node, 1 to 3 are peers. */
function launch(slot: number, args: readonly string[]): CommandLine {
  const command = new CommandLine([
    ...args,
    '--dir',
    path.join(scratch, String(slot)),
    ...LOOPBACK,
  ]);
  processes.push(command);
  return command;
}

function peerArgs(office: string): string[] {
  return ['--data', path.join(DATA, `${office}.jsonl`), '--threads', '1'];
}

async function bootstrapAddress(bootstrap: CommandLine): Promise<string> {
  return until(
    'the bootstrap address',
    () => /^address +(\S+)$/m.exec(bootstrap.stdout)?.[1] ?? null,
    () => bootstrap.output(),
  );
}

after(async () => {
  await Promise.all(processes.map((command) => command.dispose()));
  await rm(scratch, { recursive: true, force: true });
});

describe('a swarm of real processes', () => {
  it('survives kill -9 of every part at any moment and ends in one adapter', async (t) => {
    const seed = Date.now() & 0xffff;
    t.diagnostic(`kills drawn from seed ${seed}`);
    const random = new Prng(Uint8Array.of(seed >> 8, seed & 0xff), 'kills');
    let bootstrap = launch(0, ['bootstrap']);
    const address = await bootstrapAddress(bootstrap);
    const small = ['--sequence-length', '32', '--batch-size', '2', '--steps', '4'];
    const schedule = ['--epochs', String(EPOCHS), '--epoch-seconds', '3', '--start-in', '4'];
    const commands = [
      ['start', '--bootstrap', address, ...small, ...schedule, ...peerArgs('clinic')],
      ['join', address, ...peerArgs('machine-shop')],
      ['join', address, ...peerArgs('law-office')],
    ];
    const peers: CommandLine[] = [];
    for (const [i, command] of commands.entries()) {
      const peer = launch(i + 1, command);
      peers.push(peer);
      await peer.facts();
    }
    const before = await Promise.all(peers.map((peer) => peer.facts()));
    await peers[2]!.status('the first updates', ({ adapter }) => adapter.updates >= 3);

    for (let kill = 0; kill < KILLS; kill++) {
      await delay(3000 * random.nextFloat());
      if (kill === 2) {
        bootstrap.kill('SIGKILL');
        await bootstrap.ended();
        bootstrap = launch(0, ['bootstrap']);
        assert.equal(
          await bootstrapAddress(bootstrap),
          address,
          'the same node at the same address',
        );
      }
      const victim = kill % peers.length;
      peers[victim]!.kill('SIGKILL');
      await peers[victim]!.ended();
      peers[victim] = launch(victim + 1, commands[victim]!);
    }
    // From here on nobody introduces anybody.
    bootstrap.kill('SIGKILL');
    await bootstrap.ended();

    const now = await Promise.all(peers.map((peer) => peer.facts()));
    assert.deepEqual(
      now.map(({ peerId, runId }) => ({ peerId, runId })),
      before.map(({ peerId, runId }) => ({ peerId, runId })),
      'the same peers in the same run',
    );
    let hashes: string[] = [];
    let said: unknown[] = [];
    await until(
      'one adapter at all peers after the last epoch',
      async () => {
        const reports = await Promise.all(peers.map((peer) => peer.status('a status', () => true)));
        said = reports.map(({ peerId, peers: others, attention }) => ({
          ...{ peerId, attention },
          others: others.map(({ peerId: id, address }) => ({ id, address })),
        }));
        hashes = reports.map(
          ({ run, adapter }) => `${run.state} ${adapter.updates} ${adapter.sha256}`,
        );
        const isOne = new Set(hashes).size === 1 && reports[0]!.run.state === 'finished';
        return isOne && reports.every(({ attention }) => attention.every((s) => !/evicted/.test(s)))
          ? true
          : null;
      },
      () => `${hashes.join('\n')}\n${JSON.stringify(said, null, 1)}`,
    );
    const [, updates] = /finished (\d+) /.exec(hashes[0]!) ?? [];
    // A busy machine starts its processes slowly and misses most epochs.
    assert.ok(
      Number(updates) > EPOCHS / 2,
      `${updates} of ${3 * EPOCHS} updates despite the kills`,
    );
  });
});
