/** A bootstrap node on loopback while one process announces many names without end: real hosts and sockets. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { startBootstrap, type BootstrapNode } from '../../bootstrap/bootstrap-node.js';
import { parseAddress } from '../../node/net/addresses.js';
import type { Host } from '../../node/net/host.js';
import { announce, askRuns } from '../../node/net/introduce.js';
import { INTRODUCED_PEERS_MAX } from '../../protocol/limits.js';
import { encodeManifest } from '../../protocol/manifest-codec.js';
import type { Run } from '../../protocol/manifest.js';
import { sampleManifest } from '../unit/manifest-sample.js';
import { makeDirectory, makeQuietHost, silent } from './harness.js';

const LISTEN = ['/ip4/127.0.0.1/tcp/0'];
const MEMBERS = 4;
/** More than a run has places. */
const NAMES = 65;
const JUNK_RUNS = 8;
const signal = (): AbortSignal => AbortSignal.timeout(20_000);
const runNamed = (name: string): Run => encodeManifest({ ...sampleManifest(), name });

describe('a bootstrap node that 65 names announce themselves to, from the machine of all members', () => {
  const run = runNamed('offices');
  const hosts: Host[] = [];
  let directory: Awaited<ReturnType<typeof makeDirectory>>;
  let node: BootstrapNode;

  before(async () => {
    directory = await makeDirectory();
    node = await startBootstrap({ dir: directory.path, listen: LISTEN, logger: silent });
  });
  after(async () => {
    await Promise.all([node.stop(), ...hosts.map((host) => host.stop())]);
    await directory.remove();
  });

  const host = async (): Promise<Host> => {
    const made = await makeQuietHost();
    hosts.push(made);
    return made;
  };
  const announceTo = (from: Host, to: Run): ReturnType<typeof announce> =>
    announce(from, parseAddress(node.addresses()[0]!), to, null, signal());

  it('keeps the members, names them to a newcomer, and has room for a new run', async () => {
    const members = await Promise.all(Array.from({ length: MEMBERS }, host));
    for (const member of members) await announceTo(member, run);
    // One after the other: a slow machine does not finish 65 handshakes at a time.
    for (let i = 0; i < NAMES; i++) {
      const name = await host();
      await announceTo(name, run);
      if (i < 2 * JUNK_RUNS) await announceTo(name, runNamed(`junk ${i}`));
      if (i >= 2) await hosts.splice(hosts.indexOf(name), 1)[0]!.stop();
    }
    const newcomer = await host();
    const named = new Set((await announceTo(newcomer, run)).map(({ peerId }) => peerId));
    assert.ok(named.size <= INTRODUCED_PEERS_MAX);
    const known = members.filter(({ peerId }) => named.has(peerId)).length;
    assert.ok(known >= MEMBERS / 2, `${known} of ${MEMBERS} members named`);
    const founded = runNamed('founded');
    await announceTo(newcomer, founded);
    const runs = await askRuns(members[0]!, node.addresses()[0]!, signal());
    assert.ok(runs.some(({ run: { id } }) => id === founded.id));
    assert.equal(node.runs().find((each) => each.run.id === run.id)?.members, 64);
    for (const member of members) await announceTo(member, run);
    assert.equal(node.runs().find((each) => each.run.id === run.id)?.members, 64);
  });
});
