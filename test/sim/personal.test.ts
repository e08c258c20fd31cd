/** A personal adapter is better for its peer's own text, and leaves what the swarm shares as it is, bit for bit. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ortExecutor } from '../../node/engine/ort.js';
import { loraModules } from '../../node/model/lora.js';
import { openModelDirectory } from '../../node/model/model-directory.js';
import { dealRecords, writeHand } from '../../node/sim/deal.js';
import { ModelWorkload } from '../../node/sim/model-workload.js';
import { Swarm } from '../../node/sim/swarm.js';
import { TrainingSession } from '../../node/train/session.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../../node/version.js';
import { adapterSha256, initialAdapter } from '../../protocol/adapter.js';
import type { Run } from '../../protocol/manifest.js';
import { testIdentity, testRun } from '../support/runs.js';
import { ROOT } from '../unit/train/tiny-model.js';

/** An evaluation takes the time of one step here, and may take 3 % of that of all: 34 steps are in the fifth epoch. */
const [EPOCHS, STEPS] = [6, 7];
const HELD_OUT_SHARE = 0.1;
const never = new AbortController().signal;
const seed = new Uint8Array(32).fill(3);
const FILES = ['clinic', 'law-office'].map((office) =>
  resolve(ROOT, `examples/three-offices/data/${office}.jsonl`),
);

interface Outcome {
  /** Of the first peer at the end of each epoch, of both after the run. */
  hashes: string[];
  theta: Float32Array;
  /** What `status` said of the personal adapter, epoch by epoch. */
  personal: (number | null)[];
  losses: { base: number | null; now: number | null };
}

async function makeRun(): Promise<Run> {
  const { config } = await openModelDirectory(EMBEDDED_MODEL_DIRECTORY);
  const targetModules = ['q_proj', 'v_proj'];
  const modules = loraModules(config, targetModules);
  const adapter = { rank: 4, alpha: 8, seed, targetModules, modules };
  return testRun((manifest) => ({
    ...manifest,
    adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
    schedule: { ...manifest.schedule, epochsMax: EPOCHS, stepsRef: STEPS },
    training: { ...manifest.training, sequenceLength: 32, batchSize: 4, learningRate: 0.01 },
    compression: { ...manifest.compression, phases: [{ fromEpoch: 0, slices: 1, bits: 1 }] },
  }));
}

/** Two offices fine-tune the embedded model for real, under virtual time. */
async function live(run: Run, measuresPersonal: boolean): Promise<Outcome> {
  const hands = await dealRecords(FILES, FILES.length, 'files', seed);
  const workload = await ModelWorkload.open({
    ...{ modelDir: EMBEDDED_MODEL_DIRECTORY, manifest: run.manifest, hands, seed, signal: never },
    ...{ executor: ortExecutor({ threads: 1 }), honest: 2, heldOutShare: HELD_OUT_SHARE },
  });
  const swarm: Swarm = new Swarm({
    ...{ run, seed, identities: [testIdentity(0), testIdentity(1)] },
    openTrainer: (node, clock) => workload.openTrainer(node.index, clock, swarm.time, node.stepMs),
  });
  for (const node of swarm.nodes) node.measuresPersonal = measuresPersonal;
  await swarm.startAll();
  const hashes: string[] = [];
  const personal: (number | null)[] = [];
  for (let epoch = 0; epoch <= EPOCHS; epoch++) {
    await swarm.runToEpoch(epoch + 1);
    const { adapter, heldOutLoss } = swarm.node(0).peer?.snapshot() ?? assert.fail();
    hashes.push(adapter.sha256);
    personal.push(heldOutLoss.personal);
  }
  const { peer } = swarm.node(0);
  const { heldOutLoss } = peer?.snapshot() ?? assert.fail();
  hashes.push(swarm.node(1).peer?.snapshot().adapter.sha256 ?? '');
  const theta = peer?.theta() ?? assert.fail();
  for (const node of swarm.nodes) await node.stop();
  await workload.close();
  assert.deepEqual(swarm.failures, []);
  return { hashes, theta, personal, losses: heldOutLoss };
}

describe('a personal adapter', () => {
  let run: Run;
  let measuring: Outcome;
  before(async () => {
    run = await makeRun();
    measuring = await live(run, true);
  });

  it('is measured in the course of a run, which goes as it would without', async () => {
    const silent = await live(run, false);
    assert.deepEqual(measuring.hashes, silent.hashes);
    assert.deepEqual(measuring.theta, silent.theta);
    assert.ok(silent.personal.every((loss) => loss === null));
    assert.deepEqual(measuring.losses, { ...silent.losses, personal: measuring.personal.at(-1) });
    const [before, during = null, end = null] = [3, 4, 6].map((i) => measuring.personal[i]);
    assert.equal(before, null);
    assert.ok(during !== null && end !== null && during !== end);
    for (const loss of [during, end]) assert.ok(loss < (measuring.losses.base ?? 0));
  });

  describe('tuned from the swarm’s', () => {
    let dir: string;
    before(async () => {
      dir = await mkdtemp(join(tmpdir(), 'murmurate-personal-'));
    });
    after(() => rm(dir, { recursive: true }));

    it('has a lower loss on the peer’s own held-out text, and the swarm’s stays what it was', async () => {
      const [hand = []] = await dealRecords(FILES, FILES.length, 'files', seed);
      const { adapter, training, schedule } = run.manifest;
      const { epochsMax, stepsRef } = schedule;
      const session = await TrainingSession.open({
        ...{ modelDir: EMBEDDED_MODEL_DIRECTORY, dataFiles: [await writeHand(dir, 'own', hand)] },
        ...{ adapter, training, run: { epochsMax, stepsRef }, device: 'cpu', threads: 1 },
        ...{ microBatch: 'auto', memory: 'auto', refuseTooLarge: true, precision: 'fp32' },
        ...{ heldOutShare: HELD_OUT_SHARE, dataSeed: seed },
      });
      const swarm = measuring.theta;
      const before = adapterSha256(swarm);
      const done: number[] = [];
      const personal = await session.tunePersonal(swarm, (one) => done.push(one.done), never);
      assert.ok(personal !== null && personal.share > 0 && personal.steps > 0);
      const { losses, theta } = personal;
      assert.ok(losses.personal < losses.swarm - 0.05, `${losses.personal} < ${losses.swarm}`);
      assert.ok(losses.swarm < (measuring.losses.base ?? 0));
      assert.equal(await session.evaluate(theta, never), losses.personal);
      assert.equal(await session.evaluate(swarm, never), losses.swarm);
      assert.equal(adapterSha256(swarm), before);
      assert.notEqual(adapterSha256(theta), before);
      assert.ok(done.every((one, i) => i === 0 || one > (done[i - 1] ?? 0)));
      const stop = new AbortController();
      const tuning = session.tunePersonal(swarm, () => stop.abort(), stop.signal);
      await assert.rejects(tuning, { name: 'AbortError' });
    });
  });
});
