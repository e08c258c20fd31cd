/** Members that are silent and, in the last epoch, send rows for all epochs that hide within the spread of honest ones. */
import assert from 'node:assert/strict';
import type { AttackName } from '../../../node/sim/attacks.js';
import { simulate, type SimulationResult } from '../../../node/sim/simulate.js';
import { SYNTHETIC_MODULES, SyntheticWorkload } from '../../../node/sim/workload.js';
import { adapterLayout, adapterSha256, initialAdapter } from '../../../protocol/adapter.js';
import { sha256 } from '../../../protocol/bytes.js';
import type { Run } from '../../../protocol/manifest.js';
import { testIdentity, testRun } from '../../support/runs.js';
import type { Scenario } from '../checkers.js';

const PEERS = 10;
const HOSTILE = 2;
const EPOCHS = 40;
/** So that a member can hold back eight epochs at most. */
const SEALS = { lagMax: 4, sealEvery: 4, sealAfter: 4 };
/** Times the loss that the same rows leave when they are sent in their own time. */
const FACTOR_MAX = 1.5;

function robustRun(label: string): Run {
  const members = Array.from({ length: PEERS }, (_, i) => ({
    peerId: testIdentity(i, label).peerId,
    weight: 1,
  }));
  return testRun((base) => {
    const adapter = { ...base.adapter, rank: 4, modules: SYNTHETIC_MODULES };
    return {
      ...base,
      founder: members[0]!.peerId,
      adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
      schedule: { ...base.schedule, epochsMax: EPOCHS, stepsRef: 10 },
      fold: { ...base.fold, mode: 'robust', trimFraction: HOSTILE / PEERS, ...SEALS },
      membership: { mode: 'allowlist', members },
    };
  });
}

/** One run with an attack; the honest peers measure nothing on the way. */
export async function attacked(seed: number, attack: AttackName | null): Promise<SimulationResult> {
  const label = `hidden/${seed}`;
  const run = robustRun(label);
  const honest = PEERS - HOSTILE;
  const bytes = sha256(Buffer.from(label));
  const { size } = adapterLayout(run.manifest.adapter);
  return simulate(
    {
      ...{ run, honest, attack, seed: bytes, isBlind: true },
      ...{ loss: 0, churn: 0, slow: 0, partition: null },
      identities: run.manifest.membership.mode === 'open' ? [] : identities(label),
      workload: new SyntheticWorkload(honest, size, bytes),
    },
    () => undefined,
    new AbortController().signal,
  );
}

const identities = (label: string) =>
  Array.from({ length: PEERS }, (_, i) => testIdentity(i, label));

export const HIDDEN_ROWS: Scenario = {
  title: 'rows that hide among honest ones do no more harm when they are held back to the end',
  async run(seed) {
    const inTime = await attacked(seed, 'min-max');
    const late = await attacked(seed, 'back-dated-min-max');
    const factor = (late.lossAfter ?? NaN) / (inTime.lossAfter ?? NaN);
    assert.ok(
      factor <= FACTOR_MAX,
      `held back they leave ${factor.toFixed(1)} times the loss, ${FACTOR_MAX} are allowed`,
    );
    const [hash = ''] = Object.keys(late.hashes);
    return { sha256: hash, updates: late.updates, gap: late.lossAfter ?? NaN };
  },
};
