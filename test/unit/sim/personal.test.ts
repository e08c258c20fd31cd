/** A personal adapter is better for its peer's own text, and leaves what the swarm shares as it is, bit for bit. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ortExecutor } from '../../../node/engine/ort.js';
import { loraModules } from '../../../node/model/lora.js';
import { openModelDirectory } from '../../../node/model/model-directory.js';
import { dealRecords, writeHand } from '../../../node/sim/deal.js';
import { ModelWorkload } from '../../../node/sim/model-workload.js';
import { Swarm } from '../../../node/sim/swarm.js';
import { SyntheticWorkload, type Workload } from '../../../node/sim/workload.js';
import { TrainingSession } from '../../../node/train/session.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../../../node/version.js';
import { adapterSha256, initialAdapter } from '../../../protocol/adapter.js';
import type { Run } from '../../../protocol/manifest.js';
import { adapterSize, testIdentity, testRun } from '../../support/runs.js';
import { ROOT } from '../train/tiny-model.js';

const HELD_OUT_SHARE = 0.1;
const never = new AbortController().signal;
const seed = new Uint8Array(32).fill(3);

interface Outcome {
  /** Of both peers at the end of each epoch, and some epochs after the run. */
  hashes: string[];
  /** What the first peer's `status` said at those times. */
  losses: { base: number | null; now: number | null; personal: number | null }[];
  /** Of the first peer after the run: [adapterSize] float32. */
  theta: Float32Array;
}

/** Two peers from the start to after the end of a run, in virtual time. */
async function live(run: Run, workload: Workload, measuresPersonal: boolean): Promise<Outcome> {
  const swarm: Swarm = new Swarm({
    ...{ run, seed, identities: [testIdentity(0), testIdentity(1)] },
    openTrainer: (node, clock) => workload.openTrainer(node.index, clock, swarm.time, node.stepMs),
  });
  for (const node of swarm.nodes) node.measuresPersonal = measuresPersonal;
  await swarm.startAll();
  const hashes: string[] = [];
  const losses: Outcome['losses'] = [];
  for (let epoch = 0; epoch <= run.manifest.schedule.epochsMax; epoch++) {
    await swarm.runToEpoch(epoch + 1);
    const snapshots = swarm.nodes.map(({ peer }) => peer?.snapshot() ?? assert.fail());
    hashes.push(...snapshots.map(({ adapter }) => adapter.sha256));
    losses.push(snapshots[0]?.heldOutLoss ?? assert.fail());
  }
  const theta = swarm.node(0).peer?.theta() ?? assert.fail();
  for (const node of swarm.nodes) await node.stop();
  await workload.close();
  assert.deepEqual(swarm.failures, []);
  return { hashes, losses, theta };
}

describe('measuring personal adapters in the course of a run', () => {
  it('changes no bit of the run, is done now and then, and once more after the end', async () => {
    const run = testRun((manifest) => ({
      ...manifest,
      schedule: { ...manifest.schedule, epochsMax: 12 },
      compression: { ...manifest.compression, phases: [{ fromEpoch: 0, slices: 1, bits: 1 }] },
    }));
    const go = (measuresPersonal: boolean): Promise<Outcome> =>
      live(run, new SyntheticWorkload(2, adapterSize(run), seed), measuresPersonal);
    const [measuring, silent] = [await go(true), await go(false)];
    assert.deepEqual(measuring.hashes, silent.hashes);
    assert.ok(new Set(measuring.hashes).size >= 12);
    assert.deepEqual(measuring.theta, silent.theta);
    const personal = measuring.losses.map((one) => one.personal);
    const isSilent = silent.losses.every((one) => one.personal === null);
    assert.ok(isSilent);
    assert.deepEqual(
      measuring.losses.map(({ base, now }) => [base, now]),
      silent.losses.map(({ base, now }) => [base, now]),
    );
    // An evaluation takes the time of a step here: 3 % of it are 34 steps of 8 an epoch.
    assert.deepEqual(
      personal.slice(0, 5).map((loss) => loss === null),
      [true, true, true, true, false],
    );
    const values = personal.filter((loss) => loss !== null);
    assert.equal(new Set(values).size, 3, 'two in the run, one after it');
  });
});

async function officeRun(): Promise<Run> {
  const { config } = await openModelDirectory(EMBEDDED_MODEL_DIRECTORY);
  const targetModules = ['q_proj', 'v_proj'];
  const modules = loraModules(config, targetModules);
  const adapter = { rank: 4, alpha: 8, seed, targetModules, modules };
  return testRun((manifest) => ({
    ...manifest,
    adapter: { ...adapter, initialSha256: adapterSha256(initialAdapter(adapter)) },
    schedule: { ...manifest.schedule, epochsMax: 3, stepsRef: 4 },
    training: { ...manifest.training, sequenceLength: 32, batchSize: 4, learningRate: 0.01 },
    compression: { ...manifest.compression, phases: [{ fromEpoch: 0, slices: 1, bits: 1 }] },
  }));
}

describe('a personal adapter, tuned from what two offices have learned', () => {
  let dir: string;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'murmurate-personal-'));
  });
  after(() => rm(dir, { recursive: true }));

  it('has a lower loss on the peer’s own held-out text, and the swarm’s stays what it was', async () => {
    const run = await officeRun();
    const { adapter, training, schedule } = run.manifest;
    const files = ['clinic', 'law-office'].map((office) =>
      join(ROOT, `examples/three-offices/data/${office}.jsonl`),
    );
    const hands = await dealRecords(files, 2, 'files', seed);
    const workload = await ModelWorkload.open({
      ...{ modelDir: EMBEDDED_MODEL_DIRECTORY, manifest: run.manifest, hands, seed, signal: never },
      ...{ executor: ortExecutor({ threads: 1 }), honest: 2, heldOutShare: HELD_OUT_SHARE },
    });
    const { theta: swarm, hashes, losses: said } = await live(run, workload, true);
    const { epochsMax, stepsRef } = schedule;
    const session = await TrainingSession.open({
      ...{ modelDir: EMBEDDED_MODEL_DIRECTORY, adapter, training, run: { epochsMax, stepsRef } },
      dataFiles: [await writeHand(dir, 'own', hands[0] ?? [])],
      ...{
        microBatch: 'auto',
        memory: 'auto',
        refuseTooLarge: true,
        weights: 'fp32',
        cacheDir: dir,
      },
      ...{ device: 'cpu', threads: 1, heldOutShare: HELD_OUT_SHARE, dataSeed: seed },
    });
    const done: number[] = [];
    const params = { theta: swarm, stepsByEpoch: [stepsRef, stepsRef, stepsRef] };
    const stages = new Set<string>();
    const personal = await session.tunePersonal(
      params,
      ({ stage, done: now }) => {
        stages.add(stage);
        if (stage === 'personal') done.push(now);
      },
      never,
    );
    assert.ok(personal !== null && personal.share > 0);
    const { losses, single, continued, alone } = personal;
    assert.ok(losses.single < losses.swarm - 0.05, `${losses.single} < ${losses.swarm}`);
    assert.ok(losses.single <= losses.alone);
    assert.ok(losses.mixture < (said[0]?.base ?? 0), `${losses.mixture} < ${said[0]?.base}`);
    assert.deepEqual([...stages], ['alone', 'personal']);
    assert.ok(losses.swarm < (said[0]?.base ?? 0));
    assert.equal(await session.evaluate(single, never), losses.single);
    assert.equal(await session.evaluate(continued, never), losses.continued);
    assert.equal(await session.evaluate(alone, never), losses.alone);
    assert.equal(await session.evaluate(swarm, never), losses.swarm);
    assert.equal(adapterSha256(swarm), hashes.at(-1));
    assert.notEqual(adapterSha256(single), hashes.at(-1));
    assert.ok(done.every((one, i) => i === 0 || one > (done[i - 1] ?? 0)));
    const stop = new AbortController();
    const tuning = session.tunePersonal(params, () => stop.abort(), stop.signal);
    await assert.rejects(tuning, { name: 'AbortError' });
  });
});
