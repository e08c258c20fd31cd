/** What a seal counts, as bytes: one encoding for one set, and nothing else is read. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { toBitmap } from '../../../protocol/bitmap.js';
import { blobRoot, chunkHashes } from '../../../protocol/blob.js';
import { toHex } from '../../../protocol/bytes.js';
import { SealContentsError } from '../../../protocol/errors.js';
import { publicKeyFromPeerId } from '../../../protocol/identity.js';
import { UpdateLog } from '../../../protocol/log.js';
import { SealContents } from '../../../protocol/seal-contents.js';
import type { Update } from '../../../protocol/update.js';
import * as wire from '../../../protocol/wire/messages.js';
import { testIdentity, testUpdate } from '../../support/runs.js';
import { closedRun } from '../../support/seals.js';

const run = closedRun();
const updates = [0, 1, 2].flatMap((author) =>
  [0, 1, 3, 4, 6, 9].map((epoch) => testUpdate(run, testIdentity(author), epoch)),
);
const peer = (index: number): string => testIdentity(index).peerId;

function logOf(list: readonly Update[]): UpdateLog {
  const log = new UpdateLog();
  for (const update of list) log.insert(update);
  return log;
}

const first = SealContents.of(logOf(updates), null, 4);

/** The log of a peer that has adopted `first`. */
function later(): UpdateLog {
  const log = logOf(updates);
  log.seal(4, 'ab'.repeat(32));
  return log;
}

describe('the contents of a seal', () => {
  it('are a function of the set, and tell any two sets before its epoch apart', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray(updates), fc.shuffledSubarray(updates), (x, y) => {
        const [a, b] = [x, y].map((list) => SealContents.of(logOf(list), null, 4));
        const ids = (list: readonly Update[]): string =>
          list
            .filter(({ epoch }) => epoch < 4)
            .map(({ id }) => id)
            .sort()
            .join();
        assert.equal(a?.name.root === b?.name.root, ids(x) === ids(y));
      }),
    );
  });

  it('come back from their bytes, and know every update that they count', () => {
    const second = SealContents.of(later(), first, 8);
    for (const contents of [SealContents.of(new UpdateLog(), null, 8), first, second]) {
      const read = SealContents.decode(contents.bytes, contents.epoch);
      assert.deepEqual(read.bytes, contents.bytes);
      assert.equal(toHex(blobRoot(chunkHashes([contents.bytes]))), contents.name.root);
      assert.equal(contents.name.size, contents.bytes.length);
      assert.deepEqual([...read.ids()], [...contents.ids()]);
      assert.deepEqual([read.updates, read.fromEpoch], [contents.updates, contents.fromEpoch]);
    }
    assert.deepEqual([first.fromEpoch, first.updates], [0, 9]);
    assert.deepEqual([second.fromEpoch, second.updates], [4, 15]);
    assert.deepEqual(second.epochsOf(peer(1)), [0, 1, 3, 4, 6]);
    for (const epoch of [0, 3, 4, 6]) assert.ok(second.has(peer(2), epoch));
    for (const epoch of [2, 5, 9]) assert.ok(!second.has(peer(2), epoch));
    assert.ok(!second.has(peer(7), 0));
    const ids = new Set([...second.ids()].map(({ id }) => id));
    const expected = updates.filter(({ epoch }) => epoch >= 4 && epoch < 8);
    assert.deepEqual(ids, new Set(expected.map(({ id }) => id)), 'ids since the seal before alone');
  });

  it('keep an author of earlier epochs that has left', () => {
    const log = later();
    const gone = logOf(updates.filter(({ author, epoch }) => author !== peer(0) && epoch >= 4));
    gone.seal(4, 'ab'.repeat(32));
    const second = SealContents.of(gone, first, 8);
    assert.deepEqual(second.epochsOf(peer(0)), [0, 1, 3]);
    assert.notEqual(second.name.root, SealContents.of(log, first, 8).name.root);
  });
});

describe('decoded contents', () => {
  const authors = wire.SealContents.decode(first.bytes).authors;
  const [one, two] = [authors[0] ?? assert.fail(), authors[1] ?? assert.fail()];
  const encode = (fields: Partial<wire.SealContents>): Uint8Array =>
    wire.SealContents.encode({ fromEpoch: 0, authors, ...fields });
  const refused = (bytes: Uint8Array, epoch = 4, what = ''): void =>
    assert.throws(() => SealContents.decode(bytes, epoch), SealContentsError, what);

  it('are refused out of order, with an author twice or without one', () => {
    assert.ok(SealContents.decode(encode({}), 4));
    refused(encode({ authors: authors.toReversed() }));
    refused(encode({ authors: [one, one, two] }));
    refused(encode({ authors: [{ ...one, author: new Uint8Array() }] }));
  });

  it('are refused with ids that are not those of the epochs, or epochs out of their range', () => {
    const withEntry = (changes: Partial<wire.SealedAuthor>): Uint8Array =>
      encode({ authors: [{ ...one, ...changes }] });
    refused(withEntry({ ids: one.ids.slice(32) }));
    refused(withEntry({ ids: one.ids.slice(1) }));
    refused(withEntry({ ids: Uint8Array.from([...one.ids, ...one.ids.subarray(0, 32)]) }));
    refused(withEntry({ epochs: toBitmap([0, 1, 4]) }), 4, 'an epoch that is not sealed');
    refused(encode({ fromEpoch: 4 }));
    refused(encode({ fromEpoch: 5 }));
    refused(first.bytes, 3);
  });

  it('are refused in any other spelling: bits or bytes that say nothing, an author of nothing', () => {
    const padded = Uint8Array.from([...one.epochs, 0]);
    refused(
      encode({ authors: [{ ...one, epochs: padded }, ...authors.slice(1)] }),
      4,
      'a zero byte',
    );
    const member = publicKeyFromPeerId(peer(7));
    const empty = { author: member, epochs: new Uint8Array(), ids: new Uint8Array() };
    const byKey = [...authors, empty].sort((a, b) => Buffer.compare(a.author, b.author));
    refused(encode({ authors: byKey }), 4, 'an author of nothing');
    refused(Buffer.concat([first.bytes, Uint8Array.of(0x7a, 1, 0)]), 4, 'an unknown field');
  });

  it('are canonical or refused, whatever bytes came', () => {
    const survives = (bytes: Uint8Array, epoch: number): void => {
      let contents: SealContents;
      try {
        contents = SealContents.decode(bytes, epoch);
      } catch (error) {
        assert.ok(error instanceof SealContentsError);
        return;
      }
      assert.deepEqual(Buffer.from(contents.bytes), Buffer.from(bytes));
      for (const { author, epoch: of } of contents.ids()) assert.ok(contents.has(author, of));
      for (const author of contents.authors())
        assert.ok(contents.epochsOf(author).every((of) => of < epoch));
    };
    const change = fc.tuple(fc.nat(first.bytes.length - 1), fc.nat(255));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), fc.nat(9), (changes, epoch) => {
        const bytes = first.bytes.slice();
        for (const [at, byte] of changes) bytes[at] = byte;
        survives(bytes, epoch);
      }),
      { numRuns: 500 },
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => survives(bytes, 4)));
  });
});
