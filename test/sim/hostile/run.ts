/** Plays one hostile run from its seed, and makes the plan of one that failed as small as it can. */
import { SYNC_TIMEOUT_MS } from '../../../protocol/limits.js';
import type { Outcome, Scenario } from '../checkers.js';
import { endAll, schedule } from './faults.js';
import {
  describePlan,
  drawPlan,
  HOSTILE_ACTS,
  MACHINE_FAULTS,
  NETWORK_FAULTS,
  randomOf,
  type FaultKind,
  type Plan,
} from './plan.js';
import { unprovenFaults } from './expected-red.js';
import { Watch } from './watch.js';
import { World } from './world.js';

/** Looks at all honest peers in each epoch, at instants drawn from the seed, besides both sides of its end. */
const LOOKS = 2;

/** When faults stop, all honest peers have one adapter within so many epochs, or two sync time-outs if that is longer. */
export const SETTLE_EPOCHS = 4;

/** Runs tried to make the plan of a failure smaller: each takes a second or two. */
const SHRINK_RUNS_MAX = 60;

/** Every kind of fault that peers must bear today. */
export function provenKinds(): Set<FaultKind> {
  const all: FaultKind[] = [...NETWORK_FAULTS, ...MACHINE_FAULTS, ...HOSTILE_ACTS];
  return new Set(all.filter((kind) => !(kind in unprovenFaults)));
}

/** One run; `without`: indexes of faults that are left out. */
export async function playHostile(
  plan: Plan,
  without: ReadonlySet<number> = new Set(),
): Promise<Outcome & { compared: number; sealedEpoch: number }> {
  const world = new World(plan);
  const { swarm } = world;
  const watch = new Watch(world);
  const random = randomOf(plan, { ...NO_FAULT, index: 1_000_000 });
  schedule(world, without);
  await world.start();
  for (let epoch = 0; epoch < plan.quietEpoch; epoch++) {
    const looks = Array.from({ length: LOOKS }, () => random.nextFloat()).sort((a, b) => a - b);
    for (const look of looks) {
      await advance(world, epoch + look);
      await watch.check();
    }
    for (const shiftMs of [-1, 1]) {
      await advance(world, epoch + 1, shiftMs);
      await watch.check();
    }
  }
  await endAll(world, watch.held());
  const { epochMs } = swarm.run.manifest.schedule;
  const settleEpochs = Math.max(SETTLE_EPOCHS, Math.ceil((2 * SYNC_TIMEOUT_MS) / epochMs));
  // Late in the epoch: its own updates have reached everybody.
  const settled = plan.quietEpoch + settleEpochs + 0.99;
  await advance(world, settled);
  await watch.check();
  watch.checkOneAdapter(`${settleEpochs} epochs after the last fault`);
  await advance(world, Math.max(settled, plan.settings.epochsMax) + SETTLE_EPOCHS);
  await watch.check();
  const { sha256, updates } = watch.checkEnd(random);
  return { sha256, updates, gap: 0, compared: watch.compared, sealedEpoch: watch.sealedEpoch };
}

const NO_FAULT = { kind: 'update', from: 0, to: 0, target: 0, shiftMs: 0 } as const;

/** On to a moment of the run, unless the checkers have gone past it. */
async function advance({ swarm }: World, epoch: number, shiftMs = 0): Promise<void> {
  const untilMs = swarm.epochStartMs(epoch) + shiftMs;
  if (untilMs > swarm.time.nowMs) await swarm.time.advanceTo(untilMs);
}

/** Leaves out faults, many at a time and then one by one, as long as what is left still fails. */
async function shrink(plan: Plan, without: ReadonlySet<number>): Promise<Set<number>> {
  let left = plan.faults.filter(({ index }) => !without.has(index)).map(({ index }) => index);
  const all = plan.faults.map(({ index }) => index);
  const fails = async (some: readonly number[]): Promise<boolean> => {
    const out = new Set(all.filter((index) => !some.includes(index)));
    return playHostile(plan, out).then(
      () => false,
      () => true,
    );
  };
  let runs = 0;
  for (
    let size = Math.ceil(left.length / 2);
    size >= 1;
    size = size > 1 ? Math.ceil(size / 2) : 0
  ) {
    for (let start = 0; start < left.length && runs < SHRINK_RUNS_MAX;) {
      const fewer = [...left.slice(0, start), ...left.slice(start + size)];
      runs += 1;
      if (await fails(fewer)) left = fewer;
      else start += size;
    }
  }
  return new Set(left);
}

/** `only`: indexes of the faults that happen; null for all. Throws what failed, with the smallest plan that fails. */
export async function runHostile(
  seed: number,
  only: ReadonlySet<number> | null,
  print: (line: string) => void,
): Promise<Outcome> {
  const plan = drawPlan(seed, provenKinds());
  const out = plan.faults.map(({ index }) => index).filter((index) => only?.has(index) === false);
  const without = new Set(out);
  const shown = { ...plan, faults: plan.faults.filter(({ index }) => !without.has(index)) };
  for (const line of describePlan(shown)) print(line);
  try {
    return await playHostile(plan, without);
  } catch (cause) {
    if (only !== null) throw cause;
    const left = await shrink(plan, without);
    const small = { ...plan, faults: plan.faults.filter(({ index }) => left.has(index)) };
    const command = `npm run sim -- --scenario hostile --seed ${seed} --only ${[...left].join(',')}`;
    const text = cause instanceof Error ? (cause.stack ?? cause.message) : String(cause);
    throw new Error(
      `${text}\n${left.size} of ${plan.faults.length} faults are enough: ${command}\n` +
        describePlan(small).join('\n'),
      { cause },
    );
  }
}

/** The number of peers, like everything else, is drawn from the seed. */
export const HOSTILE: Scenario = {
  title:
    'hostile members, faults and a manifest drawn from the seed leave one adapter of honest work',
  run: (seed, _peers, print = () => undefined, only = null) => runHostile(seed, only, print),
};
