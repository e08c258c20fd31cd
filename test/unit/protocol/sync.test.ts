import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { toHex } from '../../../protocol/bytes.js';
import { SyncProtocolError } from '../../../protocol/errors.js';
import { checkEquivocation, equivocationProof } from '../../../protocol/equivocation.js';
import { SYNC_FRAME_BYTES_MAX } from '../../../protocol/limits.js';
import { UpdateLog } from '../../../protocol/log.js';
import type { Run } from '../../../protocol/manifest.js';
import { Prng } from '../../../protocol/prng.js';
import { RowFormats } from '../../../protocol/row-format.js';
import { SyncSession } from '../../../protocol/sync.js';
import { checkUpdate, type Update } from '../../../protocol/update.js';
import * as wire from '../../../protocol/wire/messages.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';

const run = testRun();
const formats = new RowFormats(run);

function isEvicted(log: UpdateLog, { author, epoch }: Update): boolean {
  return epoch >= (log.proofAgainst(author)?.epoch ?? Infinity);
}

class Side {
  readonly log = new UpdateLog();
  readonly inFlight = new Set<string>();
  received = 0;

  constructor(updates: Iterable<Update> = []) {
    for (const update of updates) this.log.insert(update);
  }
}

/** Runs one whole session between two logs; returns the number of frames. */
function sync(a: Side, b: Side): number {
  const sides = [a, b].map((side) => ({
    side,
    session: new SyncSession(run, side.log, side.inFlight),
  }));
  const queues: Uint8Array[][] = sides.map(({ session }) => [session.hello(0)]);
  let frames = 0;
  while (queues.some((queue) => queue.length > 0)) {
    for (const [from, queue] of queues.entries()) {
      const frame = queue.shift();
      if (frame === undefined) continue;
      frames += 1;
      assert.ok(frame.length <= SYNC_FRAME_BYTES_MAX);
      const { side, session } = sides[1 - from]!;
      const event = session.receive(frame);
      if (event.kind === 'differs') queues[1 - from]!.push(...session.vectors());
      if (event.kind === 'have') queues[1 - from]!.push(...session.want());
      if (event.kind === 'want') queues[1 - from]!.push(...session.reply());
      if (event.kind === 'update') {
        side.received += 1;
        const update = checkUpdate(run, formats, event.update);
        if (!isEvicted(side.log, update)) side.log.insert(update);
      }
      if (event.kind === 'equivocation') side.log.evict(checkEquivocation(run, event.equivocation));
    }
  }
  for (const { session } of sides) session.release();
  return frames;
}

const digest = (side: Side): string => toHex(side.log.digest());

const universe = Array.from({ length: 4 }, (_, peer) =>
  Array.from({ length: 20 }, (_, epoch) => testUpdate(run, testIdentity(peer), epoch)),
).flat();

describe('SyncSession', () => {
  it('leaves both sides with the union, whatever each held', () => {
    fc.assert(
      fc.property(fc.subarray(universe), fc.subarray(universe), (x, y) => {
        const [a, b] = [new Side(x), new Side(y)];
        sync(a, b);
        const union = new Side(new Set([...x, ...y]));
        assert.equal(digest(a), digest(union));
        assert.equal(digest(b), digest(union));
      }),
      { numRuns: 15 },
    );
  });

  it('sends nothing twice: equal logs exchange no update', () => {
    const [a, b] = [new Side(universe), new Side(universe)];
    assert.equal(sync(a, b), 6, 'have, want and end from each side');
    assert.equal(a.received + b.received, 0);
  });

  it('tells equal logs by their digests, whatever else is said, and spreads no proof that both hold', () => {
    const proof = equivocationProof(
      testUpdate(run, testIdentity(1), 3),
      testUpdate(run, testIdentity(1), 3, { salt: 'second' }),
    );
    const logs = [0, 1].map(() => new Side(universe).log);
    for (const log of logs) log.evict(proof);
    const [one, other] = logs.map((log) => new SyncSession(run, log, new Set()));
    assert.ok(one && other);
    const [hello, answer] = [one.hello(5), other.hello(9)];
    assert.equal(one.receive(answer).kind, 'have');
    assert.equal(other.receive(hello).kind, 'have');
    for (const frame of one.want()) assert.equal(other.receive(frame).kind, 'want');
    const kinds = [...other.want(), ...other.reply()].map((frame) => one.receive(frame).kind);
    assert.deepEqual(kinds, ['want', 'end']);
  });

  it('compares what was stated, although the log has grown since', () => {
    const [a, b] = [new Side(), new Side()];
    const [one, other] = [a, b].map(({ log }) => new SyncSession(run, log, new Set()));
    assert.ok(one && other);
    const [hello, answer] = [one.hello(0), other.hello(0)];
    a.log.insert(testUpdate(run, testIdentity(1), 0));
    assert.equal(one.receive(answer).kind, 'have');
    assert.equal(other.receive(hello).kind, 'have');
  });

  it('does not ask for what another session of the same peer is fetching', () => {
    const [a, b] = [new Side(), new Side(universe)];
    const other = new SyncSession(run, a.log, a.inFlight);
    const remote = new SyncSession(run, b.log, b.inFlight);
    for (const frame of [remote.hello(0), ...remote.vectors()]) other.receive(frame);
    other.want();
    sync(a, b);
    assert.equal(a.received, 0);
    other.release();
    sync(a, b);
    assert.equal(a.received, universe.length);
  });

  it('brings an equivocation to light and spreads the proof', () => {
    const cheat = testIdentity(1);
    const second = testUpdate(run, cheat, 3, { salt: 'second' });
    const [a, b] = [
      new Side(universe),
      new Side(
        universe.map((update) =>
          update.author === cheat.peerId && update.epoch === 3 ? second : update,
        ),
      ),
    ];
    sync(a, b);
    sync(a, b);
    const c = new Side(universe);
    sync(a, c);
    for (const side of [a, b, c]) {
      assert.equal(side.log.proofAgainst(cheat.peerId)?.epoch, 3);
      assert.deepEqual(side.log.epochsOf(cheat.peerId), [0, 1, 2]);
    }
    assert.equal(digest(a), digest(b));
    assert.equal(digest(a), digest(c));
  });

  it('refuses frames out of turn, of another run, empty, malformed or unasked for', () => {
    const session = (): SyncSession => new SyncSession(run, new UpdateLog(), new Set());
    const otherRun: Run = testRun((manifest) => ({ ...manifest, name: 'other' }));
    const frames: Uint8Array[][] = [
      [wire.SyncFrame.encode({ end: {} })],
      [wire.SyncFrame.encode({})],
      [Uint8Array.of(0xff, 0xff, 0xff)],
      [new SyncSession(otherRun, new UpdateLog(), new Set()).hello(0)],
      [session().hello(0), session().hello(0)],
      [...session().vectors()],
      [
        session().hello(0),
        ...session().vectors(),
        wire.SyncFrame.encode({ want: { authors: [], last: true } }),
        wire.SyncFrame.encode({ chunk: { bytes: Uint8Array.of(1), last: true } }),
      ],
      [
        session().hello(0),
        ...session().vectors(),
        wire.SyncFrame.encode({ want: { authors: [], last: true } }),
        wire.SyncFrame.encode({ chunk: { bytes: new Uint8Array(10_000), last: false } }),
      ],
      [
        wire.SyncFrame.encode({
          have: {
            ...{ runId: new Uint8Array(32), clockMs: 0, authors: [], evicted: [], last: false },
            ...{ logDigest: new Uint8Array(32), admissionsDigest: new Uint8Array() },
            sealsDigest: new Uint8Array(),
          },
        }),
      ],
    ];
    for (const [i, list] of frames.entries()) {
      const one = session();
      assert.throws(
        () => list.forEach((frame) => one.receive(frame)),
        SyncProtocolError,
        `case ${i}`,
      );
    }
  });

  it('only ever throws SyncProtocolError for arbitrary bytes', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 5 }), (list) => {
        const session = new SyncSession(run, new UpdateLog(), new Set());
        try {
          for (const frame of list) session.receive(frame);
        } catch (error) {
          assert.ok(error instanceof SyncProtocolError);
        }
      }),
    );
  });
});

describe('anti-entropy in rounds of random pairs', () => {
  const PEERS = 12;
  const LOSS = 0.3;

  /** Missing share after each round; `repair` false leaves the rounds out. */
  function missingShares(rounds: number, repair: boolean): number[] {
    const random = new Prng(Uint8Array.of(7), 'rounds');
    const sides = Array.from(
      { length: PEERS },
      () => new Side(universe.filter(() => random.nextFloat() >= LOSS)),
    );
    const share = (): number =>
      1 - sides.reduce((sum, { log }) => sum + log.size, 0) / (PEERS * universe.length);
    const shares = [share()];
    for (let round = 0; round < rounds; round++) {
      for (const [i, side] of sides.entries()) {
        const partner = sides[(i + 1 + random.nextBelow(PEERS - 1)) % PEERS]!;
        if (repair) sync(side, partner);
      }
      shares.push(share());
    }
    return shares;
  }

  it('leaves at most p^(2^k) of the set missing after k rounds, with some slack', () => {
    const shares = missingShares(3, true);
    assert.ok(shares[0]! > 0.25, 'something is missing at first');
    for (const [round, share] of shares.entries()) {
      assert.ok(share <= 1.5 * shares[0]! ** (2 ** round), `round ${round}: ${share}`);
    }
  });

  it('leaves everything missing with repair switched off', () => {
    const shares = missingShares(3, false);
    assert.equal(shares[3], shares[0]);
  });
});
