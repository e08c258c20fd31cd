/** Bounds of seals, certificates and proofs: what members sign, and what is kept of it. */
import { SealBox } from '../../../node/peer/seal-box.js';
import { equivocationProof } from '../../../protocol/equivocation.js';
import { UpdateRejectedError } from '../../../protocol/errors.js';
import { encodeOpening, HaveVector, NO_SEALS } from '../../../protocol/have.js';
import { publicKeyFromPeerId } from '../../../protocol/identity.js';
import { UpdateLog } from '../../../protocol/log.js';
import { Members } from '../../../protocol/members.js';
import { checkSeal, createSeal } from '../../../protocol/seal.js';
import { SyncSession } from '../../../protocol/sync.js';
import * as wire from '../../../protocol/wire/messages.js';
import { testIdentity, testUpdate } from '../../support/runs.js';
import { anyStatement, closedRun } from '../../support/seals.js';
import { isTaken, isWithin, type LimitCase, type LimitName } from './limit-case.js';

const EVERY = 4;
const run = closedRun([1, 1, 1], { every: EVERY, after: 2 });
const key = publicKeyFromPeerId(testIdentity(1).peerId);
const hash = new Uint8Array(32);

/** A public key of which nobody has the other half. */
function anyKey(index: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(32);
  new DataView(bytes.buffer).setUint32(0, index);
  return bytes;
}

export const SEAL_CASES = {
  BITMAP_BYTES_MAX: {
    takes: (value) =>
      isTaken(/longer than the run/, () =>
        new HaveVector().add(
          [{ author: key, epochs: new Uint8Array(value), digest: hash }],
          [],
          value,
        ),
      ),
  },
  EVICTED_MAX: {
    takes: (value) => {
      const evicted = Array.from({ length: value }, (_, i) => ({
        author: anyKey(i),
        fromEpoch: 0,
      }));
      return isTaken(/a vector of more than/, () => new HaveVector().add([], evicted, 0));
    },
  },
  PROOFS_MAX: {
    takes: (value) => {
      const log = new UpdateLog();
      const update = testUpdate(run, testIdentity(1), 0);
      const proof = equivocationProof(update, testUpdate(run, testIdentity(1), 0, { salt: 'b' }));
      for (let i = 0; i < value; i++) {
        const author = `author ${i}`;
        log.insert({ ...update, author, id: String(i).padStart(64, '0') });
        log.evict({ ...proof, author });
      }
      return log.proofs().length === value;
    },
  },
  SEAL_EPOCHS_MAX: {
    takes: (value) => isTaken(/sealEvery/, () => closedRun([1], { every: value, after: 1 })),
  },
  SEALS_OPEN_MAX: {
    takes: (value) => {
      const box = new SealBox(new Members(run.manifest.membership));
      const oldest = anyStatement(run, 40 - (value - 1) * EVERY);
      return isTaken(/comes too late/, () =>
        box.add(createSeal(oldest, testIdentity(1)), { floor: 0, newest: 40, every: EVERY }),
      );
    },
  },
  SEALS_MAX: {
    takes: (value) => {
      const session = new SyncSession(run, new UpdateLog(), new Set());
      session.receive(encodeOpening(run, new UpdateLog(), 0, NO_SEALS));
      const { signed } = createSeal(anyStatement(run, 8), testIdentity(1));
      const frame = wire.SyncFrame.encode({ seal: signed });
      return isTaken(/too many seals/, () => {
        for (let i = 0; i < value; i++) session.receive(frame);
      });
    },
  },
  VOTERS_MAX: {
    takes: (value) => {
      const one = { member: key, signature: new Uint8Array(64) };
      const signatures = Array.from({ length: value }, () => one);
      const bytes = wire.SealCertificate.encode({ statement: hash, signatures });
      return isTaken(/SealCertificate\.signatures/, () => wire.SealCertificate.decode(bytes));
    },
  },
  SEALED_IDS_BYTES_MAX: {
    takes: (value) => {
      const ids = new Uint8Array(value);
      const bytes = wire.SealedAuthor.encode({ author: key, epochs: hash, ids });
      return isTaken(/SealedAuthor\.ids/, () => wire.SealedAuthor.decode(bytes));
    },
  },
  SEAL_STATEMENT_BYTES_MAX: {
    takes: (value) => {
      const seal = { statement: new Uint8Array(value), member: key, signature: new Uint8Array(64) };
      try {
        checkSeal(run, seal);
        return true;
      } catch (error) {
        return !(error instanceof UpdateRejectedError && error.code === 'oversize');
      }
    },
  },
  SEAL_CONTENTS_BYTES_MAX: {
    takes: (value) => {
      const fields = wire.SealStatement.decode(anyStatement(run, 8).bytes);
      const statement = wire.SealStatement.encode({ ...fields, contentsBytes: value });
      const seal = { statement, member: key, signature: new Uint8Array(64) };
      return isWithin(/contents of/, () => checkSeal(run, seal));
    },
  },
} satisfies Partial<Record<LimitName, LimitCase>>;
