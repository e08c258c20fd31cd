/**
 * Runs simulated swarms from the command line: `npm run sim -- --scenario everything --seed 42 --peers 16`.
 * Without --scenario all scenarios run; --seeds N runs N seeds from --seed on. Exit code 1 on a failure.
 * --only 3,17 keeps of a plan that is drawn (scenario hostile) these faults alone.
 */
import { parseArgs } from 'node:util';
import { expectedRed, runKnown } from './hostile/expected-red.js';
import { KNOWN_FAULTS } from './hostile/known-faults.js';
import { LARGE_SCENARIOS } from './large-scenarios.js';
import { SCENARIOS } from './scenarios.js';

const ALL = { ...SCENARIOS, ...LARGE_SCENARIOS, ...KNOWN_FAULTS };

const { values } = parseArgs({
  options: {
    scenario: { type: 'string' },
    seed: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '1' },
    peers: { type: 'string', default: '16' },
    only: { type: 'string' },
  },
});
const peers = Number(values.peers);
const only = values.only === undefined ? null : new Set(values.only.split(',').map(Number));
const first = Number(values.seed);
const names = values.scenario === undefined ? Object.keys(ALL) : [values.scenario];

for (const name of names) {
  const scenario = ALL[name];
  if (scenario === undefined) {
    console.error(`unknown scenario "${name}"; known: ${Object.keys(ALL).join(', ')}`);
    process.exit(2);
  }
  for (let seed = first; seed < first + Number(values.seeds); seed++) {
    const startMs = performance.now();
    try {
      const outcome =
        name in KNOWN_FAULTS
          ? await runKnown(name, scenario, seed, peers)
          : await scenario.run(seed, peers, console.log, only);
      if (outcome === null) {
        console.log(`${name.padEnd(14)} seed ${seed}  fails as expected: ${expectedRed[name]}`);
        continue;
      }
      const { sha256, gap, updates } = outcome;
      const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
      console.log(
        `${name.padEnd(14)} seed ${seed}  ${updates} updates  gap ${gap.toFixed(5)}  ` +
          `adapter ${sha256.slice(0, 16)}  ${seconds} s`,
      );
    } catch (error) {
      console.error(
        `${name} failed; replay with: npm run sim -- --scenario ${name} --seed ${seed} --peers ${peers}`,
      );
      console.error(error);
      process.exitCode = 1;
    }
  }
}
