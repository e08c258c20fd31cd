import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { KINDS_OF_BYTE, leavings } from '../../../node/cli/what-leaves.js';
import { TrafficMeter } from '../../../node/net/traffic.js';
import { ROOT } from '../model/fixtures.js';

describe('murmurate what-leaves', () => {
  it('says of every purpose that is counted what it holds', () => {
    const counted = Object.keys(new TrafficMeter().traffic().bytesOut);
    const purposes = KINDS_OF_BYTE.map(({ purpose }) => purpose).filter((one) => one !== null);
    assert.deepEqual(['total', ...purposes].toSorted(), counted.toSorted());
  });

  it('says to whom how much of each kind went, most first, and all peers together', () => {
    const kinds = leavings({
      bytesIn: { total: 0 },
      bytesOut: { total: 100, gossip: 60, sync: 10, other: 30 },
      sentTo: [
        { peerId: 'a', bytes: { gossip: 20, sync: 10 } },
        { peerId: 'b', bytes: { gossip: 35 } },
        { peerId: null, bytes: { gossip: 5 } },
      ],
    });
    const gossip = kinds.find(({ purpose }) => purpose === 'gossip');
    assert.equal(gossip?.bytes, 60);
    assert.deepEqual(gossip.to, [
      { peerId: 'b', bytes: 35 },
      { peerId: 'a', bytes: 20 },
      { peerId: null, bytes: 5 },
    ]);
    assert.deepEqual(kinds.find(({ purpose }) => purpose === 'dht')?.to, []);
    assert.equal(kinds.find(({ name }) => name === 'UPnP')?.bytes, null);
  });

  it('says the same as docs/WHAT-LEAVES.md', () => {
    const document = readFileSync(join(ROOT, 'docs/WHAT-LEAVES.md'), 'utf8');
    for (const { name, holds, lacks } of KINDS_OF_BYTE) {
      assert.ok(document.includes(`| ${name} | ${holds} | ${lacks} |`), name);
    }
  });
});
