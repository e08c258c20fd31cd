import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { reachNote } from '../../../node/cli/reach.js';

describe('reachNote()', () => {
  it('is silent for addresses of this machine alone', () => {
    assert.equal(reachNote(['/ip4/127.0.0.1/tcp/4001/p2p/x', '/ip4/127.9.9.9/tcp/1']), '');
    assert.equal(reachNote(['/ip6/::1/tcp/4001/p2p/x']), '');
    assert.equal(reachNote([]), '');
  });

  it('is one line when any other machine can connect', () => {
    for (const address of ['/ip4/192.0.2.7/tcp/1', '/ip6/2001:db8::1/tcp/1', '/ip4/12.7.0.1/tcp/1'])
      assert.match(reachNote(['/ip4/127.0.0.1/tcp/1', address]), /^open to the network: [^\n]+\n$/);
  });
});
