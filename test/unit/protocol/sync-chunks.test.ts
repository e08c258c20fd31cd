/** Updates that come in pieces of any size, however small. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { encodeHave, encodeOpening, encodeWant, NO_SEALS } from '../../../protocol/have.js';
import { UpdateLog } from '../../../protocol/log.js';
import { updateBytes } from '../../../protocol/row-format.js';
import { SyncSession } from '../../../protocol/sync.js';
import { updateToWire, UPDATE_OVERHEAD_BYTES_MAX } from '../../../protocol/update.js';
import * as wire from '../../../protocol/wire/messages.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';

const run = testRun();
const updates = [3, 36, 4].map((epoch) => testUpdate(run, testIdentity(1), epoch));

/** A session that waits for all `updates`. */
function waiting(): SyncSession {
  const remote = new UpdateLog();
  for (const update of updates) remote.insert(update);
  const session = new SyncSession(run, new UpdateLog(), new Set());
  session.receive(encodeOpening(run, remote, 0, NO_SEALS));
  for (const frame of encodeHave(run, remote)) session.receive(frame);
  assert.ok([...session.want()].length > 0);
  for (const frame of encodeWant(new Map())) session.receive(frame);
  return session;
}

function chunk(bytes: Uint8Array, last: boolean): Uint8Array {
  return wire.SyncFrame.encode({ chunk: { bytes: Uint8Array.from(bytes), last } });
}

describe('chunks of a sync session', () => {
  it('are put together whatever their sizes, one update after the other', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1 }), (sizes) => {
        const session = waiting();
        for (const update of updates) {
          const encoded = wire.Update.encode(updateToWire(update));
          for (let start = 0, i = 0; start < encoded.length; i++) {
            const end = start + sizes[i % sizes.length]!;
            const event = session.receive(
              chunk(encoded.subarray(start, end), end >= encoded.length),
            );
            if (end < encoded.length) assert.equal(event.kind, 'nothing');
            else assert.deepEqual(event, { kind: 'update', update: updateToWire(update) });
            start = end;
          }
        }
      }),
    );
  });

  it('may hold no more than the largest update of the run', () => {
    const bytes = updateBytes(run) + UPDATE_OVERHEAD_BYTES_MAX;
    const session = waiting();
    assert.equal(session.receive(chunk(new Uint8Array(bytes), false)).kind, 'nothing');
    assert.throws(() => session.receive(chunk(Uint8Array.of(1), true)), /more than \d+ bytes/);
  });

  it('may not be empty unless they end an update, nor left open at the end', () => {
    assert.throws(() => waiting().receive(chunk(new Uint8Array(), false)), /an empty chunk/);
    const session = waiting();
    session.receive(chunk(Uint8Array.of(1), false));
    const end = wire.SyncFrame.encode({ end: {} });
    assert.throws(() => session.receive(end), /the end inside an update/);
  });

  it('do not share a frame with another kind', () => {
    const two = wire.SyncFrame.encode({ chunk: { bytes: Uint8Array.of(1), last: false }, end: {} });
    assert.throws(() => waiting().receive(two), /a frame of 2 kinds/);
  });
});
