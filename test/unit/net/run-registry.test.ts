import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import type { Clock } from '../../../node/interfaces.js';
import { IntroduceError, NotAdmittedError } from '../../../node/net/errors.js';
import {
  PEER_ABSENT_MS,
  PEER_EXPIRY_MS,
  RUN_ABSENT_MS,
  RUN_EXPIRY_MS,
  RUNS_PER_PEER_MAX,
  RunRegistry,
  type Announcement,
} from '../../../node/net/run-registry.js';
import { sha256, toHex } from '../../../protocol/bytes.js';
import { InvalidManifestError } from '../../../protocol/errors.js';
import { RUN_PEERS_MAX, RUNS_MAX } from '../../../protocol/limits.js';
import { encodeManifest } from '../../../protocol/manifest-codec.js';
import type { Membership, Run } from '../../../protocol/manifest.js';
import { testIdentity } from '../../support/runs.js';
import { sampleManifest } from '../manifest-sample.js';

const ADDRESSES = ['/ip4/192.0.2.7/tcp/4001'];
const peer = (index: number): string => testIdentity(index).peerId;
/** Of peers on one machine, each of which counts by itself. */
const originOfPeer = (index: number): string => `key ${peer(index)}`;

function clockAt(now: () => number): Clock {
  return { now, sleep: () => Promise.reject(new RangeError('nobody waits here')) };
}

function runNamed(name: string, membership: Membership = { mode: 'open' }): Run {
  return encodeManifest({ ...sampleManifest(), name, membership });
}

describe('RunRegistry', () => {
  let nowMs: number;
  let changes: number;
  const make = (own: Run | null = null): RunRegistry =>
    new RunRegistry({ own, clock: clockAt(() => nowMs), onChange: () => changes++ });
  const offer = (registry: RunRegistry, index: number, run: Run): boolean =>
    registry.announce(peer(index), { ...from(index), runId: run.id, manifest: run.bytes });
  const from = (index: number): Pick<Announcement, 'addresses' | 'origin'> => ({
    addresses: ADDRESSES,
    origin: originOfPeer(index),
  });

  beforeEach(() => {
    nowMs = 1_000_000;
    changes = 0;
  });

  it('asks for the manifest of a run that it does not know, and needs it once', () => {
    const registry = make();
    const run = runNamed('a');
    const brief = (index: number): Announcement => ({
      ...from(index),
      runId: run.id,
      manifest: null,
    });
    assert.equal(registry.announce(peer(1), brief(1)), false);
    assert.equal(offer(registry, 1, run), true);
    assert.equal(registry.announce(peer(2), brief(2)), true);
    assert.equal(registry.list(run.id)[0]?.peers.length, 2);
    assert.deepEqual(registry.list('00'.repeat(32)), []);
  });

  it('refuses a manifest that is damaged or is that of another run', () => {
    const registry = make();
    const [a, b] = [runNamed('a'), runNamed('b')];
    const wrong = { ...from(1), runId: a.id, manifest: b.bytes };
    assert.throws(() => registry.announce(peer(1), wrong), IntroduceError);
    const cut = { ...from(1), runId: a.id, manifest: a.bytes.slice(0, -1) };
    assert.throws(() => registry.announce(peer(1), cut), IntroduceError);
    const manifest = a.bytes.slice(0, -1);
    const damaged = { ...from(1), runId: toHex(sha256(manifest)), manifest };
    assert.throws(() => registry.announce(peer(1), damaged), InvalidManifestError);
    assert.deepEqual(registry.list(null), []);
    assert.equal(changes, 0);
  });

  it('lists only the named members of a run with an allowlist', () => {
    const registry = make();
    const members = [{ peerId: peer(1), weight: 1 }];
    const run = runNamed('closed', { mode: 'allowlist', members });
    assert.throws(() => offer(registry, 2, run), NotAdmittedError);
    assert.equal(offer(registry, 1, run), true);
    assert.deepEqual(
      registry.list(run.id)[0]?.peers.map(({ peerId }) => peerId),
      [peer(1)],
    );
  });

  it('tells members, and who could meet them in an open run or by the list', () => {
    const registry = make();
    const members = [0, 1].map((i) => ({ peerId: peer(i), weight: 1 }));
    offer(registry, 0, runNamed('closed', { mode: 'allowlist', members }));
    assert.deepEqual(
      [0, 1].map((i) => registry.isMember(peer(i))),
      [true, false],
    );
    assert.ok(registry.mayMeet(peer(1), peer(0)), 'listed, and not announced yet');
    assert.ok(!registry.mayMeet(peer(0), peer(1)), 'not here');
    assert.ok(!registry.mayMeet(peer(2), peer(0)), 'not listed');
    offer(registry, 0, runNamed('open'));
    assert.ok(registry.mayMeet(peer(2), peer(0)));
    nowMs += PEER_EXPIRY_MS + 1;
    assert.ok(!registry.isMember(peer(0)) && !registry.mayMeet(peer(2), peer(0)));
  });

  it('drops members and runs that nobody renews, but never the own run', () => {
    const own = runNamed('own');
    const mine = make(own);
    const shared = make();
    const run = runNamed('a');
    offer(shared, 1, run);
    offer(mine, 1, own);
    nowMs += PEER_EXPIRY_MS;
    assert.equal(shared.list(run.id)[0]?.peers.length, 1);
    nowMs += 1;
    assert.equal(shared.list(run.id)[0]?.peers.length, 0);
    nowMs += RUN_EXPIRY_MS;
    assert.deepEqual(shared.list(null), []);
    assert.deepEqual(
      mine.list(null).map(({ run: { id }, peers }) => [id, peers.length]),
      [[own.id, 0]],
    );
  });

  it('lists the newest first, and gives the place of one that is gone to the next', () => {
    const registry = make();
    const run = runNamed('crowd');
    for (let i = 0; i < RUN_PEERS_MAX; i++) {
      nowMs++;
      offer(registry, i, run);
    }
    nowMs += PEER_ABSENT_MS;
    for (let i = 0; i < RUN_PEERS_MAX; i++) if (i !== 1) offer(registry, i, run);
    nowMs++;
    offer(registry, RUN_PEERS_MAX, run);
    const listed = registry.list(run.id)[0]?.peers.map(({ peerId }) => peerId) ?? [];
    assert.equal(listed.length, RUN_PEERS_MAX);
    assert.equal(listed[0], peer(RUN_PEERS_MAX));
    assert.ok(!listed.includes(peer(1)), 'peer 1 has said nothing since');
  });

  it('lets no single peer fill the list, and takes no more runs than the bound', () => {
    const registry = make();
    for (let i = 0; i < RUNS_MAX; i++) {
      const index = Math.floor(i / RUNS_PER_PEER_MAX);
      assert.equal(offer(registry, index, runNamed(`run ${i}`)), true);
    }
    assert.equal(registry.list(null).length, RUNS_MAX);
    assert.equal(offer(registry, 999, runNamed('one more')), true, 'of a peer that has none');
    assert.equal(registry.list(null).length, RUNS_MAX);
    const greedy = make();
    for (let i = 0; i < RUNS_PER_PEER_MAX; i++) offer(greedy, 1, runNamed(`run ${i}`));
    assert.throws(() => offer(greedy, 1, runNamed('one more')), IntroduceError);
    assert.equal(offer(greedy, 2, runNamed('one more')), true);
    nowMs += 60_000;
    assert.throws(() => offer(greedy, 1, runNamed('one more')), IntroduceError, 'nor join one');
  });

  it('keeps nothing of an announcement that it refuses', () => {
    const registry = make();
    const open = runNamed('open');
    const addresses = ['/ip4/192.0.2.7/udp/1'];
    const unusable = { ...from(1), runId: open.id, manifest: open.bytes, addresses };
    assert.throws(() => registry.announce(peer(1), unusable), IntroduceError);
    const closed = runNamed('closed', {
      mode: 'allowlist',
      members: [{ peerId: peer(1), weight: 1 }],
    });
    assert.throws(() => offer(registry, 2, closed), NotAdmittedError);
    assert.deepEqual(registry.list(null), []);
    assert.equal(changes, 0);
  });

  it('gives the place of a run that everybody left to a new one first', () => {
    const registry = make();
    const runs = Array.from({ length: RUNS_MAX }, (_, i) => runNamed(`run ${i}`));
    for (const [i, run] of runs.entries()) offer(registry, Math.floor(i / RUNS_PER_PEER_MAX), run);
    nowMs += RUN_ABSENT_MS + 1;
    for (const [i, run] of runs.entries())
      if (i > 0) offer(registry, Math.floor(i / RUNS_PER_PEER_MAX), run);
    assert.equal(registry.list(null).length, RUNS_MAX, 'it stays while there is room');
    const late = runNamed('late');
    assert.equal(offer(registry, 900, late), true);
    const listed = new Set(registry.list(null).map(({ run }) => run.id));
    assert.ok(listed.has(late.id) && !listed.has(runs[0]!.id));
    assert.equal(listed.size, RUNS_MAX);
  });

  it('is the same after a snapshot and a restore, and forgets what expired in between', () => {
    const registry = make();
    const [a, b] = [runNamed('a'), runNamed('b')];
    offer(registry, 1, a);
    nowMs += PEER_EXPIRY_MS / 2;
    offer(registry, 2, a);
    offer(registry, 3, b);
    const text = JSON.stringify(registry.snapshot());
    const again = make();
    again.restore(JSON.parse(text) as ReturnType<RunRegistry['snapshot']>);
    assert.equal(JSON.stringify(again.snapshot()), text);
    nowMs += PEER_EXPIRY_MS / 2 + 1;
    const later = make();
    later.restore(JSON.parse(text) as ReturnType<RunRegistry['snapshot']>);
    assert.deepEqual(
      later.list(a.id)[0]?.peers.map(({ peerId }) => peerId),
      [peer(2)],
    );
  });

  it('does not believe a snapshot from the future', () => {
    const registry = make();
    const run = runNamed('a');
    nowMs += 10 * RUN_EXPIRY_MS;
    offer(registry, 1, run);
    const snapshot = registry.snapshot();
    nowMs -= 10 * RUN_EXPIRY_MS;
    const again = make();
    again.restore(snapshot);
    nowMs += RUN_EXPIRY_MS + 1;
    assert.deepEqual(again.list(null), []);
  });
});
