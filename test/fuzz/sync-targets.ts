/** Decoders of sync streams: whole sessions, have-vectors, seals, certificates and what they count. */
import assert from 'node:assert/strict';
import { testIdentity, testUpdate } from '../support/runs.js';
import { closedRun, certificateOf, sealedLog, sealsOf } from '../support/seals.js';
import { createAmendment } from '../../protocol/amendment.js';
import { toBitmap } from '../../protocol/bitmap.js';
import {
  SealContentsError,
  SyncProtocolError,
  InvalidPeerIdError,
  UpdateRejectedError,
} from '../../protocol/errors.js';
import { checkEquivocation, checkSealEquivocation } from '../../protocol/equivocation.js';
import { encodeHave, HaveVector } from '../../protocol/have.js';
import { publicKeyFromPeerId } from '../../protocol/identity.js';
import { EPOCHS_MAX } from '../../protocol/limits.js';
import { UpdateLog } from '../../protocol/log.js';
import { Members } from '../../protocol/members.js';
import { SealContents } from '../../protocol/seal-contents.js';
import {
  checkCertificate,
  checkSeal,
  createSeal,
  decodeCertificate,
  hasQuorum,
} from '../../protocol/seal.js';
import { RowFormats } from '../../protocol/row-format.js';
import { SyncSession, type HeldSeals } from '../../protocol/sync.js';
import { checkUpdate } from '../../protocol/update.js';
import * as wire from '../../protocol/wire/messages.js';
import { framesOf, inFrames } from './frames.js';
import type { FuzzTarget, FuzzTargets } from './oracle.js';

/** Members 0 to 3; seals every 2 epochs. */
const run = closedRun([1, 1, 1, 1], { every: 2, after: 1 });
const members = new Members(run.manifest.membership);
const formats = new RowFormats(run);

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
const { statement, contents } = sealedLog(run, theirs, 2);
const certificate = certificateOf(statement, [0, 1, 2]);
const held: HeldSeals = {
  summary: { sealed: { epoch: 2, statement: statement.id }, digest: new Uint8Array(32).fill(1) },
  certificate: { epoch: 2, wire: certificate.wire },
  seals: sealsOf(statement, [1, 3]).map(({ signed }) => signed),
};

/** What `theirs` says in a session with `mine`, as one input. */
function sayings(): Uint8Array {
  const mySide = new SyncSession(run, mine, new Set());
  const sides = [mySide, new SyncSession(run, theirs, new Set(), held)];
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
    const side = new SyncSession(run, mine, inFlight, held);
    try {
      side.hello(1_000);
      for (const frame of framesOf(bytes)) {
        const event = side.receive(frame);
        if (event.kind === 'differs') assert.ok([...side.vectors()].length > 0);
        if (event.kind === 'have') assert.ok([...side.want()].length > 0);
        if (event.kind === 'want') assert.ok([...side.reply()].length > 0);
        if (event.kind === 'update') checkUpdate(run, formats, event.update);
        if (event.kind === 'equivocation') checkEquivocation(run, event.equivocation);
        if (event.kind === 'sealEquivocation') checkSealEquivocation(run, event.equivocation);
        if (event.kind === 'seal') checkSeal(run, event.seal);
        if (event.kind === 'certificate') checkCertificate(run, members, event.certificate);
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

/** A statement of any content that a member signed: what it says is in its bounds, or it is refused. */
const seal: FuzzTarget = {
  seeds: [statement.bytes],
  refusals: [UpdateRejectedError],
  run: (bytes) => {
    const signer = testIdentity(1);
    const made = createSeal({ ...statement, bytes: Uint8Array.from(bytes) }, signer);
    const { statement: read } = checkSeal(run, made.signed);
    assert.deepEqual(Buffer.from(read.bytes), Buffer.from(bytes));
    assert.ok(read.epoch > 0 && read.epoch % 2 === 0);
  },
};

/** Any certificate: members with two thirds of the weight have signed it, or it is refused. */
const certificates: FuzzTarget = {
  seeds: [
    [0, 1, 2],
    [3, 2, 1, 0],
  ].map((who) => wire.SealCertificate.encode(certificateOf(statement, who).wire)),
  refusals: [UpdateRejectedError],
  run: (bytes) => {
    let message: wire.SealCertificate;
    try {
      message = wire.SealCertificate.decode(bytes);
    } catch {
      return;
    }
    const checked = checkCertificate(run, members, message);
    const signers = checked.wire.signatures.map(({ member }) =>
      Buffer.from(member).toString('hex'),
    );
    const voters = new Map(
      [...members.voters(checked.statement.epoch)].map(([peerId, weight]) => [
        Buffer.from(publicKeyFromPeerId(peerId)).toString('hex'),
        weight,
      ]),
    );
    assert.ok(hasQuorum(voters, new Set(signers)));
    assert.deepEqual(decodeCertificate(run, wire.SealCertificate.encode(checked.wire)), checked);
  },
};

/** The contents of a seal, which two thirds of the members may have signed whatever they are. */
const sealContents: FuzzTarget = {
  seeds: [contents.bytes, sealedLog(run, mine, 4).contents.bytes],
  refusals: [SealContentsError],
  run: (bytes) => {
    const read = SealContents.decode(bytes, 4);
    assert.deepEqual(Buffer.from(read.bytes), Buffer.from(bytes));
    for (const { author, epoch, id } of read.ids()) {
      assert.ok(read.has(author, epoch) && epoch < 4 && id.length === 64);
    }
    assert.ok(read.authors().every((author) => read.epochsOf(author).every((epoch) => epoch < 4)));
  },
};

export const syncTargets: FuzzTargets = {
  'sync-session': session,
  'have-vector': haveVector,
  seal,
  certificate: certificates,
  'seal-contents': sealContents,
};
