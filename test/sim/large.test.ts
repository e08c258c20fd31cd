import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LARGE_SCENARIOS, LargeSwarm } from './large-scenarios.js';

const PEERS = 5;

/** Each run trains an adapter a thousand times larger than those of the other scenarios. */
for (const [name, scenario] of Object.entries(LARGE_SCENARIOS)) {
  test(`${name}: ${scenario.title}`, async () => {
    for (const seed of [1, 2]) {
      try {
        await scenario.run(seed, PEERS);
      } catch (cause) {
        const replay = `npm run sim -- --scenario ${name} --seed ${seed} --peers ${PEERS}`;
        throw new Error(`replay with: ${replay}`, { cause });
      }
    }
  });
}

test('the author of a large update uploads it to its four neighbours, whoever else is connected', async () => {
  const swarm = new LargeSwarm({ seed: 1, peers: 16 });
  await swarm.startAll();
  for (const node of swarm.nodes.slice(1)) node.trainer!.givesNaN = true;
  await swarm.runToEnd(1);
  const author = swarm.node(0);
  const { updates } = author.peer!.snapshot().adapter;
  for (const { peer } of swarm.nodes) assert.equal(peer!.snapshot().adapter.updates, updates);
  const sent = (swarm.network.blobBytes.get(author.peerId) ?? 0) / (updates * swarm.updateBytes);
  assert.ok(updates > 0 && sent > 3.9 && sent < 4.1, `${sent} copies of each update`);
});
