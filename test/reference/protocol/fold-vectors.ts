/** What vectors.json pins of the fold: logs of updates, and the sums that they come to. */
import { adapterSha256 } from '../../../protocol/adapter.js';
import { sha256, toHex } from '../../../protocol/bytes.js';
import { Fold } from '../../../protocol/fold.js';
import { decodeGossip, encodeUpdateMessage } from '../../../protocol/gossip.js';
import { UpdateLog } from '../../../protocol/log.js';
import type { Run } from '../../../protocol/manifest.js';
import { Prng } from '../../../protocol/prng.js';
import { quantise } from '../../../protocol/quantise.js';
import { RowFormats } from '../../../protocol/row-format.js';
import { createUpdate, type Update } from '../../../protocol/update.js';
import { testIdentity, testUpdate } from '../../support/runs.js';

/** [n] float64 -> 8 n bytes, little-endian. */
export function float64Bytes(values: Float64Array): Uint8Array {
  const bytes = new Uint8Array(8 * values.length);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) view.setFloat64(8 * i, value, true);
  return bytes;
}

/** Updates of three authors with lags, a loud one, a gap, and a second update for one slot at the end. */
export function foldLog(run: Run): { messages: Uint8Array[]; forged: Uint8Array } {
  const [a, b, c] = [testIdentity(0), testIdentity(1), testIdentity(2)];
  const updates = [
    testUpdate(run, c, 5, { baseEpoch: 1 }),
    testUpdate(run, a, 0),
    testUpdate(run, b, 0, { size: 60 }),
    testUpdate(run, c, 0),
    testUpdate(run, b, 5, { baseEpoch: 2 }),
    testUpdate(run, a, 5),
    testUpdate(run, a, 8, { size: 0.3 }),
    testUpdate(run, b, 8),
    testUpdate(run, a, 17, { size: 0.2 }),
    testUpdate(run, b, 17, { baseEpoch: 9 }),
    testUpdate(run, c, 17, { size: 0.1 }),
    testUpdate(run, c, 13),
  ];
  const forged = testUpdate(run, b, 8, { salt: 'again' });
  return { messages: updates.map(encodeUpdateMessage), forged: encodeUpdateMessage(forged) };
}

/**
 * Rows that agree but for some that point against them, in epochs of 4, 5, 3, 6 and 36: one is dropped, two, none because
 * there are too few or half of them, and seven, which were compared with a sample.
 */
export function filterLog(run: Run): { messages: Uint8Array[]; forged: Uint8Array } {
  const row = (peer: number, epoch: number, sign: 1 | -1): Update => {
    const format = new RowFormats(run).at(epoch);
    const draw = (label: string): Prng => new Prng(new Uint8Array(32), `${label}/${epoch}`);
    const [common, own] = [draw('common'), draw(`peer ${peer}`)];
    const next = (random: Prng): number => 2 * random.nextFloat() - 1;
    const values = Float64Array.from(
      { length: format.coordinates },
      () => sign * next(common) + 0.5 * next(own),
    );
    const fields = { epoch, baseEpoch: epoch, steps: 8, logDigest: new Uint8Array(32) };
    return createUpdate(run, testIdentity(peer), { ...fields, ...quantise(values, format) });
  };
  const rows = (epoch: number, count: number, against: number): Update[] =>
    Array.from({ length: count }, (_, peer) => row(peer, epoch, peer < against ? -1 : 1));
  const updates = [rows(0, 4, 1), rows(2, 5, 2), rows(3, 3, 1), rows(5, 6, 3), rows(7, 36, 7)];
  const forged = testUpdate(run, testIdentity(35), 7, { salt: 'again' });
  return {
    messages: updates.flat().map(encodeUpdateMessage),
    forged: encodeUpdateMessage(forged),
  };
}

/** A log, its fold, and both once more after the eviction of an author. */
export function foldVector(name: string, run: Run, { messages, forged } = foldLog(run)): object {
  const log = new UpdateLog();
  const state = (): object => {
    const fold = new Fold(run);
    fold.compute(log);
    const dropped = [...fold.dropped()].map(([epoch, rows]) => {
      return { epoch, authors: rows.map(({ author }) => author) };
    });
    return {
      updates: log.size,
      dropped,
      adapterSha256: adapterSha256(fold.theta()),
      // Rounding to float32 would hide most of the sum.
      sumSha256: toHex(sha256(float64Bytes(fold.sum()))),
      logDigest: toHex(log.digest()),
    };
  };
  for (const message of messages) log.insert(decodeUpdate(run, message));
  const before = state();
  log.insert(decodeUpdate(run, forged));
  const result = {
    before,
    afterEviction: state(),
    evicted: log.proofs().map(({ author, epoch }) => ({ author, fromEpoch: epoch })),
  };
  return { run: name, gossip: messages.map(toHex), forged: toHex(forged), ...result };
}

/** The update in a gossip message of `run`. */
export function decodeUpdate(run: Run, message: Uint8Array): Update {
  const decoded = decodeGossip(run, new RowFormats(run), message);
  if (decoded.kind !== 'update') throw new TypeError(`a message of kind ${decoded.kind}`);
  return decoded.update;
}
