import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { multiaddr } from '@multiformats/multiaddr';
import {
  HANDSHAKE_MS_MAX,
  HANDSHAKES_PER_NETWORK_MAX,
  HandshakeRoom,
} from '../../../node/net/handshake-room.js';

describe('HandshakeRoom', () => {
  const from = (text: string) => ({ remoteAddr: multiaddr(text) });
  const crowd = Array.from({ length: HANDSHAKES_PER_NETWORK_MAX }, (_, i) =>
    from(`/ip4/45.33.7.${i % 8}/tcp/${5000 + i}`),
  );
  const more = from('/ip4/45.33.7.9/tcp/1');

  it('is half of it for one public network, until its handshakes succeed or have had their time', () => {
    let nowMs = 0;
    const room = new HandshakeRoom(() => nowMs);
    for (const each of crowd) assert.equal(room.begin(each), true);
    assert.equal(room.begin(more), false);
    assert.equal(room.begin(from('/ip4/60.1.2.3/tcp/1')), true, 'another network');
    room.end(crowd[3]!);
    assert.equal(room.begin(more), true);
    nowMs = HANDSHAKE_MS_MAX;
    for (const each of crowd) assert.equal(room.begin(each), true);
  });

  it('has no such bound on one machine and in a private network', () => {
    const room = new HandshakeRoom(() => 0);
    for (let i = 1; i < 500; i++) {
      assert.equal(room.begin(from(`/ip4/127.0.0.1/tcp/${i}`)), true);
      assert.equal(room.begin(from(`/ip4/192.168.1.7/tcp/${i}`)), true);
    }
  });
});
