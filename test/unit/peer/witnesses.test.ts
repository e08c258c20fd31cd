import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Witnesses, type PollFacts } from '../../../node/peer/witnesses.js';
import type { CheckpointStatement } from '../../../protocol/checkpoint.js';

const EPOCH = 12;
const PATIENCE_MS = 1000;

function statement(digit: string, contributions: number): CheckpointStatement {
  const digest = digit.repeat(64);
  return { epoch: EPOCH, digest, contributions, thetaSha256: digest, ancestors: [] };
}

const [OWN, OTHER, LIE] = [statement('a', 50), statement('b', 60), statement('f', 12_000)];
const NEWCOMER = statement('0', 0);

/** The polls of a peer with `own`, before and after its patience, when members 0, 1, ... state these. */
function polls(
  own: CheckpointStatement,
  stated: readonly (CheckpointStatement | null)[],
  facts: Partial<PollFacts> = {},
): ReturnType<Witnesses['poll']>[] {
  const witnesses = new Witnesses();
  const connected = stated.map((_, i) => `member ${i}`);
  for (const [i, said] of stated.entries()) if (said) witnesses.note(`member ${i}`, said);
  return [0, PATIENCE_MS].map((nowMs) =>
    witnesses.poll({
      epoch: EPOCH,
      own,
      connected,
      knowsThird: false,
      nowMs,
      patienceMs: PATIENCE_MS,
      ...facts,
    }),
  );
}

function kinds(...args: Parameters<typeof polls>): string[] {
  return polls(...args).map((poll) => {
    return poll.kind === 'adopt' ? `adopt ${poll.statement.digest[0] ?? ''}` : poll.kind;
  });
}

describe('Witnesses', () => {
  it('agrees with members that state the same, and with nobody', () => {
    assert.deepEqual(kinds(OWN, [OWN, OWN]), ['agreed', 'agreed']);
    assert.deepEqual(kinds(OWN, []), ['agreed', 'agreed']);
    assert.deepEqual(kinds(OWN, [NEWCOMER, null]), ['agreed', 'agreed']);
  });

  it('adopts what more than half state, at once when all have spoken', () => {
    assert.deepEqual(kinds(OWN, [OTHER, OTHER]), ['adopt b', 'adopt b']);
    assert.deepEqual(kinds(OWN, [OTHER, OTHER, null]), ['open', 'adopt b']);
    assert.deepEqual(kinds(NEWCOMER, [OTHER, OTHER, NEWCOMER]), ['adopt b', 'adopt b']);
  });

  it('is not moved by a lie, told alone or by a minority', () => {
    assert.deepEqual(kinds(OWN, [OWN, OWN, LIE]), ['kept', 'kept']);
    assert.deepEqual(kinds(OWN, [OWN, OWN, LIE, LIE]), ['kept', 'kept']);
    assert.deepEqual(kinds(OWN, [LIE], { knowsThird: true }), ['open', 'open']);
    assert.deepEqual(kinds(NEWCOMER, [OTHER, OTHER, OTHER, LIE, LIE]), ['adopt b', 'adopt b']);
    assert.deepEqual(kinds(NEWCOMER, [OTHER, LIE]), ['open', 'open']);
  });

  it('takes one word after a while where nobody else has any', () => {
    assert.deepEqual(kinds(NEWCOMER, [OTHER]), ['open', 'adopt b']);
    assert.deepEqual(kinds(NEWCOMER, [OTHER, NEWCOMER, null]), ['open', 'adopt b']);
    assert.deepEqual(kinds(OWN, [OTHER]), ['open', 'adopt b']);
    assert.deepEqual(kinds(OTHER, [OWN]), ['open', 'kept']);
  });

  it('lets exactly one of two equal halves give way: contributions, then the digest decide', () => {
    assert.deepEqual(kinds(OWN, [OWN, OTHER, OTHER]), ['open', 'adopt b']);
    assert.deepEqual(kinds(OTHER, [OTHER, OWN, OWN]), ['open', 'kept']);
    const [small, large] = [statement('c', 50), statement('d', 50)];
    assert.deepEqual(kinds(large, [large, small, small]), ['open', 'adopt c']);
    assert.deepEqual(kinds(small, [small, large, large]), ['open', 'kept']);
  });

  it('compares only checkpoints of one epoch, and forgets who is gone', () => {
    const older = { ...OTHER, epoch: EPOCH - 3 };
    assert.deepEqual(kinds(OWN, [older, older]), ['agreed', 'agreed']);
    const ahead = { ...OWN, epoch: EPOCH + 3 };
    assert.deepEqual(kinds(ahead, [OTHER, OTHER]), ['adopt b', 'adopt b']);
    assert.deepEqual(kinds(OWN, [OTHER, OTHER], { connected: [] }), ['agreed', 'agreed']);
  });
});
