/** A base model that no hub has, from members: real processes and an empty cache, and a host that a run does not admit. */
import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { SystemClock } from '../../node/clock.js';
import { GossipTransport } from '../../node/net/gossip-transport.js';
import { MemberStreams } from '../../node/net/member-streams.js';
import { BlobServer } from '../../node/peer/blob-server.js';
import { ModelFetch } from '../../node/peer/model-fetch.js';
import { Prng } from '../../protocol/prng.js';
import { blobOf, pattern } from '../support/blobs.js';
import { testRun } from '../support/runs.js';
import { TINY_BASE } from '../unit/model/fixtures.js';
import { CommandLine, until } from './command-line.js';
import { makeQuietHost, silent } from './harness.js';

let place = '';
const started: CommandLine[] = [];

before(async () => {
  place = await mkdtemp(join(tmpdir(), 'murmurate-members-'));
  process.env.HF_HOME = join(place, 'cache');
  const lines = Array.from({ length: 40 }, (_, i) =>
    JSON.stringify({ prompt: `number ${i}?`, completion: ` answer ${i * 7}` }),
  );
  await writeFile(join(place, 'data.jsonl'), `${lines.join('\n')}\n`);
  const model = join(place, 'other-base');
  await mkdir(model);
  for (const name of await readdir(TINY_BASE)) {
    if (/\.(json|jinja)$/.test(name)) await cp(join(TINY_BASE, name), join(model, name));
  }
  // One weight is another: nobody has this model but who was given its files.
  const weights = await readFile(join(TINY_BASE, 'model.safetensors'));
  weights[weights.length - 4]! ^= 1;
  await writeFile(join(model, 'model.safetensors'), weights);
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

/** Tiny steps, and more epochs than it takes: the test ends it. */
const RUN = [
  ...['--name', 'members', '--rank', '2', '--target-modules', 'q_proj', 'v_proj'],
  ...['--epochs', '200', '--epoch-seconds', '2', '--steps', '1'],
  ...['--sequence-length', '16', '--batch-size', '2'],
];

it('who lacks the model is told how to get it, gets it from members that share it, and trains with them', async () => {
  const model = ['--model', join(place, 'other-base')];
  const founder = launch('start', 'founder', ...RUN, ...model);
  const { address } = await founder.facts();
  const joiner = launch('join', 'joiner', address, '--model', 'peers');
  await until(
    'the sentence that nobody shares it',
    () =>
      /^none of the one member that is known shares other-base \(they start with --share-model\); asking again in \d/m.exec(
        joiner.stderr,
      ),
    () => joiner.output(),
  );
  const donors = [1, 2].map((i) => launch('join', `donor${i}`, address, ...model, '--share-model'));
  await joiner.facts();
  assert.match(joiner.stderr, /^fetching other-base from members, MB: 11 of 11$/m);
  assert.match(joiner.stderr, /^model other-base: fetched from members, in .*\/other-base$/m);
  const given = await Promise.all(donors.map((donor) => donor.status('its figures', () => true)));
  const bytes = given.map(({ modelBytesGiven }) => modelBytesGiven ?? 0);
  assert.ok(bytes[0]! + bytes[1]! > 11_000_000, bytes.join(' and '));
  // In the cache it is found by whoever wants it next, without being told to fetch anything.
  const second = launch('join', 'second', address);
  await second.facts();
  assert.match(second.stderr, /^model other-base: it is in the cache, in /m);
  assert.doesNotMatch(second.stderr, /fetching/);
  const all = [founder, joiner, second, ...donors];
  await founder.status(
    'updates of all others',
    ({ peers }) => peers.filter(({ updatesAccepted }) => updatesAccepted > 0).length === 4,
  );
  const sha256 = async (): Promise<string | null> => {
    const adapters = await Promise.all(all.map((each) => each.status('now', () => true)));
    const hashes = new Set(adapters.map(({ adapter }) => adapter.sha256));
    return hashes.size === 1 ? ([...hashes][0] ?? null) : null;
  };
  await until('one adapter at all', sha256, () => all.map((each) => each.output()).join('\n'));
});

it('a run gives its model to those whom it admits alone', async () => {
  const clock = new SystemClock();
  const stop = new AbortController();
  const run = testRun();
  const [donor, member, stranger] = [
    await makeQuietHost(),
    await makeQuietHost(),
    await makeQuietHost(),
  ];
  const { name, source } = blobOf(pattern(1000));
  const asked: string[] = [];
  const server = new BlobServer(
    {
      ...{ clock, runId: run.id, find: () => undefined },
      model: {
        find: (root) => {
          asked.push(root);
          return Promise.resolve(root === name.root ? source : undefined);
        },
      },
    },
    stop.signal,
  );
  const transport = new GossipTransport(donor, run.id, silent);
  const ignore = (): void => undefined;
  await transport.start({
    onGossip: () => 'ignore',
    onStream: (_kind, stream, from) => server.serve(stream, from),
    onConnect: ignore,
    onDisconnect: ignore,
    isMember: (peerId) => peerId === member.peerId,
  });
  const members = [
    {
      peerId: donor.peerId,
      addresses: donor.addresses().map((address) => address.replace(/\/p2p\/.*/, '')),
    },
  ];
  const fetchAt = async (host: typeof donor): Promise<Uint8Array | null> => {
    const streams = new MemberStreams({ host, run, contacts: [], members, admission: null });
    assert.ok(await streams.reach(donor.peerId, stop.signal), 'a connection is no membership');
    const random = new Prng(new Uint8Array(32), host.peerId);
    const fetch = new ModelFetch(
      { transport: streams, clock, runId: run.id, random, onLie: ignore },
      stop.signal,
    );
    return fetch.ask(donor.peerId, name);
  };
  try {
    const bytes = await fetchAt(member);
    assert.deepEqual(bytes && Uint8Array.from(bytes), pattern(1000));
    assert.deepEqual(asked, [name.root]);
    assert.equal(await fetchAt(stranger), null);
    assert.deepEqual(asked, [name.root], 'a stranger is not even heard');
  } finally {
    stop.abort(new RangeError('the test is over'));
    await transport.stop();
    for (const host of [donor, member, stranger]) await host.stop();
  }
});
