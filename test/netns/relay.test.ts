/**
 * A run across two routers that forward nothing: its peers meet through a relay, are told what that means, and
 * outlive the relay.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { makeSwarmKey } from '../../node/net/swarm-key.js';
import type { StatusReport } from '../../node/status.js';
import { until, type CommandLine } from '../net/command-line.js';
import type { Machine } from './namespaces.js';
import { setUp } from './set-up.js';

const BOOTSTRAP = '45.0.0.1';
const ROUTERS = { a: '45.0.1.1', b: '45.0.2.1', c: '45.0.3.1' };
const INSIDE = '192.168.1.2';
const PORT = 4001;
const EPOCHS = 16;

const { network, place, launch } = setUp('nat');

/** The network is private: relays, reach checks and reconnecting work with a swarm key as without (local.test.ts). */
const SWARM_KEY = ['--swarm-key', join(place, 'swarm.key')];

function peerArgs(name: string): string[] {
  return [
    ...SWARM_KEY,
    '--data',
    join(place, `${name}.txt`),
    '--threads',
    '1',
    '--listen',
    `/ip4/0.0.0.0/tcp/${PORT}`,
  ];
}

/** Tiny steps: the network is on trial here, not the training. */
const RUN = [
  ...['--name', 'offices', '--rank', '2', '--target-modules', 'q_proj', 'v_proj', '--steps', '1'],
  ...['--epochs', String(EPOCHS), '--epoch-seconds', '4', '--start-in', '1'],
  ...['--sequence-length', '16', '--batch-size', '2'],
];

const isConnected = ({ peers }: StatusReport, count: number): boolean =>
  peers.filter(({ address }) => address !== null).length === count;

describe('peers of a private network behind routers', () => {
  let bootstrap: CommandLine;
  let contact: string;
  let [a, b, c]: CommandLine[] = [];
  let [machineA, machineB, machineC, machineR]: Machine[] = [];

  before(async () => {
    await makeSwarmKey(join(place, 'swarm.key'));
    for (const name of ['a', 'b', 'c']) {
      const lines = Array.from({ length: 40 }, (_, i) => `Shelf ${i} of ${name} holds ${i * 7}.`);
      await writeFile(join(place, `${name}.txt`), lines.join('\n'));
    }
    const internet = await network.switch('internet');
    machineR = await network.machine('relay');
    await network.plug(machineR, internet, `${BOOTSTRAP}/8`);
    const behind = async (
      name: keyof typeof ROUTERS,
      mapping: 'endpoint-independent' | 'endpoint-dependent',
    ): Promise<{ machine: Machine; router: Machine }> => {
      const lan = await network.switch(`lan-${name}`);
      const machine = await network.machine(name);
      await network.plug(machine, lan, `${INSIDE}/24`, '192.168.1.1');
      const outside = { lan: internet, cidr: `${ROUTERS[name]}/8` };
      const inside = { lan, cidr: '192.168.1.1/24' };
      return { machine, router: await network.router(`nat-${name}`, outside, inside, mapping) };
    };
    machineA = (await behind('a', 'endpoint-independent')).machine;
    machineB = (await behind('b', 'endpoint-dependent')).machine;
    const { machine, router } = await behind('c', 'endpoint-independent');
    machineC = machine;
    await network.forwardPort(router, PORT, INSIDE);
  });

  const startBootstrap = (): CommandLine =>
    launch(machineR!, 'r', 'bootstrap', ...SWARM_KEY, '--listen', `/ip4/0.0.0.0/tcp/${PORT}`);

  it('meet through the bootstrap node, and are told who cannot dial them and what to do', async () => {
    bootstrap = startBootstrap();
    contact = await until(
      'the address of the bootstrap node',
      () =>
        new RegExp(`^address +(/ip4/${BOOTSTRAP}/\\S+)$`, 'm').exec(bootstrap.stdout)?.[1] ?? null,
      () => bootstrap.output(),
    );
    a = launch(machineA!, 'a', 'start', '--bootstrap', contact, ...RUN, ...peerArgs('a'));
    await a.facts();
    b = launch(machineB!, 'b', 'join', contact, ...peerArgs('b'));
    for (const peer of [a, b]) {
      const report = await peer.status(
        'the other peer and a place on the relay',
        (status) =>
          isConnected(status, 1) &&
          status.reachability.state === 'private-relayed' &&
          status.attention.some((sentence) => /^Everybody is connected through/.test(sentence)),
      );
      const { evidence, relays, fix } = report.reachability;
      const outside: string = peer === a ? ROUTERS.a : ROUTERS.b;
      const relay = contact.split('/').at(-1) ?? '';
      assert.deepEqual(relays, [relay]);
      assert.equal(evidence, `${relay} could not dial /ip4/${outside}/tcp/${PORT}`);
      assert.match(
        fix ?? '',
        new RegExp(
          `^forward TCP port ${PORT} of the router at ${outside} to this machine \\(${INSIDE}\\)`,
        ),
      );
      assert.match(report.peers[0]?.address ?? '', /\/p2p-circuit/);
    }
    await a.status('an update of the other', ({ peers }) => (peers[0]?.updatesAccepted ?? 0) > 0);
  });

  it('say what it means that their only relay is gone, and meet again when it is back', async () => {
    bootstrap.kill('SIGKILL');
    await bootstrap.ended();
    for (const peer of [a!, b!]) {
      await peer.status('the warning', ({ reachability, attention }) => {
        const isSaid = attention.some((sentence) => /^Nobody can dial this peer/.test(sentence));
        return isSaid && reachability.state === 'private-unreachable';
      });
    }
    bootstrap = startBootstrap();
    for (const peer of [a!, b!]) {
      await peer.status(
        'the other peer and a place',
        (status) => isConnected(status, 1) && status.reachability.state === 'private-relayed',
      );
    }
  });

  it('find a second relay in a peer whose router forwards the port', async () => {
    c = launch(machineC!, 'c', 'join', contact, '--relay', ...peerArgs('c'));
    const { peerId } = await c.facts();
    const report = await c.status(
      'a verdict',
      ({ reachability }) => reachability.state === 'public',
    );
    assert.match(
      report.reachability.evidence,
      new RegExp(`dialled /ip4/${ROUTERS.c}/tcp/${PORT}$`),
    );
    assert.ok(
      report.addresses.some((address) => address.startsWith(`/ip4/${ROUTERS.c}/tcp/${PORT}/`)),
    );
    for (const peer of [a!, b!]) {
      const { attention } = await peer.status(
        'a place on both relays',
        ({ reachability }) =>
          reachability.relays.includes(peerId) && reachability.relays.length === 2,
      );
      assert.deepEqual(
        attention.filter((sentence) => /relay/.test(sentence)),
        [],
      );
    }
  });

  it('go on when the bootstrap node has died for ever, and end with one adapter', async () => {
    bootstrap.kill('SIGKILL');
    await bootstrap.ended();
    const { peerId } = await c!.facts();
    for (const peer of [a!, b!]) {
      const { reachability } = await peer.status('two others', (status) => isConnected(status, 2));
      assert.deepEqual(reachability.relays, [peerId]);
    }
    // Whoever was dialled by it through a relay has dialled it back.
    await c!.status('direct connections alone', ({ peers }) =>
      peers.every(({ address }) => address !== null && !address.includes('/p2p-circuit')),
    );
    for (const peer of [a!, b!, c!]) {
      await peer.status('the end', ({ run }) => run.state === 'finished');
    }
    let hashes: string[] = [];
    await until(
      'one adapter',
      async () => {
        const now = await Promise.all(
          [a!, b!, c!].map((peer) => peer.status('a status', () => true)),
        );
        hashes = now.map(({ adapter }) => `${adapter.updates} ${adapter.sha256}`);
        return new Set(hashes).size === 1 ? true : null;
      },
      () => hashes.join('\n'),
    );
  });
});
