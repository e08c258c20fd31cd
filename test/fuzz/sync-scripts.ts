/** Sync sessions with a hostile remote, and gossip from a hostile member. */
import { checkAdmission, type Admission } from '../../protocol/admission.js';
import { fromHex } from '../../protocol/bytes.js';
import {
  InvalidPeerIdError,
  SyncProtocolError,
  UpdateRejectedError,
} from '../../protocol/errors.js';
import {
  checkEquivocation,
  equivocationProof,
  type EquivocationProof,
} from '../../protocol/equivocation.js';
import { encodeUpdateMessage, equivocationToWire } from '../../protocol/gossip.js';
import { publicKeyFromPeerId } from '../../protocol/identity.js';
import { GOSSIP_BYTES_MAX, SYNC_FRAME_BYTES_MAX } from '../../protocol/limits.js';
import { UpdateLog } from '../../protocol/log.js';
import type { Run } from '../../protocol/manifest.js';
import type { Prng } from '../../protocol/prng.js';
import { RowFormats } from '../../protocol/row-format.js';
import { SyncSession } from '../../protocol/sync.js';
import { checkUpdate, updateToWire, type Update } from '../../protocol/update.js';
import * as wire from '../../protocol/wire/messages.js';
import { inviteRun, testAdmission } from '../support/invites.js';
import { testReplica } from '../support/replicas.js';
import { testIdentity, testRun, testUpdate } from '../support/runs.js';
import { change } from './changes.js';
import type { Session, SessionScript } from './cost.js';
import { HostileFrames, pick, SIZED_FIELDS, upTo, type Lent } from './hostile-frames.js';

const AUTHORS = 256;
const EPOCHS = 6;
const FROM = testIdentity(3).peerId;
const none = new Uint8Array();

/** A run, what was signed in it, and an admission to it where there are any. */
interface World {
  run: Run;
  updates: readonly Update[];
  admission: Admission | null;
  /** Against one of the authors. */
  proof: EquivocationProof;
}

function proofIn(run: Run): EquivocationProof {
  const update = (salt: string): Update => testUpdate(run, testIdentity(0), 3, { salt });
  return equivocationProof(update('a'), update('b'));
}

function updatesOf(run: Run, authors: number): Update[] {
  // Each author holds every other epoch: a bitmap of the others asks for nothing.
  return Array.from({ length: authors }, (_, author) =>
    [1, 3, 5].map((epoch) => testUpdate(run, testIdentity(author), epoch)),
  ).flat();
}

const open = testRun();
const openWorld: World = {
  run: open,
  updates: updatesOf(open, AUTHORS),
  admission: null,
  proof: proofIn(open),
};
const log = new UpdateLog();
for (const update of openWorld.updates) log.insert(update);

const invited = inviteRun();
const invitedWorld: World = {
  run: invited,
  updates: updatesOf(invited, 1),
  admission: testAdmission(invited, 5, 'a'),
  proof: proofIn(invited),
};

/** Those who hold something, and others: no more than a vector may name. */
const holders = Array.from({ length: AUTHORS }, (_, i) =>
  publicKeyFromPeerId(testIdentity(i).peerId),
);
const others = Array.from({ length: 700 }, (_, i) => new Uint8Array(32).fill(i & 255, i >> 8));
const key = (random: Prng): Uint8Array =>
  pick(random, random.nextBelow(4) === 0 ? others : holders);
/** Of any length up to the longest run's, of any kind; what is held is asked for in some. */
function bitmap(random: Prng): Uint8Array {
  const bytes = new Uint8Array(pick(random, [0, 1, 2, 6_250, 12_500, 12_500]));
  return bytes.fill(pick(random, [0, 255, 255, 0x55, 0x80]));
}

/** `epochs`: the bitmap of a whole session; null for many kinds. */
function lentBy({ run, updates, admission }: World, epochs: Uint8Array | null = null): Lent {
  const signature = new Uint8Array(64);
  return {
    'Have.runId': () => fromHex(run.id),
    'Have.last': () => 0,
    'Want.last': () => 0,
    'Held.author': key,
    'Wanted.author': key,
    'Have.evicted': key,
    'Held.epochs': (random) => epochs ?? bitmap(random),
    'Wanted.epochs': (random) => epochs ?? bitmap(random),
    'SignedHeader.header': (random) => pick(random, updates).signed.header,
    'SignedHeader.signature': (random) => pick(random, updates).signed.signature,
    'SignedAdmission.admission': () => admission?.signed.admission ?? none,
    'SignedAdmission.keySignature': () => admission?.signed.keySignature ?? signature,
    'SignedAdmission.memberSignature': () => admission?.signed.memberSignature ?? signature,
    'Chunk.last': (random) => (random.nextBelow(8) === 0 ? 1 : 0),
  };
}

/** What a session keeps. */
const INFLATED = SIZED_FIELDS.filter((field) => /^(Held|Wanted|Have)\./.test(field));

const HAVE_FIELDS = [['authors'], ['evicted', 'authors'], ['authors', 'clockMs', 'amendment']];
const ADMISSION_FIELDS = ['admission', 'keySignature', 'memberSignature'];

/** Opening, a vector, wishes, updates: each phase with frames of one kind that fill a share of the bytes. */
function* sayings(world: World, random: Prng, bytesMax: number): Generator<Uint8Array> {
  const { run, updates, admission, proof } = world;
  const epochs = random.nextBelow(2) === 0 ? bitmap(random) : null;
  const inflated = random.nextBelow(2) === 0 ? pick(random, INFLATED) : null;
  const hostile = new HostileFrames(lentBy(world, epochs), SYNC_FRAME_BYTES_MAX, inflated);
  const isChanged = random.nextBelow(4) === 0;
  const make = (kind: string, fields: readonly string[]): Uint8Array => {
    const frame = hostile.framed('SyncFrame', kind, fields, random);
    return isChanged && random.nextBelow(8) === 0 ? change(frame, [frame], random) : frame;
  };
  const share = (): number => pick(random, [0, bytesMax / 16, bytesMax / 3, bytesMax]);
  const empty = { runId: fromHex(run.id), clockMs: 0, authors: [], evicted: [] };
  const digests = { logDigest: none, admissionsDigest: none, sealsDigest: none };
  const logDigest = new Uint8Array(32).fill(1);
  yield wire.SyncFrame.encode({ have: { ...empty, ...digests, last: false, logDigest } });
  if (admission !== null) yield* upTo(share() / 16, () => make('admission', ADMISSION_FIELDS));
  const fields = pick(random, HAVE_FIELDS);
  yield* upTo(share(), () => make('have', ['runId', ...fields]));
  yield wire.SyncFrame.encode({ have: { ...empty, ...digests, last: true } });
  yield* upTo(share(), () => make('want', ['authors']));
  yield wire.SyncFrame.encode({ want: { authors: [], last: true } });
  yield* upTo(share() / 16, () => {
    if (random.nextBelow(8) === 0) return make('equivocation', ['first', 'second']);
    return wire.SyncFrame.encode(equivocationToWire(proof));
  });
  yield* upTo(share(), () => {
    if (random.nextBelow(4) === 0) return make('chunk', ['bytes', 'last']);
    const bytes = wire.Update.encode(updateToWire(pick(random, updates)));
    return wire.SyncFrame.encode({ chunk: { bytes, last: true } });
  });
  yield wire.SyncFrame.encode({ end: {} });
}

/** One side of a session, which answers as node/peer/anti-entropy.ts does. */
function side({ run }: World, of: UpdateLog): Session {
  const session = new SyncSession(run, of, new Set());
  const formats = new RowFormats(run);
  session.hello(1_000);
  return {
    *take(frame) {
      const event = session.receive(frame);
      if (event.kind === 'differs') yield* session.vectors();
      if (event.kind === 'have') yield* session.want(EPOCHS);
      if (event.kind === 'want') yield* session.reply();
      if (event.kind === 'update') checkUpdate(run, formats, event.update);
      if (event.kind === 'equivocation') checkEquivocation(run, event.equivocation);
      if (event.kind === 'admission') checkAdmission(run, event.admission);
    },
    end: () => session.release(),
  };
}

const REFUSALS = [SyncProtocolError, InvalidPeerIdError, UpdateRejectedError];

/** Both sides of a session say and hear the same; this one has much, and the remote lacks it. */
const sync: SessionScript = {
  bounds: { fixedMs: 200, usPerByte: 0.1, stretchMs: 100, fixedBytes: 1e6, bytesPerByte: 1.1 },
  refusals: REFUSALS,
  goesOn: false,
  frames: (random, bytesMax) => sayings(openWorld, random, bytesMax),
  start: () => side(openWorld, log),
};

/** A newcomer, whose log is empty: it asks for whatever the remote promises. */
const newcomer: SessionScript = {
  ...sync,
  // An admission costs three signatures, an update one: each has some 300 bytes.
  bounds: { ...sync.bounds, usPerByte: 2 },
  frames: (random, bytesMax) => sayings(invitedWorld, random, bytesMax),
  start: () => side(invitedWorld, new UpdateLog()),
};

/** What a hostile member can sign: updates of now and of later, two for one slot, and copies of others'. */
const signed = Array.from({ length: 48 }, (_, i) => {
  const [author, epoch] = [testIdentity(i % 3), 4 + (i % 5) * 3];
  return encodeUpdateMessage(testUpdate(open, author, epoch, { salt: i % 7 === 0 ? 'other' : '' }));
});

const gossip: SessionScript = {
  // A signature is checked for a message of some 300 bytes.
  bounds: { fixedMs: 200, usPerByte: 1, stretchMs: 40, fixedBytes: 1.5e6, bytesPerByte: 0.2 },
  refusals: [],
  goesOn: true,
  frames: (random, bytesMax) => {
    const hostile = new HostileFrames(lentBy(openWorld), GOSSIP_BYTES_MAX);
    return upTo(bytesMax, () => {
      const message = pick(random, signed);
      const kind = random.nextBelow(8);
      if (kind < 4) return message;
      if (kind < 6) return change(message, signed, random).subarray(0, GOSSIP_BYTES_MAX);
      const proof = ['first', 'second'];
      if (kind === 6) return hostile.framed('Gossip', 'equivocation', proof, random);
      return hostile.framed('Gossip', 'update', ['header', 'signature', 'scales', 'codes'], random);
    });
  },
  start: () => {
    const clock = { epoch: 4 };
    const { replica } = testReplica(open, () => clock.epoch);
    let taken = 0;
    return {
      *take(frame) {
        yield replica.onGossip(frame, FROM);
        // Time goes on, and what was deferred is looked at again.
        taken += 1;
        if (taken % 64 !== 0) return;
        clock.epoch = Math.min(clock.epoch + 1, 16);
        yield;
        replica.retryDeferred();
      },
    };
  },
};

export const SYNC_SCRIPTS = { sync, 'sync-newcomer': newcomer, gossip };
