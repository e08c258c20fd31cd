/** Checkpoints in a sync session: bounds of what is said of one, and parts that nobody asked for. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { initialCheckpoint, pieceOf } from '../../../protocol/checkpoint.js';
import { statementFromWire, statementToWire } from '../../../protocol/checkpoint-transfer.js';
import { SyncProtocolError } from '../../../protocol/errors.js';
import { AUTHORS_MAX, CHECKPOINT_ANCESTORS_MAX, EPOCHS_MAX } from '../../../protocol/limits.js';
import { UpdateLog } from '../../../protocol/log.js';
import { PIECES_MAX, SyncSession } from '../../../protocol/sync.js';
import * as wire from '../../../protocol/wire/messages.js';
import { testRun } from '../../support/runs.js';

/** Cuts every third epoch. */
const run = testRun((manifest) => ({
  ...manifest,
  fold: { ...manifest.fold, horizonEpochs: 12 },
}));
const checkpoint = initialCheckpoint(run);
const { thetaSha256 } = checkpoint;
const hash = new Uint8Array(32);

const stated = (change: Partial<wire.Checkpoint>): wire.Checkpoint => ({
  ...{ epoch: 9, digest: hash, contributions: 27, theta: hash, ancestors: [hash] },
  ...change,
});

describe('what is said of a checkpoint', () => {
  /** The last checkpoint of the longest run. */
  const last = Math.floor((EPOCHS_MAX - 12) / 3) * 3;
  const hashes = (count: number): Uint8Array<ArrayBuffer>[] =>
    Array.from({ length: count }, () => hash);

  it('is taken at its bounds', () => {
    const taken: Partial<wire.Checkpoint>[] = [
      { epoch: 0, contributions: 0, ancestors: [] },
      { epoch: last, contributions: last * AUTHORS_MAX },
      { contributions: 9 * AUTHORS_MAX, ancestors: hashes(CHECKPOINT_ANCESTORS_MAX) },
    ];
    for (const change of taken) {
      const message = stated(change);
      assert.deepEqual(statementToWire(statementFromWire(run, message)), message);
    }
  });

  it('is refused beyond them, and in a run that keeps everything', () => {
    const refused: Partial<wire.Checkpoint>[] = [
      { epoch: 10 },
      { epoch: last + 3 },
      { epoch: 0, contributions: 1 },
      { contributions: 9 * AUTHORS_MAX + 1 },
      { digest: hash.subarray(1) },
      { theta: new Uint8Array(33) },
      { ancestors: [hash, new Uint8Array()] },
      { ancestors: hashes(CHECKPOINT_ANCESTORS_MAX + 1) },
    ];
    for (const [i, change] of refused.entries()) {
      assert.throws(() => statementFromWire(run, stated(change)), SyncProtocolError, `case ${i}`);
    }
    assert.throws(() => statementFromWire(testRun(), stated({})), SyncProtocolError);
  });
});

describe('frames of a checkpoint', () => {
  const remote = new SyncSession(run, new UpdateLog(), new Set(), checkpoint);
  const have = [remote.hello(0), ...remote.vectors()];
  const want = wire.SyncFrame.encode({ want: { authors: [], last: true } });
  const hashFrame = wire.SyncFrame.encode({
    checkpointHashes: { hashes: Uint8Array.from(checkpoint.pieceHashes) },
  });
  const wishFor = (pieces: Uint8Array<ArrayBuffer>, theta = hash): Uint8Array =>
    wire.SyncFrame.encode({ checkpointWant: { theta, hashes: true, pieces } });

  function pieceFrame(index: number): Uint8Array {
    const bytes = Uint8Array.from(pieceOf(checkpoint.theta, 0));
    return wire.SyncFrame.encode({ checkpointPiece: { index, bytes } });
  }

  /** A side that asks for the hashes and piece 0, or for nothing. */
  function session(asks: boolean): SyncSession {
    const one = new SyncSession(run, new UpdateLog(), new Set());
    for (const frame of have) one.receive(frame);
    one.want(Infinity, asks ? { thetaSha256, hashes: true, pieces: [0] } : null);
    return one;
  }

  it('bring what was asked for, each part once', () => {
    const one = session(true);
    one.receive(want);
    assert.equal(one.receive(hashFrame).kind, 'checkpointHashes');
    assert.equal(one.receive(pieceFrame(0)).kind, 'checkpointPiece');
    for (const frame of [hashFrame, pieceFrame(0)]) {
      assert.throws(() => one.receive(frame), SyncProtocolError, 'a second time');
    }
  });

  it('are refused unasked, of another piece, out of phase and beyond a bound', () => {
    const cases: [boolean, Uint8Array[]][] = [
      [false, [want, hashFrame]],
      [false, [want, pieceFrame(0)]],
      [true, [want, pieceFrame(1)]],
      [true, [hashFrame]],
      [true, [pieceFrame(0)]],
      [true, [want, wishFor(Uint8Array.of(1))]],
      [true, [wishFor(Uint8Array.of(1)), wishFor(Uint8Array.of(1))]],
      [true, [wishFor(Uint8Array.of(1), hash.slice(1))]],
      [true, [wishFor(new Uint8Array(1000))]],
    ];
    for (const [i, [asks, frames]] of cases.entries()) {
      const one = session(asks);
      for (const frame of frames.slice(0, -1)) one.receive(frame);
      const last = frames.at(-1) ?? want;
      assert.throws(() => one.receive(last), SyncProtocolError, `case ${i}`);
    }
  });

  it('send at most so many pieces, those that are there, and none of another theta', () => {
    const theta = Uint8Array.from(Buffer.from(thetaSha256, 'hex'));
    for (const [named, parts] of [
      [theta, 2],
      [hash, 0],
    ] as const) {
      const one = new SyncSession(run, new UpdateLog(), new Set(), checkpoint);
      for (const frame of have) one.receive(frame);
      one.receive(wishFor(new Uint8Array(PIECES_MAX / 4).fill(0xff), named));
      one.receive(want);
      assert.equal([...one.reply()].length, parts + 1, 'hashes and the only piece, and the end');
    }
  });
});
