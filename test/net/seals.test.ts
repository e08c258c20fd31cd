/** Real peers that seal: one adapter, a late member, kill -9 during sealing, and a log on disk that is compacted. */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { until, type CommandLine } from './command-line.js';
import { killed, Offices, oneAdapter, sealingRun, updatesOf } from './offices.js';

const EPOCHS = 24;
/** Of the seal that covers the whole run. */
const LAST_SEAL = 24;
/** The smallest that --log-disk takes: a megabyte. */
const LOG_DISK = ['--log-disk', '0.001'];

const offices = await Offices.open('seals');
after(() => offices.close());

interface History {
  gone: { toEpoch: number } | null;
  epochs: { epoch: number; sha256: string; updates: number }[];
}

async function historyOf(name: string): Promise<History> {
  return JSON.parse(await offices.run(name, 'history', '--json')) as History;
}

/** Ends the process as soon as a seal falls due, and starts it again: with two epochs between seals, `times` times. */
async function killWhileSealing(
  peer: CommandLine,
  again: () => CommandLine,
  times: number,
): Promise<CommandLine> {
  let now = peer;
  for (let i = 0; i < times; i++) {
    const { run } = await now.status('a status', () => true);
    const isDue = (epoch: number): boolean => epoch > run.epoch && epoch % 2 === 1;
    await now.status(
      'a seal that is due, or the end',
      ({ run: { epoch, state } }) => isDue(epoch) || state === 'finished',
    );
    await killed(now);
    now = again();
    await now.facts();
  }
  return now;
}

describe('an allowlist run of real peers that seal', () => {
  it('ends with one adapter, whoever comes late, is killed while sealing, or has a small disk', async () => {
    const names = ['clinic', 'shop', 'law', 'late'];
    const ids = await offices.peerIds(...names);
    // Of rank 16: the small disk is full after a dozen updates.
    const run = [...sealingRun(EPOCHS, 2, ids.slice(1)), '--rank', '16'];
    const clinic = offices.launch('clinic', ...run);
    const { address } = await clinic.facts();
    const startShop = (): CommandLine => offices.launch('shop', 'join', address);
    let shop = startShop();
    const law = offices.launch('law', 'join', address, ...LOG_DISK);
    for (const peer of [clinic, shop, law]) {
      await peer.status('a first seal', ({ adapter }) => adapter.sealedEpoch > 0);
    }

    const late = offices.launch('late', 'join', address);
    const [again] = await Promise.all([
      killWhileSealing(shop, startShop, 3),
      logThatShrinks('law'),
    ]);
    shop = again;
    const joined = await late.status('a certificate', ({ adapter }) => adapter.sealedEpoch > 0);
    assert.deepEqual(
      joined.attention.filter((said) => /evicted/.test(said)),
      [],
    );

    const peers = [clinic, shop, law, late];
    const reports = await oneAdapter(
      'one adapter, all of it sealed',
      peers,
      ({ run, adapter }) => run.state === 'finished' && adapter.sealedEpoch === LAST_SEAL,
    );
    const [{ adapter }] = reports as [(typeof reports)[0]];
    for (const report of reports) {
      assert.equal(report.adapter.updates, adapter.updates);
      assert.doesNotMatch(report.attention.join(' '), /evicted|copy of the data|agreed/);
    }
    // Each counts what the others sealed, also where the log begins later.
    for (const [i, id] of ids.entries()) {
      const counts = reports.flatMap((report, j) => (i === j ? [] : [updatesOf(report, id)]));
      assert.equal(new Set(counts).size, 1, `updates of ${names[i]}: ${counts.join(', ')}`);
    }
    const whole = await historyOf('clinic');
    assert.equal(whole.gone, null, 'the log of the founder is whole');
    assert.deepEqual(
      [whole.epochs.at(-1)?.sha256, whole.epochs.at(-1)?.updates],
      [adapter.sha256, adapter.updates],
      'what was sealed is what the updates fold to',
    );
    assert.ok((await historyOf('late')).gone, 'the late member has its adapter from a certificate');

    const logs = await Promise.all(['clinic', 'law'].map((name) => offices.logBytes(name)));
    assert.ok((logs[1] ?? 0) < (logs[0] ?? 0) && (logs[1] ?? 0) < 1e6, logs.join(' and '));
    const kept = await historyOf('law');
    assert.ok(kept.gone !== null && kept.gone.toEpoch > 0);
    for (const { epoch, sha256 } of kept.epochs) {
      assert.equal(sha256, whole.epochs.find((one) => one.epoch === epoch)?.sha256 ?? sha256);
    }
    assert.match(await offices.run('law', 'history'), /epochs 0 to \d+ are gone: .*--log-disk/);
    for (const name of names) {
      const said = await offices.run(name, 'export', '--json', offices.dirOf(`${name}-adapter`));
      const { sha256 } = JSON.parse(said) as { sha256: string };
      assert.equal(sha256, adapter.sha256, name);
    }
  });
});

/** Resolves with true once the log on disk of a peer is smaller than it was. */
async function logThatShrinks(name: string): Promise<true> {
  let largest = 0;
  return until(
    'a smaller log',
    async () => {
      const bytes = await offices.logBytes(name);
      if (bytes < largest) return true;
      largest = bytes;
      return null;
    },
    () => `${largest} bytes`,
  );
}
