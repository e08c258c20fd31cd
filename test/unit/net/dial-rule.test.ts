import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Candidates } from '../../../node/net/candidates.js';
import { DEGREE, DialRule, ROAM_INTERVAL_MS } from '../../../node/net/dial-rule.js';

/** Enough that this peer dialled itself, in networks of their own. */
const outbound = { count: DEGREE, addresses: [] };

const addresses = ['/ip4/127.0.0.1/tcp/4001'];
const enough = new Set(Array.from({ length: DEGREE }, (_, i) => `friend ${i}`));

function make(names: readonly string[], random: () => number): [Candidates, DialRule] {
  const candidates = new Candidates(random);
  for (const peerId of [...enough, ...names]) candidates.heard({ peerId, addresses });
  return [candidates, new DialRule(candidates, random)];
}

describe('DialRule', () => {
  it('dials at once below the degree, and never more than is missing', () => {
    const [, rule] = make(['a', 'b', 'c'], () => 0.5);
    const fewer = new Set([...enough].slice(0, DEGREE - 1));
    assert.equal(rule.choose(fewer, 0, 0, outbound).length, 1);
    assert.equal(rule.choose(fewer, 1, 0, outbound).length, 0);
  });

  it('dials one more at the degree, once in an interval', () => {
    const [, rule] = make(['a', 'b', 'c'], () => 0.5);
    let dials = 0;
    for (let nowMs = 0; nowMs <= 10 * ROAM_INTERVAL_MS; nowMs += 500) {
      const chosen = rule.choose(enough, 0, nowMs, outbound);
      assert.ok(chosen.length <= 1);
      dials += chosen.length;
    }
    assert.ok(dials >= 9 && dials <= 11, `${dials} dials in ten intervals`);
  });

  it('gives everyone its turn, former members and new names, whoever does not answer', () => {
    let flips = 0;
    const alternating = (): number => (flips++ % 2) * 0.75;
    const lost = Array.from({ length: 10 }, (_, i) => `lost ${i}`);
    const fresh = Array.from({ length: 10 }, (_, i) => `new ${i}`);
    const [candidates, rule] = make([...lost, ...fresh], alternating);
    candidates.markConnected(new Set([...enough, ...lost]), 1);
    const tried = new Set<string>();
    for (let nowMs = 1; nowMs < 60 * ROAM_INTERVAL_MS; nowMs += ROAM_INTERVAL_MS / 4) {
      candidates.markConnected(enough, nowMs);
      for (const candidate of rule.choose(enough, 0, nowMs, outbound)) {
        candidates.attempt(candidate, nowMs);
        tried.add(candidate.peerId);
      }
    }
    assert.deepEqual(tried, new Set([...lost, ...fresh]));
  });

  it('lets go of one that it dialled when those are more than its degree, and of no other', () => {
    const [, rule] = make([], () => 0.99);
    const dialled = Array.from({ length: DEGREE + 1 }, (_, i) => i);
    assert.equal(rule.surplus(dialled.slice(1), dialled.slice(1)), null);
    assert.equal(rule.surplus(dialled, [3, 4]), 4);
    assert.equal(rule.surplus(dialled, []), null);
  });
});
