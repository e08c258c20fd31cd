/** Bounds of what members send each other: messages, updates, logs, sync frames, blobs. */
import type { Replica } from '../../../node/peer/replica.js';
import { checkAdmission } from '../../../protocol/admission.js';
import { checkAmendment } from '../../../protocol/amendment.js';
import { chunkHashes, PartialBlob } from '../../../protocol/blob.js';
import { fromHex } from '../../../protocol/bytes.js';
import { UpdateRejectedError } from '../../../protocol/errors.js';
import { decodeGossip, encodeUpdateMessage, isInline } from '../../../protocol/gossip.js';
import { encodeOpening, NO_SEALS } from '../../../protocol/have.js';
import { publicKeyFromPeerId } from '../../../protocol/identity.js';
import { decodeInvite, encodeInvite, INVITE_PREFIX } from '../../../protocol/invite.js';
import { UpdateLog } from '../../../protocol/log.js';
import { updateBytes, RowFormats } from '../../../protocol/row-format.js';
import { SyncSession } from '../../../protocol/sync.js';
import { UPDATE_OVERHEAD_BYTES_MAX } from '../../../protocol/update.js';
import * as wire from '../../../protocol/wire/messages.js';
import { testReplica } from '../../support/replicas.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';
import { delimited } from '../../wire/encodings.js';
import { isTaken, isWithin, type LimitCase, type LimitName } from './limit-case.js';

const run = testRun();
const formats = new RowFormats(run);
const hash = new Uint8Array(32);
const FROM = testIdentity(99).peerId;

function replicaAt(clock: { epoch: number }): Replica {
  return testReplica(run, () => clock.epoch).replica;
}

/** Whether bytes are refused for something else than their number. */
function isNotOversize(work: () => unknown): boolean {
  try {
    work();
    return true;
  } catch (error) {
    return !(error instanceof UpdateRejectedError && error.code === 'oversize');
  }
}

/** A run with modules of so many features that one update has some hundred KiB. */
const large = testRun((manifest) => {
  const modules = [{ name: 'm', inFeatures: 2 ** 20, outFeatures: 2 ** 20 }];
  return { ...manifest, adapter: { ...manifest.adapter, modules } };
});
const LARGE_UPDATE_BYTES = updateBytes(large) + UPDATE_OVERHEAD_BYTES_MAX;

/** Whether one session asks for all of `count` updates of `large`, which the remote says it has. */
function asksForAll(count: number): boolean {
  const session = new SyncSession(large, new UpdateLog(), new Set());
  const epochs = new Uint8Array(Math.ceil(count / 8)).fill(0xff);
  epochs[epochs.length - 1] = 0xff >> (8 * epochs.length - count);
  const author = publicKeyFromPeerId(testIdentity(1).peerId);
  const runId = Uint8Array.from(Buffer.from(large.id, 'hex'));
  const none = new Uint8Array();
  const digests = { logDigest: hash, admissionsDigest: none, sealsDigest: none };
  const have = { runId, clockMs: 0, authors: [], evicted: [], last: false, ...digests };
  session.hello(0);
  session.receive(wire.SyncFrame.encode({ have }));
  const authors = [{ author, epochs, digest: hash }];
  session.receive(wire.SyncFrame.encode({ have: { ...have, authors, last: true } }));
  session.want();
  return !session.isCut;
}

const byInvitation = testRun((manifest) => ({
  ...manifest,
  membership: {
    mode: 'invite',
    members: [{ peerId: testIdentity(0).peerId, weight: 1 }],
    inviteWeight: 1,
  },
}));

const noAdmission = {
  admission: new Uint8Array(),
  keySignature: new Uint8Array(64),
  memberSignature: new Uint8Array(64),
};

function inviteWith(addresses: readonly string[]): string {
  const { peerId: founder } = testIdentity(0);
  const parts = { runId: run.id, founder, invitation: hash, secret: hash, swarmKey: null };
  return encodeInvite({ ...parts, addresses, signature: new Uint8Array(64) });
}

export const MESSAGE_CASES = {
  AMENDMENT_BYTES_MAX: {
    takes: (value) => {
      const signed = { amendment: new Uint8Array(value), signature: new Uint8Array(64) };
      return isNotOversize(() => checkAmendment(run, signed));
    },
  },
  ADMISSION_BYTES_MAX: {
    takes: (value) => {
      const signed = { ...noAdmission, admission: new Uint8Array(value) };
      return isNotOversize(() => checkAdmission(byInvitation, signed));
    },
  },
  ADMISSIONS_MAX: {
    takes: (value) => {
      const session = new SyncSession(byInvitation, new UpdateLog(), new Set());
      session.receive(encodeOpening(byInvitation, new UpdateLog(), 0, NO_SEALS));
      const frame = wire.SyncFrame.encode({ admission: noAdmission });
      return isTaken(/too many admissions/, () => {
        for (let i = 0; i < value; i++) session.receive(frame);
      });
    },
  },
  INVITE_LENGTH_MAX: {
    takes: (value) => isWithin(/characters/, () => decodeInvite(INVITE_PREFIX.padEnd(value, 'a'))),
  },
  INVITE_ADDRESSES_MAX: {
    takes: (value) => {
      const addresses = Array.from({ length: value }, (_, i) => `/ip4/192.0.2.7/tcp/${i}`);
      return decodeInvite(inviteWith(addresses)).addresses.length === value;
    },
  },
  ADDRESS_BYTES_MAX: {
    takes: (value) =>
      isTaken(/out of its bounds/, () => decodeInvite(inviteWith(['/dns4/'.padEnd(value, 'a')]))),
  },
  UNKNOWN_FRAMES_MAX: {
    takes: (value) => {
      const session = new SyncSession(run, new UpdateLog(), new Set());
      const unknown = Uint8Array.of(0x7a, 1, 0);
      return isTaken(/too many frames of unknown kinds/, () => {
        for (let i = 0; i < value; i++) session.receive(unknown);
      });
    },
  },
  AUTHORS_MAX: {
    takes: (value) => {
      const log = new UpdateLog();
      return isTaken(/more than 1024 authors/, () => {
        // One that came later ranks behind them all.
        for (let i = 0; i < value; i++) log.insert(testUpdate(run, testIdentity(i), i >> 10));
      });
    },
  },
  UPDATE_BYTES_MAX: {
    takes: (value) =>
      isNotOversize(() => decodeGossip(run, formats, new Uint8Array(value), 'disk')),
  },
  UPDATE_INLINE_BYTES_MAX: {
    takes: (value) => {
      const scales = new Uint8Array(100);
      const codes = new Uint8Array(value - scales.length - UPDATE_OVERHEAD_BYTES_MAX);
      return isInline({ scales, codes });
    },
  },
  GOSSIP_BYTES_MAX: {
    takes: (value) => {
      const replica = replicaAt({ epoch: 0 });
      replica.onGossip(new Uint8Array(value), FROM);
      return replica.rejectedBy(FROM).oversize === undefined;
    },
  },
  FUTURE_EPOCHS_MAX: {
    takes: (value) => {
      const update = testUpdate(run, testIdentity(1), 10 + value);
      return replicaAt({ epoch: 10 }).onGossip(encodeUpdateMessage(update), FROM) === 'accept';
    },
  },
  DEFERRED_MAX: {
    takes: (value) => {
      const clock = { epoch: 0 };
      const replica = replicaAt(clock);
      for (let i = 0; i < value; i++) {
        const update = testUpdate(run, testIdentity(i % 10), 2 + Math.floor(i / 10));
        replica.onGossip(encodeUpdateMessage(update), FROM);
      }
      clock.epoch = 40;
      replica.retryDeferred();
      return replica.log.size === value;
    },
  },
  SYNC_CHUNK_BYTES: {
    takes: (value) => {
      const chunk = { bytes: new Uint8Array(value), last: true };
      return isTaken(/Chunk.bytes has/, () =>
        wire.SyncFrame.decode(wire.SyncFrame.encode({ chunk })),
      );
    },
  },
  HAVE_BYTES_MAX: {
    takes: (value) => {
      // Two sides with different logs; what is padding to one version may be a field of the next.
      const session = new SyncSession(run, new UpdateLog(), new Set());
      session.hello(0);
      const runId = fromHex(run.id);
      const digests = {
        ...{ logDigest: Uint8Array.from(hash, () => 1), admissionsDigest: hash },
        sealsDigest: new Uint8Array(),
      };
      const have = { runId, clockMs: 0, authors: [], evicted: [], last: false, ...digests };
      session.receive(wire.SyncFrame.encode({ have }));
      const author = publicKeyFromPeerId(testIdentity(1).peerId);
      const authors = [{ author, epochs: new Uint8Array(), digest: hash }];
      const entry = wire.Have.encode({ ...have, authors });
      const frame = (bytes: number): Uint8Array => {
        // Longer by the tags and lengths around it: 8 bytes.
        const padding = delimited(15, new Uint8Array(bytes - entry.length - 8));
        return delimited(1, Buffer.concat([entry, padding]));
      };
      return isTaken(/a vector of more than/, () => {
        const most = 200_000;
        let left = value;
        for (; left > 2 * most; left -= most) session.receive(frame(most));
        session.receive(frame(left - most));
        session.receive(frame(most));
      });
    },
  },
  SYNC_SESSION_BYTES_MAX: {
    step: LARGE_UPDATE_BYTES,
    takes: (value) => asksForAll(Math.floor(value / LARGE_UPDATE_BYTES)),
  },
  BLOB_CHUNK_BYTES: {
    takes: (value) => chunkHashes([new Uint8Array(value)]).length === 32,
  },
  BLOB_BYTES_MAX: {
    takes: (value) =>
      isWithin(/^a blob of/, () => new PartialBlob({ root: '00'.repeat(32), size: value })),
  },
} satisfies Partial<Record<LimitName, LimitCase>>;
