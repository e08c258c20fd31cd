/** A data directory that is put back from an older copy: nobody is evicted, past work counts, and its peer trains on. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { killed, Offices, oneAdapter, sealingRun, updatesOf } from './offices.js';

/** More than the test needs: it ends when it has seen what it waits for. */
const EPOCHS = 500;

describe('a data directory of an allowlist run', () => {
  it('that comes back as an older copy evicts nobody, loses no past work, and trains on', async () => {
    const offices = await Offices.open('restored');
    try {
      const [, , id = ''] = await offices.peerIds('clinic', 'shop', 'law');
      const allow = await offices.peerIds('shop', 'law');
      const clinic = offices.launch('clinic', ...sealingRun(EPOCHS, 3, allow));
      const { address } = await clinic.facts();
      const shop = offices.launch('shop', 'join', address);
      let law = offices.launch('law', 'join', address);
      await clinic.status(
        'work of all that is sealed',
        (report) => report.adapter.sealedEpoch >= 2 && updatesOf(report, id) >= 2,
      );
      await killed(law);
      await offices.copy('law', 'backup');
      law = offices.launch('law', 'join', address);
      const before = await clinic.status('newer work', () => true);
      const sealed = before.adapter.sealedEpoch;
      const newer = await clinic.status(
        'newer work',
        (report) =>
          updatesOf(report, id) >= updatesOf(before, id) + 2 &&
          report.adapter.sealedEpoch >= sealed + 4,
      );
      await killed(law);
      await offices.copy('backup', 'law');
      law = offices.launch('law', 'join', address);
      // It trains on, so that what counts grows by its own work.
      const later = await clinic.status(
        'work after the copy came back',
        (report) => updatesOf(report, id) >= updatesOf(newer, id) + 2,
      );
      const reports = await oneAdapter(
        'one adapter',
        [clinic, shop, law],
        ({ adapter }) => adapter.sealedEpoch > later.adapter.sealedEpoch,
      );
      for (const report of reports) {
        assert.doesNotMatch(report.attention.join(' '), /evicted|Another process|have not agreed/);
        assert.ok(report.peers.every(({ rejected }) => !rejected.equivocation));
      }
    } finally {
      await offices.close();
    }
  });
});
