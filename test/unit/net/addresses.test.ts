import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { cleanAddresses, parseAddress, peerIdOf, relayOf } from '../../../node/net/addresses.js';
import { UserError } from '../../../node/errors.js';
import { ADDRESSES_MAX, RELAYED_ADDRESSES_MAX } from '../../../protocol/limits.js';

const SELF = '12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf';
const OTHER = '12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8';

describe('parseAddress', () => {
  it('takes TCP over IP or a name, with or without a peer id', () => {
    for (const text of [
      '/ip4/192.0.2.7/tcp/4001',
      '/ip6/::1/tcp/1',
      '/dns4/example.org/tcp/4001',
    ]) {
      assert.equal(parseAddress(text).toString(), text);
      assert.equal(peerIdOf(parseAddress(text)), null);
      assert.equal(peerIdOf(parseAddress(`${text}/p2p/${SELF}`)), SELF);
    }
  });

  it('takes one relay in between, which is not whom one reaches', () => {
    const relayed = `/ip4/192.0.2.7/tcp/4001/p2p/${OTHER}/p2p-circuit`;
    for (const [text, peerId] of [
      [relayed, null],
      [`${relayed}/p2p/${SELF}`, SELF],
    ] as const) {
      assert.equal(peerIdOf(parseAddress(text)), peerId);
      assert.equal(relayOf(parseAddress(text)), OTHER);
    }
    assert.equal(relayOf(parseAddress(`/ip4/192.0.2.7/tcp/4001/p2p/${SELF}`)), null);
    for (const text of [
      `${relayed}/p2p/${SELF}/p2p-circuit`,
      '/ip4/192.0.2.7/tcp/4001/p2p-circuit',
      `/p2p/${OTHER}/p2p-circuit`,
    ]) {
      assert.throws(() => parseAddress(text), UserError, text);
    }
  });

  it('refuses everything else as wrong usage, naming it', () => {
    const bad = [
      '',
      'localhost:4001',
      '/ip4/1.2.3.4',
      '/ip4/1.2.3.400/tcp/1',
      '/ip4/1.2.3.4/udp/1',
    ];
    bad.push('/ip4/1.2.3.4/tcp/1/p2p/0OIl', '/ip4/1.2.3.4/tcp/1/p2p/abc/p2p-circuit');
    bad.push('/dns4/exam\nple.org/tcp/1', '/dns4/exam ple.org/tcp/1');
    bad.push('/ip4/1.2.3.4/tcp/1/ws', '/ip4/1.2.3.4/tcp/70000', `/dns4/${'a'.repeat(600)}/tcp/1`);
    for (const text of bad) {
      assert.throws(
        () => parseAddress(text),
        (error: unknown) => error instanceof UserError && error.exitCode === 2,
        text,
      );
    }
  });
});

describe('cleanAddresses', () => {
  it('keeps distinct addresses of the peer itself, without the peer id', () => {
    const texts = [
      '/ip4/192.0.2.7/tcp/4001',
      `/ip4/192.0.2.7/tcp/4001/p2p/${SELF}`,
      `/ip4/192.0.2.8/tcp/4001/p2p/${OTHER}`,
      'junk',
      '/ip4/192.0.2.9/udp/4001',
    ];
    assert.deepEqual(cleanAddresses(SELF, texts), ['/ip4/192.0.2.7/tcp/4001']);
  });

  it('keeps a few through relays, after the direct ones, and none through the peer itself', () => {
    const through = (port: number, relay = OTHER): string =>
      `/ip4/192.0.2.9/tcp/${port}/p2p/${relay}/p2p-circuit`;
    const texts = [
      `${through(1)}/p2p/${SELF}`,
      through(1),
      through(2, SELF),
      ...[3, 4, 5, 6].map((port) => through(port)),
      ...Array.from({ length: ADDRESSES_MAX }, (_, i) => `/ip4/192.0.2.7/tcp/${i + 1}`),
    ];
    const clean = cleanAddresses(SELF, texts);
    assert.equal(clean.length, ADDRESSES_MAX);
    assert.deepEqual(
      clean.slice(-RELAYED_ADDRESSES_MAX),
      [1, 3, 4, 5].map((port) => through(port)),
    );
    assert.ok(
      clean.slice(0, -RELAYED_ADDRESSES_MAX).every((text) => relayOf(parseAddress(text)) === null),
    );
  });

  it('looks at no more than the bound', () => {
    const texts = Array.from(
      { length: 2 * ADDRESSES_MAX },
      (_, i) => `/ip4/192.0.2.7/tcp/${i + 1}`,
    );
    assert.equal(cleanAddresses(SELF, texts).length, ADDRESSES_MAX);
  });
});
