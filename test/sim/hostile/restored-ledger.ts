/** A privacy ledger that comes back from a backup with the rest of the data directory. */
import assert from 'node:assert/strict';
import { epsilonOf, type NoisySteps } from '../../../node/train/accountant.js';
import { PrivacySpending } from '../../../node/train/privacy-budget.js';
import type { Scenario } from '../checkers.js';
import { Swarm } from '../swarm.js';
import { DiskReader } from './disks.js';

const SETTING = { sampleRate: 0.05, noise: 1 };
const BUDGET = { epsilon: 20, delta: 1e-5, clip: 1, batchSize: 8 };

export const RESTORED_LEDGER: Scenario = {
  title: 'a privacy ledger put back from a backup shows no less than what was sent',
  async run(seed, peers) {
    const swarm = new Swarm({ seed, peers });
    const owner = swarm.node(2);
    let ledger: readonly NoisySteps[] = [];
    const open = (): PrivacySpending => {
      const spending = new PrivacySpending({ ...SETTING, ...BUDGET }, ledger, async (taken) => {
        ledger = structuredClone(taken);
      });
      owner.privacy = spending;
      return spending;
    };
    open();
    await swarm.startAll();
    await swarm.runToEpoch(8.5);
    const backup = { disk: owner.disk.snapshot(), ledger: structuredClone(ledger) };
    await swarm.runToEpoch(24.5);
    owner.crash();
    owner.disk.restore(backup.disk);
    ledger = backup.ledger;
    const restored = open();
    await owner.start();
    await swarm.runToEpoch(26.5);
    const said = restored.report();
    const reader = new DiskReader(swarm.run);
    const sent = reader
      .updates(swarm.node(0).disk.log)
      .filter(({ author }) => author === owner.peerId)
      .reduce((sum, { steps }) => sum + steps, 0);
    assert.ok(said.steps >= sent, `the ledger says ${said.steps} steps; its updates say ${sent}`);
    const spent = epsilonOf([{ ...SETTING, steps: sent }], BUDGET.delta);
    assert.ok(said.epsilon >= spent, `epsilon ${said.epsilon}, of which ${spent} was sent`);
    await swarm.runToEnd();
    const { sha256, updates } = swarm.node(0).peer!.snapshot().adapter;
    return { sha256, updates, gap: 0 };
  },
};
