/** Members of a run find each other in the DHT of this project, on private addresses. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { sha256, toHex } from '../../protocol/bytes.js';
import type { Host } from '../../node/net/host.js';
import { findMembers, provideRun, runCid } from '../../node/net/run-routing.js';
import { dial, makeHost, until } from './harness.js';

const MANIFEST = new TextEncoder().encode('not a manifest, but it has a hash');
const RUN_ID = toHex(sha256(MANIFEST));

describe('a run in the DHT', () => {
  let hosts: Host[];

  before(async () => {
    hosts = await Promise.all([makeHost(), makeHost(), makeHost()]);
    // Both know only the first, as with a bootstrap node.
    await dial(hosts[1]!, hosts[0]!);
    await dial(hosts[2]!, hosts[0]!);
  });

  after(async () => {
    await Promise.all(hosts.map((host) => host.stop()));
  });

  it('has the CID of its manifest', () => {
    assert.deepEqual([...runCid(RUN_ID).multihash.digest], [...sha256(MANIFEST)]);
    assert.equal(runCid(RUN_ID).toString().slice(0, 7), 'bafkrei');
  });

  it('leads to its members, and the run next to it does not', async () => {
    const signal = AbortSignal.timeout(20_000);
    await until('a member is found', async () => {
      await provideRun(hosts[1]!, RUN_ID, signal);
      const found = await findMembers(hosts[2]!, RUN_ID, signal);
      return found.some(({ peerId }) => peerId === hosts[1]!.peerId);
    });
    const [member] = await findMembers(hosts[2]!, RUN_ID, signal);
    assert.deepEqual(member?.addresses, [`/ip4/127.0.0.1/tcp/${hosts[1]!.listenPort()}`]);
    const other = toHex(sha256(MANIFEST, MANIFEST));
    assert.deepEqual(await findMembers(hosts[2]!, other, signal), []);
  });
});
