/**
 * A router that forwards what it is asked to: doctor says that there is one and what to do, and with --upnp a peer behind
 * it can be dialled, and says so.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { until } from '../net/command-line.js';
import { setUp } from './set-up.js';

const BOOTSTRAP = '45.0.0.1';
const ROUTER = '45.0.1.1';
const OUTSIDE = '45.0.2.1';
const INSIDE = '192.168.1.2';
const GATEWAY = '192.168.1.1';

/** A line of doctor. */
interface Row {
  check: string;
  level: string;
  text: string;
  fix: string | null;
}

const { network, place, launch } = setUp('upnp');

describe('a peer behind a router that speaks UPnP', () => {
  it('is public with --upnp, and is dialled directly from outside', async () => {
    const data = join(place, 'notes.txt');
    const lines = Array.from({ length: 40 }, (_, i) => `Shelf ${i} holds ${i * 7}.`);
    await writeFile(data, lines.join('\n'));
    const [internet, lan] = [await network.switch('internet'), await network.switch('lan')];
    const [relay, home, outside] = [
      await network.machine('relay'),
      await network.machine('home'),
      await network.machine('outside'),
    ];
    await network.plug(relay, internet, `${BOOTSTRAP}/8`);
    await network.plug(outside, internet, `${OUTSIDE}/8`);
    await network.plug(home, lan, `${INSIDE}/24`, GATEWAY);
    const router = await network.router(
      'router',
      { lan: internet, cidr: `${ROUTER}/8` },
      { lan, cidr: `${GATEWAY}/24` },
      'endpoint-independent',
    );
    await network.answerUpnp(router, ROUTER, join(place, 'miniupnpd.conf'));

    const listen = ['--listen', '/ip4/0.0.0.0/tcp/4001'];
    const peer = [...listen, '--data', data, '--threads', '1'];
    const bootstrap = launch(relay, 'r', 'bootstrap', ...listen);
    const contact = await until(
      'the address of the bootstrap node',
      () =>
        new RegExp(`^address +(/ip4/${BOOTSTRAP}/\\S+)$`, 'm').exec(bootstrap.stdout)?.[1] ?? null,
      () => bootstrap.output(),
    );
    // Beside the peers: it has ports and a directory of its own.
    const short = [
      '--sequence-length',
      '8',
      '--batch-size',
      '1',
      '--threads',
      '1',
      '--device',
      'cpu',
    ];
    const doctor = launch(home, 'd', 'doctor', '--json', ...short, '--bootstrap', contact);
    const run = ['--rank', '2', '--target-modules', 'q_proj', '--steps', '1', '--epochs', '50'];
    const tiny = ['--epoch-seconds', '4', '--sequence-length', '16', '--batch-size', '2'];
    const founding = ['start', '--upnp', '--bootstrap', contact, ...run, ...tiny];
    const a = launch(home, 'a', ...founding, ...peer);
    await a.facts();
    const { reachability, addresses } = await a.status(
      'a public verdict',
      (status) => status.reachability.state === 'public',
    );
    assert.match(reachability.evidence, new RegExp(`dialled /ip4/${ROUTER}/tcp/4001$`));
    const direct = addresses.find((address) => address.startsWith(`/ip4/${ROUTER}/tcp/4001/`));
    assert.ok(direct, addresses.join());
    const b = launch(outside, 'b', 'join', direct, ...peer);
    const { peers } = await b.status('an update of the other', (status) =>
      status.peers.some(({ updatesAccepted }) => updatesAccepted > 0),
    );
    assert.match(peers[0]?.address ?? '', new RegExp(`^/ip4/${ROUTER}/tcp/4001`));

    assert.equal(await doctor.ended(), 0, doctor.output());
    const { findings } = JSON.parse(doctor.stdout) as { findings: Row[] };
    const [ofRouter] = findings.filter(({ check }) => check === 'router');
    assert.deepEqual(ofRouter, {
      ...{ check: 'router', level: 'ok', fix: null },
      text: `the router at ${GATEWAY} (${ROUTER}) forwards ports on request: --upnp makes use of it`,
    });
    const reached = findings.filter(({ check }) => check === 'network').at(-1);
    assert.equal(reached?.level, 'warn');
    assert.match(reached.text, /^private-unreachable: /);
    assert.match(reached.fix ?? '', /start with --upnp to ask the router for it/);
  });
});
