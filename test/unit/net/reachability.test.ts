import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { judge, type Check, type ReachFacts } from '../../../node/net/reachability.js';

const reached = (by: string, seen = '/ip4/45.0.0.9'): Check => ({ by, seen, ports: [4001] });
const missed = (by: string, seen = '/ip4/45.0.0.9'): Check => ({ by, seen, ports: [] });
const facts = (fields: Partial<ReachFacts>): ReachFacts => ({
  ...{ checks: [], relays: [], interfaces: ['/ip4/127.0.0.1', '/ip4/192.168.1.2'], port: 4001 },
  ...fields,
});

describe('judge()', () => {
  it('knows nothing before somebody has tried', () => {
    const { state, fix } = judge(facts({}));
    assert.deepEqual([state, fix], ['unknown', null]);
    assert.equal(judge(facts({ interfaces: ['/ip4/127.0.0.1'] })).state, 'local');
  });

  it('is public when others dialled from outside, and names them', () => {
    const { state, evidence, fix } = judge(facts({ checks: [reached('A'), missed('Liar')] }));
    assert.deepEqual([state, fix], ['public', null]);
    assert.equal(evidence, 'A dialled /ip4/45.0.0.9/tcp/4001');
    const many = judge(facts({ checks: ['A', 'B', 'C', 'D', 'E'].map((by) => reached(by)) }));
    assert.match(many.evidence, /^A, B, C and 2 more dialled /);
  });

  it('is local when only the own network has tried', () => {
    const check = { ...reached('A'), seen: '/ip4/192.168.1.2' };
    assert.equal(judge(facts({ checks: [check] })).state, 'local');
    assert.match(
      judge(facts({ checks: [check, missed('B')] })).state,
      /^private/,
      'one from outside could not',
    );
  });

  it('is private when most could not dial, reached through relays or not at all', () => {
    const checks = [missed('A'), missed('B'), reached('Liar')];
    assert.equal(judge(facts({ checks })).state, 'private-unreachable');
    const { state, relays, evidence } = judge(facts({ checks, relays: ['R'] }));
    assert.deepEqual([state, relays], ['private-relayed', ['R']]);
    assert.equal(evidence, 'A, B could not dial /ip4/45.0.0.9/tcp/4001');
  });

  it('says what to mend: the router in between, or the firewall where none is', () => {
    const router = judge(facts({ checks: [missed('A')] })).fix ?? '';
    assert.match(
      router,
      /^forward TCP port 4001 of the router at 45\.0\.0\.9 to this machine \(192\.168\.1\.2\), or start with --upnp/,
    );
    const own = judge(facts({ checks: [missed('A', '/ip4/192.168.1.2')] })).fix ?? '';
    assert.match(own, /^let TCP port 4001 in through the firewall/);
  });
});
