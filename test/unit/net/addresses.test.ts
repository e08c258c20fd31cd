import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { cleanAddresses, parseAddress, peerIdOf } from '../../../node/net/addresses.js';
import { UserError } from '../../../node/errors.js';
import { ADDRESSES_MAX } from '../../../protocol/limits.js';

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

  it('refuses everything else as wrong usage, naming it', () => {
    const bad = [
      '',
      'localhost:4001',
      '/ip4/1.2.3.4',
      '/ip4/1.2.3.400/tcp/1',
      '/ip4/1.2.3.4/udp/1',
    ];
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

  it('looks at no more than the bound', () => {
    const texts = Array.from(
      { length: 2 * ADDRESSES_MAX },
      (_, i) => `/ip4/192.0.2.7/tcp/${i + 1}`,
    );
    assert.equal(cleanAddresses(SELF, texts).length, ADDRESSES_MAX);
  });
});
