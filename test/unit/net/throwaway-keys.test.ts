/**
 * Keys cost nothing: what hundreds of them, announced without end, do to a bootstrap node and to whoever asks it. In
 * virtual time, from one network, from several and on one machine.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { IntroduceError, NotAdmittedError } from '../../../node/net/errors.js';
import { originOf } from '../../../node/net/origin.js';
import { RunRegistry, RUNS_PER_PEER_MAX } from '../../../node/net/run-registry.js';
import { sha256, toHex } from '../../../protocol/bytes.js';
import { INTRODUCED_PEERS_MAX, RUN_PEERS_MAX, RUNS_MAX } from '../../../protocol/limits.js';
import { encodeManifest } from '../../../protocol/manifest-codec.js';
import type { Membership, Run } from '../../../protocol/manifest.js';
import { Prng } from '../../../protocol/prng.js';
import { inviteRun, testAdmission } from '../../support/invites.js';
import { testIdentity } from '../../support/runs.js';
import { sampleManifest } from '../manifest-sample.js';

const HOUR_MS = 3_600_000;
const ANSWER_BYTES = 3 * 1024 * 1024;
const HOSTILE_INTERVAL_MS = 2_000;
const HONEST_INTERVAL_MS = 30_000;
const NAMES = 65;

const isHostile = (peerId: string): boolean => peerId.startsWith('hostile');

function runNamed(name: string, membership: Membership = { mode: 'open' }): Run {
  return encodeManifest({ ...sampleManifest(), name, membership });
}

/** A peer, and the address that its connection comes from. */
interface Name {
  peerId: string;
  from: string;
}

/** Honest ones live each in a network of its own, unless all live on one machine. */
const honest = (count: number, onLoopback = false, first = 0): Name[] =>
  Array.from({ length: count }, (_, i) => ({
    peerId: `honest ${first + i}`,
    from: onLoopback ? `/ip4/127.0.0.1/tcp/${5000 + i}` : `/ip4/${60 + first + i}.1.2.3/tcp/4001`,
  }));

/** The `round`th names of an attacker: the same ones each time, or others. */
type Hostile = (round: number) => Name[];

const hostile =
  (networks: number, { fresh = false, count = NAMES } = {}): Hostile =>
  (round) =>
    Array.from({ length: count }, (_, i) => ({
      peerId: `hostile ${fresh ? round * count + i : i}`,
      from: `/ip4/45.33.${i % networks}.${1 + (i % 250)}/tcp/4001`,
    }));

const onLoopback =
  (names: Hostile): Hostile =>
  (round) =>
    names(round).map(({ peerId }) => ({ peerId, from: '/ip4/127.0.0.1/tcp/4001' }));

class World {
  nowMs = 1_700_000_000_000;
  readonly registry: RunRegistry;
  readonly connected = new Set<string>();

  constructor(seed: string) {
    const prng = new Prng(new Uint8Array(32), seed);
    this.registry = new RunRegistry({
      own: null,
      clock: { now: () => this.nowMs, sleep: () => Promise.reject(new RangeError('no waiting')) },
      random: () => prng.nextFloat(),
      connected: () => this.connected,
    });
  }

  /** True when it was taken; false when it was refused for want of room or budget. */
  announce({ peerId, from }: Name, run: Run): boolean {
    const claimed = [`/ip4/99.${peerId.length}.1.1/tcp/4001`];
    const announcement = { runId: run.id, addresses: claimed, origin: originOf(peerId, from) };
    try {
      return this.registry.announce(peerId, { ...announcement, manifest: run.bytes });
    } catch (error) {
      if (error instanceof IntroduceError || error instanceof NotAdmittedError) return false;
      throw error;
    }
  }

  listed(run: Run): string[] {
    return this.registry.list(run.id)[0]?.peers.map(({ peerId }) => peerId) ?? [];
  }

  /** What one who comes now is told. */
  told(run: Run): string[] {
    const [known] = this.registry.introduce('newcomer', run.id, ANSWER_BYTES);
    return known?.peers.map(({ peerId }) => peerId) ?? [];
  }

  /** Lets members announce themselves every 30 s, and hostile names every 2 s. */
  pass(
    ms: number,
    run: Run,
    members: readonly Name[],
    names: Hostile | null,
    each = (): void => undefined,
  ): void {
    const end = this.nowMs + ms;
    for (let round = 0; this.nowMs < end; round++, this.nowMs += HOSTILE_INTERVAL_MS) {
      for (const name of names?.(round) ?? []) this.announce(name, run);
      for (const [i, member] of members.entries()) {
        const due = (round * HOSTILE_INTERVAL_MS) % HONEST_INTERVAL_MS;
        if (due === (i * HOSTILE_INTERVAL_MS) % HONEST_INTERVAL_MS) this.announce(member, run);
      }
      each();
    }
  }
}

const share = (names: readonly string[]): number =>
  names.filter((name) => !isHostile(name)).length / names.length;

describe('65 names that announce themselves every 2 s', () => {
  const run = runNamed('offices');
  const members = honest(20);
  const cases: [string, Hostile, number][] = [
    ['from one network', hostile(1), 0.7],
    ['from one network, other ones each time', hostile(1, { fresh: true }), 0.7],
    ['from eight networks', hostile(8), 0.5],
    ['from eight networks, other ones each time', hostile(8, { fresh: true }), 0.5],
    ['each from a network of its own', hostile(NAMES), 0.4],
    ['each from a network of its own, other ones each time', hostile(NAMES, { fresh: true }), 0.4],
  ];
  for (const [where, names, least] of cases) {
    it(`${where}, push out no member, and a newcomer hears of the members`, () => {
      const world = new World(where);
      world.pass(HOUR_MS / 6, run, members, null);
      world.pass(HOUR_MS / 6, run, members, names);
      const listed = new Set(world.listed(run));
      assert.deepEqual(
        members.filter(({ peerId }) => !listed.has(peerId)),
        [],
      );
      assert.ok(listed.size <= RUN_PEERS_MAX);
      const answers = Array.from({ length: 40 }, () => world.told(run));
      assert.ok(answers.every(({ length }) => length <= INTRODUCED_PEERS_MAX));
      const mean = answers.reduce((sum, told) => sum + share(told), 0) / answers.length;
      assert.ok(mean >= least, `${(100 * mean).toFixed(0)} % of those named are honest`);
      assert.equal(new Set(answers.flat().filter((name) => !isHostile(name))).size, members.length);
    });
  }

  it('on the machine where all members are, push out no member, and a newcomer hears of them', () => {
    for (const fresh of [false, true]) {
      const world = new World(`loopback ${fresh}`);
      const local = honest(20, true);
      world.pass(HOUR_MS / 6, run, local, null);
      world.pass(HOUR_MS / 6, run, local, onLoopback(hostile(1, { fresh })));
      assert.deepEqual(world.listed(run).filter((name) => !isHostile(name)).length, local.length);
      const answers = Array.from({ length: 40 }, () => world.told(run));
      const mean = answers.reduce((sum, told) => sum + share(told), 0) / answers.length;
      assert.ok(mean >= 0.4, `${(100 * mean).toFixed(0)} % of those named are honest`);
    }
  });

  it('that came first leave members who come later a place, and a part of what newcomers hear', () => {
    const world = new World('attackers first');
    world.pass(HOUR_MS / 12, run, [], hostile(8));
    const late = honest(16);
    world.pass(HOUR_MS / 12, run, late, hostile(8));
    assert.equal(world.listed(run).filter((name) => !isHostile(name)).length, late.length);
    const answers = Array.from({ length: 40 }, () => world.told(run));
    const mean = answers.reduce((sum, told) => sum + share(told), 0) / answers.length;
    assert.ok(mean >= 0.4, `${(100 * mean).toFixed(0)} % of those named are honest`);
  });

  it('cannot keep newcomers out by asking more often: lots are drawn by network', () => {
    const world = new World('lots');
    world.pass(HOUR_MS / 30, run, members, hostile(NAMES));
    const late = honest(4, false, 100);
    let [seen, looks] = [0, 0];
    world.pass(HOUR_MS / 2, run, [...members, ...late], hostile(NAMES), () => {
      const listed = new Set(world.listed(run));
      seen += late.filter(({ peerId }) => listed.has(peerId)).length;
      looks += late.length;
    });
    assert.ok(seen / looks > 0.1, `${((100 * seen) / looks).toFixed(1)} % of the time`);
  });

  it('leave the members their places when the node starts again an hour later', () => {
    const world = new World('restart');
    world.pass(HOUR_MS, run, members, null);
    const snapshot = world.registry.snapshot();
    const again = new World('restarted');
    again.nowMs = world.nowMs + HOUR_MS / 2;
    again.registry.restore(snapshot);
    again.pass(HONEST_INTERVAL_MS, run, members, hostile(NAMES));
    const listed = new Set(again.listed(run));
    assert.ok(members.every(({ peerId }) => listed.has(peerId)));
  });

  it('lose their places when they say nothing more, unlike a member that is still connected', () => {
    const world = new World('silence');
    const [silent, ...late] = honest(RUN_PEERS_MAX);
    assert.ok(silent, 'a member');
    world.connected.add(silent.peerId);
    world.announce(silent, run);
    world.pass(HOUR_MS / 12, run, [], hostile(NAMES));
    world.pass(HOUR_MS / 6, run, late, null);
    assert.equal(share(world.listed(run)), 1);
    world.pass(HOUR_MS / 6, run, late, hostile(NAMES));
    assert.ok(world.listed(run).includes(silent.peerId), 'it has been there all the time');
  });
});

describe('names without an admission, in a closed run', () => {
  const members = [0, 1, 2].map((i) => testIdentity(i).peerId);
  const addresses = ['/ip4/99.1.1.1/tcp/4001'];
  const origin = originOf('x', '/ip4/45.33.7.1/tcp/1');

  it('never take a place, and are told of nobody', () => {
    const world = new World('closed');
    const membership: Membership = {
      mode: 'allowlist',
      members: members.map((peerId) => ({ peerId, weight: 1 })),
    };
    const run = runNamed('closed', membership);
    for (const peerId of members) world.announce({ peerId, from: '/ip4/60.1.2.3/tcp/1' }, run);
    for (let i = 0; i < 500; i++) {
      const brief = { runId: run.id, manifest: null, addresses, origin };
      assert.throws(() => world.registry.announce(`hostile ${i}`, brief), NotAdmittedError);
    }
    assert.deepEqual(new Set(world.listed(run)), new Set(members));
  });

  it('get one place for one invitation, whoever shows it under however many names', () => {
    const world = new World('invited');
    const run = inviteRun();
    const announce = (i: number): boolean => {
      const identity = testIdentity(i);
      const { signed } = testAdmission(run, identity, 'leaked');
      const manifest = i === 10 ? run.bytes : null;
      const what = { runId: run.id, manifest, addresses, admission: signed, origin };
      return world.registry.announce(identity.peerId, what);
    };
    assert.equal(announce(10), true);
    for (let i = 11; i < 20; i++) {
      assert.throws(
        () => announce(i),
        (error) => error instanceof NotAdmittedError && error.refusal === 'used',
      );
    }
    assert.equal(announce(10), true, 'it keeps its place');
    assert.deepEqual(world.listed(run), [testIdentity(10).peerId]);
  });

  it('cost no more verifications than their network may have, and keep nobody else from theirs', () => {
    const world = new World('budget');
    const run = inviteRun();
    const announce = (i: number, from: string): boolean => {
      const identity = testIdentity(i);
      const { signed } = testAdmission(run, identity, `invitation ${i}`);
      const what = { runId: run.id, manifest: run.bytes, addresses, admission: signed };
      return world.registry.announce(identity.peerId, {
        ...what,
        origin: originOf(identity.peerId, from),
      });
    };
    announce(0, '/ip4/60.1.2.3/tcp/1');
    const bad = testAdmission(run, testIdentity(1), 'stolen').signed;
    let verified = 0;
    for (let i = 0; i < 500; i++) {
      const what = { runId: run.id, manifest: null, addresses, admission: bad, origin };
      try {
        world.registry.announce(`hostile ${i}`, what);
      } catch (error) {
        if (error instanceof NotAdmittedError) verified++;
      }
    }
    assert.ok(verified <= 64, `${verified} verified`);
    assert.equal(announce(2, '/ip4/61.1.2.3/tcp/1'), true);
  });
});

describe('32 names that register 256 runs', () => {
  const runs = Array.from({ length: RUNS_MAX }, (_, i) => runNamed(`junk ${i}`));
  const founded = runNamed('founded');
  const founder = { peerId: 'honest founder', from: '/ip4/60.1.2.3/tcp/4001' };
  const local = { ...founder, from: '/ip4/127.0.0.1/tcp/4001' };
  const junkOf = (names: readonly Name[]): [Name, Run][] =>
    runs.map((run, i) => [names[Math.floor(i / RUNS_PER_PEER_MAX)]!, run]);
  const cases: [string, Hostile, Name][] = [
    ['from one network', hostile(1, { count: 32 }), founder],
    ['from eight networks', hostile(8, { count: 32 }), founder],
    ['from 32 networks', hostile(32, { count: 32 }), founder],
    ['on the founder’s machine', onLoopback(hostile(1, { count: 32 })), local],
  ];
  for (const [where, names, who] of cases) {
    it(`${where} leave room for an honest founder, who keeps it and is found`, () => {
      const world = new World(`runs ${where}`);
      const junk = junkOf(names(0));
      // A network has its manifests checked at a limited rate: it comes back until it has all it gets.
      for (let i = 0; i < 20; i++, world.nowMs += 60_000)
        for (const [name, run] of junk) world.announce(name, run);
      assert.ok(world.registry.list(null).length > RUNS_MAX / 2, 'most of them are taken');
      assert.equal(world.announce(who, founded), true, 'there is room');
      for (let i = 0; i < 20; i++, world.nowMs += 60_000) {
        for (const [name, run] of junk) world.announce(name, run);
        assert.equal(world.announce(who, founded), true);
        assert.deepEqual(world.listed(founded), [who.peerId], `after ${i} min`);
      }
      const all = world.registry.introduce('newcomer', null, ANSWER_BYTES);
      assert.ok(
        all.some(({ run }) => run.id === founded.id),
        'named to who asks for all',
      );
      assert.ok(world.registry.list(null).length <= RUNS_MAX, 'the bound');
    });
  }

  it('do not crowd the answer to whoever asks for all runs', () => {
    const world = new World('answers');
    for (const [name, run] of junkOf(hostile(1, { count: 32 })(0))) world.announce(name, run);
    world.announce(founder, founded);
    const small = founded.bytes.length * 16;
    const answers = Array.from({ length: 20 }, () =>
      world.registry.introduce('newcomer', null, small).map(({ run }) => run.id),
    );
    assert.ok(
      answers.every((ids) => ids.length <= 16),
      'the bound',
    );
    const named = answers.filter((ids) => ids.includes(founded.id)).length;
    assert.ok(named >= 15, `named in ${named} of 20 answers`);
  });

  it('have no manifest decoded twice, whatever came of it', () => {
    const world = new World('decoded');
    const junk = Uint8Array.of(1, 2, 3);
    const what = { manifest: junk, addresses: ['/ip4/99.1.1.1/tcp/1'], origin: 'network 45.33.7' };
    const offer = (i: number): void => {
      world.registry.announce(`hostile ${i}`, { ...what, runId: toHex(sha256(junk)) });
    };
    const faults = new Set<unknown>();
    for (let i = 0; i < 500; i++) {
      try {
        offer(i);
      } catch (error) {
        faults.add(error);
      }
    }
    assert.equal(faults.size, 1, 'the first verdict, again and again');
  });
});
