import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import type { Host } from '../../node/net/host.js';
import { SHORT_MAX, ShortConnections } from '../../node/net/short-connections.js';
import { dial, makeQuietHost, until } from './harness.js';

describe('ShortConnections', () => {
  const hosts: Host[] = [];
  after(() => Promise.all(hosts.map((host) => host.stop())));

  it('says that members end each connection at once, and nothing of others, or while one stays', async () => {
    const [self, member, other] = [
      await makeQuietHost(),
      await makeQuietHost(),
      await makeQuietHost(),
    ];
    hosts.push(self, member, other);
    const short = new ShortConnections(self.libp2p, (peerId) => peerId === member.peerId);
    short.start();
    const meetAndPart = async (remote: Host): Promise<void> => {
      await dial(self, remote);
      await until('it is known there', () => remote.libp2p.getConnections().length === 1);
      await Promise.all(remote.libp2p.getConnections().map((connection) => connection.close()));
      await until('it has ended', () => self.libp2p.getConnections().length === 0);
    };
    for (let i = 0; i < SHORT_MAX; i++) await meetAndPart(other);
    for (let i = 1; i < SHORT_MAX; i++) await meetAndPart(member);
    assert.deepEqual(short.attention(0), []);
    await meetAndPart(member);
    assert.match(short.attention(0).join(), /5 times in a row.*copy of the data directory/);
    assert.deepEqual(short.attention(1), []);
    short.stop();
  });
});
