/** A base model that no hub has, from members: real processes and an empty cache, and a host that a run does not admit. */
import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { modelFromMembers } from '../../node/cli/member-model.js';
import { SystemClock } from '../../node/clock.js';
import type { ModelSource } from '../../node/interfaces.js';
import { fingerprintModel } from '../../node/model/fingerprint.js';
import { listModelFiles } from '../../node/model/model-listing.js';
import { SharedModel } from '../../node/model/shared-model.js';
import { cleanAddresses } from '../../node/net/addresses.js';
import { GossipTransport } from '../../node/net/gossip-transport.js';
import type { Host } from '../../node/net/host.js';
import { MemberStreams } from '../../node/net/member-streams.js';
import type { PeerAddresses } from '../../node/net/run-registry.js';
import { BlobServer } from '../../node/peer/blob-server.js';
import { ModelFetch } from '../../node/peer/model-fetch.js';
import type { BlobSource } from '../../protocol/blob.js';
import type { Run } from '../../protocol/manifest.js';
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

describe('a run whose model is shared', () => {
  const clock = new SystemClock();
  const ignore = (): void => undefined;
  let stop = new AbortController();
  let hosts: Host[] = [];
  let transport: GossipTransport;

  beforeEach(async () => {
    stop = new AbortController();
    hosts = [await makeQuietHost(), await makeQuietHost(), await makeQuietHost()];
  });

  afterEach(async () => {
    stop.abort(new RangeError('the test is over'));
    await transport.stop();
    for (const host of hosts) await host.stop();
  });

  /** The first host gives `model` to those whom the run admits; resolves with how it is reached. */
  async function donate(
    run: Run,
    model: ModelSource,
    isMember: (peerId: string) => boolean,
  ): Promise<PeerAddresses> {
    const donor = hosts[0]!;
    const parts = { clock, runId: run.id, find: () => undefined, model };
    const server = new BlobServer(parts, stop.signal);
    transport = new GossipTransport(donor, run.id, silent);
    await transport.start({
      onGossip: () => 'ignore',
      onStream: (_kind, stream, from) => server.serve(stream, from),
      onConnect: ignore,
      onDisconnect: ignore,
      isMember,
    });
    return { peerId: donor.peerId, addresses: cleanAddresses(donor.peerId, donor.addresses()) };
  }

  it('gives it to those whom it admits alone', async () => {
    const run = testRun();
    const [, member, stranger] = hosts;
    const { name, source } = blobOf(pattern(1000));
    const asked: string[] = [];
    const find = async (root: string): Promise<BlobSource | undefined> => {
      asked.push(root);
      return Promise.resolve(root === name.root ? source : undefined);
    };
    const donor = await donate(run, { find }, (peerId) => peerId === member!.peerId);
    const fetchAt = async (host: Host): Promise<Uint8Array | null> => {
      const streams = new MemberStreams({
        ...{ host, run, contacts: [], members: [donor], admission: null },
      });
      assert.ok(await streams.reach(donor.peerId, stop.signal), 'a connection is no membership');
      const random = new Prng(new Uint8Array(32), host.peerId);
      const parts = { transport: streams, clock, runId: run.id, random, onLie: ignore };
      return new ModelFetch(parts, stop.signal).ask(donor.peerId, name);
    };
    const bytes = await fetchAt(member!);
    assert.deepEqual(bytes && Uint8Array.from(bytes), pattern(1000));
    assert.equal(await fetchAt(stranger!), null);
    assert.deepEqual(asked, [name.root], 'a stranger is not even heard');
  });

  it('is fetched once by two that want it, not kept where it is another than the run says, and not waited for in silence', async () => {
    const listing = await listModelFiles(TINY_BASE);
    const fingerprint = await fingerprintModel(TINY_BASE);
    const [, first, second] = hosts;
    const given: string[] = [];
    const shared = new SharedModel(listing);
    const find: ModelSource['find'] = (root) => {
      given.push(root);
      return shared.find(root);
    };
    const runOn = (weightsSha256: string): Run =>
      testRun((manifest) => ({
        ...manifest,
        model: { ...fingerprint, weightsSha256, files: listing.name },
      }));
    let env = { HF_HUB_CACHE: join(place, 'another-cache') };
    const fetchAt = async (
      host: Host,
      run: Run,
      donor: PeerAddresses,
      timeoutMs = 60_000,
    ): Promise<string> => {
      const io = { stderr: new PassThrough().resume(), terminal: false, signal: stop.signal };
      const files = listing.name;
      const asking = { host, run, contacts: [], members: [donor], admission: null };
      return modelFromMembers({ ...asking, files, env, timeoutMs, io });
    };
    const run = runOn(fingerprint.weightsSha256);
    const donor = await donate(run, { find }, () => true);
    const dirs = await Promise.all([first!, second!].map((host) => fetchAt(host, run, donor)));
    assert.equal(dirs[0], dirs[1]);
    assert.deepEqual(await fingerprintModel(dirs[0]!), fingerprint);
    const parts = listing.files.flatMap((file) => file.parts);
    assert.deepEqual(given.filter((root) => parts.includes(root)).sort(), [...parts].sort());
    await transport.stop();
    const forged = runOn('ab'.repeat(32));
    const liar = await donate(forged, { find }, () => true);
    await assert.rejects(
      fetchAt(first!, forged, liar),
      /are not its own base model \(the weights .* differs?.*nothing was kept; tell its founder$/,
    );
    const left = await readdir(join(env.HF_HUB_CACHE, 'murmurate'), { recursive: true });
    assert.ok(!left.some((file) => file.includes('.partial')), left.join(' '));
    await transport.stop();
    // It has the catalogue and nothing else.
    const only: ModelSource['find'] = (root) =>
      root === listing.name.root ? find(root) : Promise.resolve(undefined);
    const poor = await donate(run, { find: only }, () => true);
    env = { HF_HUB_CACHE: join(place, 'third-cache') };
    await assert.rejects(
      fetchAt(second!, run, poor, 2500),
      /^UserError: nothing more of tiny-base came; gave up after 2\.5 s \(--timeout\)$/,
    );
  });
});
