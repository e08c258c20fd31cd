import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Witnesses, type Poll } from '../../node/peer/witnesses.js';
import { afterLongPartition, HORIZON_SCENARIOS } from './horizon-scenarios.js';
import { SCENARIOS } from './scenarios.js';

/** Seeds per scenario: each run takes well under a second. */
const SEEDS = [1, 2, 3];
/** Those of runs with a horizon are longer: some seconds each. npm run sim:nightly -- --scenario NAME takes more. */
const HORIZON_SEEDS = [1];
const PEERS = 6;

for (const [name, scenario] of Object.entries(SCENARIOS)) {
  test(`${name}: ${scenario.title}`, async () => {
    for (const seed of name in HORIZON_SCENARIOS ? HORIZON_SEEDS : SEEDS) {
      try {
        await scenario.run(seed, PEERS);
      } catch (cause) {
        const replay = `npm run sim -- --scenario ${name} --seed ${seed} --peers ${PEERS}`;
        throw new Error(`replay with: ${replay}`, { cause });
      }
    }
  });
}

test('the same seed gives the same adapter, and another seed another one', async () => {
  const scenario = SCENARIOS['everything'];
  assert.ok(scenario);
  const [first, again, other] = [
    await scenario.run(7, PEERS),
    await scenario.run(7, PEERS),
    await scenario.run(8, PEERS),
  ];
  assert.deepEqual(first, again);
  assert.notEqual(first.sha256, other.sha256);
});

test('without rebase halves that part for longer than the horizon stay apart', async (t) => {
  t.mock.method(Witnesses.prototype, 'poll', (): Poll => ({ kind: 'agreed' }));
  const { swarm, few } = await afterLongPartition(1, PEERS);
  await swarm.runToEnd();
  assert.deepEqual(swarm.failures, []);
  const hashesOf = (isFew: boolean): Set<string> => {
    const half = swarm.nodes.filter((node) => few.includes(node) === isFew);
    return new Set(half.map((node) => node.peer!.snapshot().adapter.sha256));
  };
  const [smaller, larger] = [[...hashesOf(true)], [...hashesOf(false)]];
  assert.equal(smaller.length, 1);
  assert.equal(larger.length, 1);
  assert.notEqual(smaller[0], larger[0]);
});
