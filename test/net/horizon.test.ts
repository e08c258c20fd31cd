/** A run whose log is bounded, as real processes over loopback: join late, kill, resume, end with one adapter. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { decodeCheckpoint } from '../../node/store/checkpoint-codec.js';
import { readLog } from '../../node/store/log-file.js';
import type { StatusReport } from '../../node/status.js';
import { readStoredRun } from '../../node/stored-run.js';
import { decodeGossip } from '../../protocol/gossip.js';
import { Slicer } from '../../protocol/slice.js';
import { CommandLine, until } from './command-line.js';

/** The shortest horizon that the usual lag allows; a checkpoint is cut every third epoch. */
const HORIZON = 9;
const SPACING = 3;
const EPOCHS = 30;
/** The last checkpoint of the run. */
const LAST = EPOCHS - HORIZON;

const NAMES = ['clinic', 'law', 'workshop'] as const;
type Name = (typeof NAMES)[number];

let place = '';
const started: CommandLine[] = [];

before(async () => {
  place = await mkdtemp(join(tmpdir(), 'murmurate-horizon-'));
  for (const name of NAMES) {
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

function launch(name: Name, ...command: string[]): CommandLine {
  const files = ['--dir', join(place, name), '--data', join(place, `${name}.jsonl`)];
  const local = ['--listen', '/ip4/127.0.0.1/tcp/0', '--threads', '1'];
  const peer = new CommandLine([...command, ...files, ...local]);
  started.push(peer);
  return peer;
}

/** Tiny steps: the log is on trial here, not the training. */
function found(): CommandLine {
  const model = ['--name', 'offices', '--rank', '2', '--target-modules', 'q_proj', 'v_proj'];
  const schedule = ['--epochs', String(EPOCHS), '--epoch-seconds', '1', '--start-in', '1'];
  const steps = ['--steps', '2', '--sequence-length', '16', '--batch-size', '2'];
  return launch('clinic', 'start', ...model, ...schedule, ...steps, '--horizon', String(HORIZON));
}

function hasCheckpoint({ adapter }: StatusReport): boolean {
  return adapter.checkpointEpoch > 0;
}

describe('a run with a horizon', () => {
  const peers: CommandLine[] = [];
  let sha256 = '';

  it('lets a peer in when the beginning of the log was dropped', async () => {
    const founder = found();
    peers.push(founder);
    const { address } = await founder.facts();
    peers.push(launch('law', 'join', address));
    await founder.status('a checkpoint with updates of both', (report) => {
      return hasCheckpoint(report) && report.peers.some((peer) => peer.updatesAccepted > 0);
    });
    const late = launch('workshop', 'join', address);
    peers.push(late);
    const joined = await late.status('the checkpoint of the others', (report) => {
      return hasCheckpoint(report) && report.adapter.updates > 0;
    });
    const { adapter } = await founder.status('a status', () => true);
    assert.ok(adapter.checkpointEpoch - joined.adapter.checkpointEpoch <= SPACING);
  });

  it('goes on after kill -9 at a cut, from the checkpoint on disk', async () => {
    const [founder, victim] = peers;
    assert.ok(founder && victim);
    const before = await victim.status('a status', () => true);
    const cut = await victim.status('the next cut, or the end', ({ adapter }) => {
      const { checkpointEpoch } = adapter;
      return checkpointEpoch > before.adapter.checkpointEpoch || checkpointEpoch === LAST;
    });
    victim.kill('SIGKILL');
    assert.equal(await victim.ended(), 'SIGKILL');
    const { address } = await founder.facts();
    const resumed = launch('law', 'join', address);
    peers[1] = resumed;
    const { adapter } = await resumed.status('a status', () => true);
    assert.ok(adapter.checkpointEpoch >= cut.adapter.checkpointEpoch - SPACING);
  });

  it('ends with one adapter at all peers', async () => {
    let said: string[] = [];
    await until(
      'one adapter at all peers after the last epoch',
      async () => {
        const reports = await Promise.all(peers.map((peer) => peer.status('a status', () => true)));
        said = reports.map(({ run, adapter }) => `${run.state} ${JSON.stringify(adapter)}`);
        sha256 = reports[0]?.adapter.sha256 ?? '';
        const isOne = new Set(said).size === 1 && reports[0]?.run.state === 'finished';
        return isOne && reports[0]?.adapter.checkpointEpoch === LAST ? true : null;
      },
      () => said.join('\n'),
    );
    for (const peer of peers) {
      peer.kill('SIGTERM');
      assert.equal(await peer.ended(), 0, peer.output());
    }
  });

  it('leaves the last checkpoint and no more updates than the horizon on each disk', async () => {
    for (const name of NAMES) {
      const dir = join(place, name);
      const { run } = await readStoredRun(dir);
      const bytes = await readFile(join(dir, 'checkpoint.bin'));
      assert.equal(decodeCheckpoint(run.id, bytes).checkpoint.epoch, LAST);
      const { records } = (await readLog(join(dir, 'log.bin'), run.id)) ?? { records: [] };
      const epochs = records.flatMap((record) => {
        const message = decodeGossip(run, new Slicer(run), record, 'disk');
        return message.kind === 'update' ? message.update.epoch : [];
      });
      assert.ok(records.length > 0);
      assert.ok(records.length <= HORIZON * NAMES.length, `${records.length} records`);
      assert.ok(Math.min(...epochs) >= LAST, `the log goes back to ${Math.min(...epochs)}`);
    }
  });

  it('exports that adapter from each directory', async () => {
    const exports = NAMES.map((name) =>
      CommandLine.run(
        'export',
        join(place, `${name}-adapter`),
        '--dir',
        join(place, name),
        '--json',
      ),
    );
    for (const done of await Promise.all(exports)) {
      assert.equal(done.exit, 0, done.output());
      assert.equal((JSON.parse(done.stdout) as { sha256: string }).sha256, sha256);
    }
  });
});
