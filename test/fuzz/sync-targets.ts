/** Decoders of sync streams: whole sessions, have-vectors and checkpoints. */
import assert from 'node:assert/strict';
import { adapterSize, testIdentity, testRun, testUpdate } from '../support/runs.js';
import { createAmendment } from '../../protocol/amendment.js';
import { initialCheckpoint, nextCheckpoint, pieceOf } from '../../protocol/checkpoint.js';
import {
  CheckpointTransfer,
  statementFromWire,
  statementToWire,
} from '../../protocol/checkpoint-transfer.js';
import { bytesEqual } from '../../protocol/bytes.js';
import {
  SyncProtocolError,
  InvalidPeerIdError,
  UpdateRejectedError,
} from '../../protocol/errors.js';
import { checkEquivocation } from '../../protocol/gossip.js';
import { encodeHave, HaveVector, toBitmap } from '../../protocol/have.js';
import { EPOCHS_MAX } from '../../protocol/limits.js';
import { UpdateLog } from '../../protocol/log.js';
import { Slicer } from '../../protocol/slice.js';
import { SyncSession } from '../../protocol/sync.js';
import { checkUpdate } from '../../protocol/update.js';
import * as wire from '../../protocol/wire/messages.js';
import { framesOf, inFrames } from './frames.js';
import type { FuzzTarget, FuzzTargets } from './oracle.js';

const run = testRun((manifest) => ({
  ...manifest,
  fold: { ...manifest.fold, horizonEpochs: 12 },
}));
const slicer = new Slicer(run);

function logOf(authors: readonly number[], epochs: readonly number[]): UpdateLog {
  const log = new UpdateLog();
  for (const author of authors) {
    for (const epoch of epochs) log.insert(testUpdate(run, testIdentity(author), epoch));
  }
  return log;
}

const mine = logOf([1, 2], [0, 1, 2]);
const theirs = logOf([1, 3], [1, 2, 3]);
const amendment = createAmendment(run, testIdentity(0), 50);
const steps = nextCheckpoint(run, initialCheckpoint(run), theirs);
let step = steps.next();
while (step.done !== true) step = steps.next();
const checkpoint = step.value;

/** What `theirs` says in a session with `mine`, as one input. */
function sayings(): Uint8Array {
  const sides = [mine, theirs].map((log) => new SyncSession(run, log, new Set(), checkpoint));
  const heard: Uint8Array[][] = [[], []];
  const queues = sides.map((side) => [side.hello(1_000, amendment)]);
  while (queues.some((queue) => queue.length > 0)) {
    for (const [from, queue] of queues.entries()) {
      const frame = queue.shift();
      if (frame === undefined) continue;
      const to = 1 - from;
      heard[to]!.push(frame);
      const { kind } = sides[to]!.receive(frame);
      if (kind === 'differs') queues[to]!.push(...sides[to]!.vectors());
      if (kind === 'have') queues[to]!.push(...sides[to]!.want());
      if (kind === 'want') queues[to]!.push(...sides[to]!.reply());
    }
  }
  return inFrames(heard[0]!);
}

/** One side of a session with a remote that says what the fuzzer made. */
const session: FuzzTarget = {
  seeds: [sayings()],
  refusals: [SyncProtocolError, InvalidPeerIdError, UpdateRejectedError],
  run: (bytes) => {
    const inFlight = new Set<string>();
    const side = new SyncSession(run, mine, inFlight, checkpoint);
    try {
      side.hello(1_000);
      for (const frame of framesOf(bytes)) {
        const event = side.receive(frame);
        if (event.kind === 'differs') assert.ok([...side.vectors()].length > 0);
        if (event.kind === 'have') assert.ok([...side.want()].length > 0);
        if (event.kind === 'want') assert.ok([...side.reply()].length > 0);
        if (event.kind === 'update') checkUpdate(run, slicer, event.update);
        if (event.kind === 'equivocation') checkEquivocation(run, event.equivocation);
      }
    } finally {
      side.release();
    }
    assert.equal(inFlight.size, 0);
  },
};

const haveVector: FuzzTarget = {
  seeds: [...encodeHave(run, mine)].map((frame) => {
    const { have } = wire.SyncFrame.decode(frame);
    return have === undefined ? frame : wire.Have.encode(have);
  }),
  refusals: [SyncProtocolError, InvalidPeerIdError],
  run: (bytes) => {
    let have: wire.Have;
    try {
      have = wire.Have.decode(bytes);
    } catch {
      return;
    }
    const vector = new HaveVector();
    vector.add(have.authors, have.evicted, bytes.length);
    for (const author of vector.authors()) {
      const epochs = vector.epochsOf(author, 0, EPOCHS_MAX);
      assert.ok(epochs.every((epoch, i) => epoch >= 0 && epoch > (epochs[i - 1] ?? -1)));
      assert.deepEqual(
        vector.epochsOf(author, 3, 20),
        epochs.filter((epoch) => epoch >= 3 && epoch <= 20),
      );
      const again = new HaveVector();
      again.add([{ author: have.authors[0]!.author, epochs: toBitmap(epochs) }], [], 0);
      const [first = ''] = again.authors();
      assert.deepEqual(again.epochsOf(first, 0, EPOCHS_MAX), epochs);
      assert.ok(epochs.every((epoch) => again.has(first, epoch)));
    }
  },
};

const encodedStatement = wire.Checkpoint.encode(statementToWire(checkpoint));

/** A statement, the hashes of its pieces and pieces: what comes out is what was stated. */
const checkpointTransfer: FuzzTarget = {
  seeds: [
    inFrames([
      encodedStatement,
      checkpoint.pieceHashes,
      Uint8Array.of(0),
      pieceOf(checkpoint.theta, 0),
    ]),
  ],
  refusals: [SyncProtocolError],
  run: (bytes) => {
    const [stated = new Uint8Array(), hashes = new Uint8Array(), ...pieces] = framesOf(bytes);
    let message: wire.Checkpoint;
    try {
      message = wire.Checkpoint.decode(stated);
    } catch {
      return;
    }
    const statement = statementFromWire(run, message);
    const transfer = new CheckpointTransfer(statement, adapterSize(run));
    transfer.addHashes(hashes);
    for (let i = 0; i + 1 < pieces.length; i += 2) {
      transfer.addPiece(pieces[i]![0] ?? 0, pieces[i + 1]!);
    }
    const complete = transfer.complete();
    if (complete === null) return;
    assert.ok(bytesEqual(complete.pieceHashes, hashes));
    assert.equal(complete.thetaSha256, checkpoint.thetaSha256);
  },
};

export const syncTargets: FuzzTargets = {
  'sync-session': session,
  'have-vector': haveVector,
  checkpoint: checkpointTransfer,
};
