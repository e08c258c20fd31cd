/** The command's whole path on the synthetic problem: what hostile peers and faults may change, and what not. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { describe, it } from 'node:test';
import { runSimulation, simulateVerb, type SimulateOptions } from '../../../node/cli/simulate.js';
import { defaultsOf } from '../../../node/config.js';
import { UserError } from '../../../node/errors.js';
import { ROOT } from '../train/tiny-model.js';
import type { SimulationResult } from '../../../node/sim/simulate.js';

const stderr = new Writable({ write: (_chunk, _encoding, done) => done() });
const io = { stderr, terminal: false, signal: new AbortController().signal };

async function run(change: Partial<SimulateOptions>): Promise<SimulationResult> {
  const options = defaultsOf(simulateVerb.options) as SimulateOptions;
  return runSimulation(
    { ...options, synthetic: true, peers: 8, epochs: 6, attackers: 0.25, ...change },
    io,
  );
}

describe('a simulated swarm', () => {
  it('agrees on one adapter and learns, whatever the network does', async () => {
    const faults = { loss: 0.3, churn: 0.1, slow: 0.25, partition: '2-4' };
    const result = await run({ peers: 6, epochs: 8, ...faults });
    assert.deepEqual(Object.values(result.hashes), [6]);
    assert.ok((result.lossAfter ?? NaN) < 0.2 * (result.lossBefore ?? 0));
  });

  it('is a function of its seed', async () => {
    const few = { peers: 3, epochs: 4, loss: 0.2 };
    const [one, same] = [await run(few), await run(few)];
    const other = await run({ ...few, seed: 2 });
    assert.deepEqual(one, same);
    assert.notDeepEqual(one.hashes, other.hashes);
  });

  it('evicts peers that sign two updates for one epoch', async () => {
    const result = await run({ attack: 'equivocator' });
    assert.equal(result.evicted, 2);
    assert.deepEqual(Object.values(result.hashes), [6]);
    assert.equal(result.updates, 6 * 6, 'nothing of theirs counts');
  });

  it('counts what is replayed once', async () => {
    assert.equal((await run({ attack: 'replay' })).updates, 8 * 6);
  });

  it('takes updates for epochs gone by, and the robust fold bears them', async () => {
    const mean = await run({ attack: 'back-dated' });
    const robust = await run({ attack: 'back-dated', fold: 'robust', trim: 0.25 });
    assert.equal(mean.updates, 6 * 6 + 2 * 5);
    assert.deepEqual(Object.values(mean.hashes), [6]);
    assert.ok((robust.lossAfter ?? NaN) < (mean.lossAfter ?? 0));
  });

  it('learns with the robust fold although a quarter of the peers send noise', async () => {
    for (const attack of ['gaussian', 'sign-flip'] as const) {
      const result = await run({ attack, fold: 'robust', trim: 0.25 });
      assert.ok((result.lossAfter ?? NaN) < 0.2 * (result.lossBefore ?? 0), attack);
    }
  });

  it('names the authors that harm, and no honest one although each has a problem of its own', async () => {
    const hostile = await run({ attack: 'ipm', epochs: 16 });
    assert.ok(hostile.namedAfter.every((epoch) => epoch !== null && epoch < 16));
    assert.equal(hostile.named.honest, 0);
    assert.match(hostile.attention.join(), /harms the adapter: without its updates of epochs/);
    assert.deepEqual((await run({ epochs: 16 })).named, { hostile: 0, honest: 0 });
  });

  it('trains the embedded model on real text, dealt to the peers', async () => {
    const data = [join(ROOT, 'examples/three-offices/data/clinic.jsonl')];
    const size = { peers: 2, epochs: 3, steps: 4, sequenceLength: 32, batchSize: 4 };
    const real = { synthetic: false, threads: 1, learningRate: 0.01, data };
    const result = await run({ ...size, ...real });
    assert.equal(result.losses.length, 2);
    assert.ok((result.lossAfter ?? NaN) < (result.lossBefore ?? 0));
  });

  it('refuses options that do not go together', async () => {
    await assert.rejects(run({ attack: 'backdoor' }), UserError);
    await assert.rejects(run({ attack: 'ipm', attackers: 0.01 }), UserError);
    await assert.rejects(run({ partition: '4-2' }), UserError);
    await assert.rejects(run({ synthetic: false }), UserError);
  });
});
