/** Peers in a program: two of them agree, pause, stop and go on; and the file that init writes starts one. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { runProgram } from '../../node/cli/program.js';
import { VERBS } from '../../node/cli/verbs.js';
import { Peer, type StartOptions, type StatusReport } from '../../node/index.js';
import { PACKAGE_DIRECTORY } from '../../node/version.js';
import { CommandLine, until } from './command-line.js';
import { makeDirectory } from './harness.js';

const EPOCHS = 4;

function dataOf(office: string): string {
  return join(PACKAGE_DIRECTORY, 'examples', 'three-offices', 'data', `${office}.jsonl`);
}

async function all(reports: AsyncIterable<StatusReport>): Promise<StatusReport[]> {
  const found: StatusReport[] = [];
  for await (const report of reports) found.push(report);
  return found;
}

describe('a peer in a program', () => {
  let directory: Awaited<ReturnType<typeof makeDirectory>>;
  before(async () => {
    directory = await makeDirectory();
  });
  const peers: Peer[] = [];
  after(async () => {
    for (const peer of peers) await peer.stop();
    await directory.remove();
  });
  /** A peer that ends with the tests, whatever becomes of them. */
  const opened = async (opening: Promise<Peer>): Promise<Peer> => {
    const peer = await opening;
    peers.push(peer);
    return peer;
  };
  const optionsFor = (office: string): StartOptions => ({
    ...{
      dir: join(directory.path, office),
      data: [dataOf(office)],
      listen: ['/ip4/127.0.0.1/tcp/0'],
    },
    ...{ noMdns: true, device: 'cpu', threads: 1, batchSize: 2, sequenceLength: 64, steps: 2 },
  });
  const joinOptionsFor = (office: string): Parameters<typeof Peer.join>[1] => {
    const { dir, data, listen, noMdns, device, threads } = optionsFor(office);
    return { dir, data, listen, noMdns, device, threads } as Parameters<typeof Peer.join>[1];
  };

  it('founds, joins, reports each epoch, agrees, exports, stops and resumes', async () => {
    const founding = { ...optionsFor('clinic'), epochs: EPOCHS, epochSeconds: 4, startIn: 8 };
    const founder = await opened(Peer.start(founding));
    const reading = all(founder.epochs());
    const [address = ''] = founder.status().addresses;
    const guest = await opened(Peer.join(address, joinOptionsFor('law-office')));
    const reports = await reading;
    assert.deepEqual(
      reports.map(({ run }) => run.epoch),
      Array.from({ length: EPOCHS }, (_, i) => i + 1),
    );
    assert.equal(reports.at(-1)?.run.state, 'finished');
    const isOne = (): true | null => {
      const [ours, others] = [founder, guest].map((peer) => peer.status().adapter);
      return (ours?.sha256 === others?.sha256 && (ours?.updates ?? 0) >= EPOCHS) || null;
    };
    await until('both to hold one adapter', isOne);
    await founder.exportAdapter(join(directory.path, 'adapter'));
    assert.throws(() => founder.invite(1), /this run is open/);
    await founder.stop();
    await founder.stop();
    await founder.done;
    assert.deepEqual(await all(founder.epochs()), []);
    await guest.stop();
    const again = await opened(Peer.start(founding));
    assert.equal(again.status().run.id, reports[0]?.run.id);
  });

  it('ends while it is being opened when its signal aborts', async () => {
    const abort = new AbortController();
    const opening = Peer.join('/ip4/127.0.0.1/tcp/1', {
      ...joinOptionsFor('machine-shop'),
      signal: abort.signal,
    });
    abort.abort(new Error('not today'));
    await assert.rejects(opening, /not today/);
  });
});

describe('the file that murmurate init writes', () => {
  it('starts a peer, which a contradicting file does not resume', async () => {
    const directory = await makeDirectory();
    const file = join(directory.path, 'murmurate.yaml');
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const { signal } = new AbortController();
    const io = { stdout, stderr, terminal: false, signal, interrupt: (): void => undefined };
    const flags = ['--data', dataOf('clinic'), '--found', '--invite-only'];
    assert.equal(await runProgram(VERBS, ['init', file, ...flags], io, {}), 0);
    const dir = join(directory.path, 'peer');
    const small = [
      '--device',
      'cpu',
      '--epoch-seconds',
      '5',
      '--listen',
      '/ip4/127.0.0.1/tcp/0',
      '--no-mdns',
    ];
    const peer = new CommandLine(['start', '--config', file, '--dir', dir, ...small]);
    try {
      const report = await peer.status('the run', () => true);
      assert.equal(report.membership.mode, 'invite');
      peer.kill('SIGINT');
      assert.equal(await peer.ended(), 0, peer.output());
    } finally {
      await peer.dispose();
    }
    const environment = { MURMURATE_CONFIG: file, MURMURATE_EPOCHS: '31' };
    assert.equal(await runProgram(VERBS, ['start', '--dir', dir, ...small], io, environment), 2);
    assert.match(
      String(stderr.read()),
      /which these options contradict: --epochs 31 of MURMURATE_EPOCHS \(the run has 30\)/,
    );
    await directory.remove();
  });
});
