/** A data directory that two processes use at one time: the adapters stay equal, and past work counts. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { CommandLine } from './command-line.js';
import { killed, Offices, oneAdapter, sealingRun, updatesOf } from './offices.js';

/** More than the test needs: it ends when it has seen what it waits for. */
const EPOCHS = 500;

const SAID =
  /evicted this peer id from epoch \d+|Another process signs updates|does a copy of the data directory run on a second/;

describe('a data directory of an allowlist run', () => {
  it('that two processes use keeps all adapters equal and past work, and what is wrong is said', async () => {
    const offices = await Offices.open('copied');
    try {
      const names = ['shop', 'law', 'farm'];
      const allow = await offices.peerIds(...names);
      const id = allow[2] ?? '';
      const clinic = offices.launch('clinic', ...sealingRun(EPOCHS, 3, allow));
      const { address } = await clinic.facts();
      const others = ['shop', 'law'].map((name) => offices.launch(name, 'join', address));
      const farm = offices.launch('farm', 'join', address);
      const before = await clinic.status(
        'work of all that is sealed',
        (report) => report.adapter.sealedEpoch >= 2 && updatesOf(report, id) >= 2,
      );
      await killed(farm);
      await offices.copy('farm', 'copy');
      const both = ['farm', 'copy'].map((name) => offices.launch(name, 'join', address));
      // Who hears of the other first stops training, and the other then sees nothing wrong; who is cut off is told so.
      const says = async (one: CommandLine): Promise<CommandLine> => {
        await one.status('a word on the copy', ({ attention }) => SAID.test(attention.join(' ')));
        return one;
      };
      const told = await Promise.any(both.map(says));
      // What it says is to be done.
      await killed(told);
      const peers = [clinic, ...others, ...both.filter((one) => one !== told)];
      const reports = await oneAdapter(
        'one adapter, sealed after the copy',
        peers,
        ({ adapter }) => {
          return adapter.sealedEpoch > before.adapter.sealedEpoch + 4;
        },
      );
      for (const report of reports.slice(0, 3)) {
        assert.ok(updatesOf(report, id) >= updatesOf(before, id), 'past work counts');
        assert.doesNotMatch(report.attention.join(' '), SAID);
      }
    } finally {
      await offices.close();
    }
  });
});
