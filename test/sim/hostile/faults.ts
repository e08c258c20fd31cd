/** Does what a plan says to the network, to honest machines, and in the name of hostile members. */
import type { SimDisk } from '../../../node/sim/store.js';
import type { Prng } from '../../../protocol/prng.js';
import { act } from './messages.js';
import { isHostileAct, isMachineFault, randomOf, type Fault, type MachineFault } from './plan.js';
import { between, pick } from './settings.js';
import type { World } from './world.js';

/** Clock strobes and drifts: how far, in epochs, and how often in an epoch. */
const STROBE_EPOCHS = 4;
const CLOCK_STEPS = 4;

/** How the network is in a storm; delays beside it are up to half an epoch. */
const STORM = { loss: 0.5, duplicate: 0.3, reset: 0.1 };

/** Puts every fault of the plan but those of `without` (by index) into the calendar. */
export function schedule(world: World, without: ReadonlySet<number>): void {
  const faults = world.plan.faults.filter(({ index }) => !without.has(index));
  for (const fault of faults) {
    const random = randomOf(world.plan, fault);
    const { kind } = fault;
    if (isHostileAct(kind)) {
      const member = world.hostile[fault.target];
      if (member === undefined) throw new RangeError(`no hostile member ${fault.target}`);
      world.at(fault.from, () => act(member, kind, random, world.honestIds), fault.shiftMs);
    } else if (isMachineFault(kind)) scheduleMachine(world, fault, kind, random);
    else scheduleNetwork(world, fault, random);
  }
}

function scheduleNetwork(world: World, fault: Fault, random: Prng): void {
  const { network } = world.swarm;
  const { settings } = world.plan;
  const ids = [...world.honestIds, ...world.hostile.map(({ peerId }) => peerId)];
  const pairs = ids
    .flatMap((a) => ids.filter((b) => a !== b).map((b) => [a, b] as const))
    .filter(() => random.nextFloat() < 0.3);
  switch (fault.kind) {
    case 'partition': {
      const groups = between(random, 2, 4);
      const sides = new Map(ids.map((id) => [id, random.nextBelow(groups)]));
      world.at(fault.from, () => network.partition(sides));
      return world.at(fault.to, () => network.partition(new Map()));
    }
    case 'severed-links':
      world.at(fault.from, () => network.cut(pairs, true));
      return world.at(fault.to, () => network.cut(pairs, false));
    case 'silent-links':
      world.at(fault.from, () => pairs.forEach(([a, b]) => network.cuts.silence(a, b)));
      return world.at(fault.to, () => pairs.forEach(([a, b]) => network.cuts.hear(a, b)));
    default: {
      const storm = { ...settings.faults, ...STORM, delayMsMax: settings.epochMs / 2 };
      world.at(fault.from, () => void (network.faults = storm));
      return world.at(fault.to, () => void (network.faults = settings.faults));
    }
  }
}

function scheduleMachine(world: World, fault: Fault, kind: MachineFault, random: Prng): void {
  const { from, to, target } = fault;
  const node = world.node(target);
  const whenUp = (epoch: number, effect: () => void | Promise<void>): void =>
    world.at(epoch, () => (node.peer === null ? undefined : effect()));
  switch (kind) {
    case 'crash':
    case 'offline-start':
      whenUp(from, () => takeDown(world, fault, random, kind === 'offline-start', () => undefined));
      return;
    case 'stop':
      whenUp(from, async () => {
        world.at(to, () => (node.peer === null ? node.start() : undefined));
        await node.stop();
      });
      return;
    case 'trainer-dies':
      return whenUp(from, () => void (node.trainer!.diesNext = true));
    case 'disk-full':
      world.at(from, () => void (node.disk.isFull = true));
      return world.at(to, () => void (node.disk.isFull = false));
    case 'clock-strobe':
    case 'clock-drift':
      return disturbClock(world, fault, random);
    case 'pause':
      whenUp(from, () => node.rest(true));
      return world.at(to, () => node.rest(false));
    case 'rollback':
    case 'rollback-offline': {
      let backup: SimDisk | null = null;
      const isOffline = kind === 'rollback-offline';
      whenUp(from, () => void (backup = node.disk.snapshot()));
      whenUp(to - 1e-6, () =>
        takeDown(world, { ...fault, to: to + 0.3 }, random, isOffline, () => {
          if (backup !== null) node.disk.restore(backup);
        }),
      );
      return;
    }
    case 'copied-directory':
      whenUp(from, async () => {
        const copy = await world.startCopy(node);
        world.at(to, () => copy.crash());
      });
  }
}

/**
 * kill -9, and a start at the end of the fault: by then `meanwhile` has been done to the disk. Offline, the
 * network of the machine comes up later than the program, by up to two epochs.
 */
function takeDown(
  world: World,
  { target, to }: Fault,
  random: Prng,
  isOffline: boolean,
  meanwhile: () => void,
): void {
  const node = world.node(target);
  const { network } = world.swarm;
  node.crash();
  world.swarm.drawAgain(node);
  meanwhile();
  world.at(to, async () => {
    if (node.peer !== null) return;
    const links = world.swarm.nodes
      .filter((other) => other !== node)
      .map(({ peerId }) => [node.peerId, peerId] as const);
    const offline = [...links, ...world.hostile.map((m) => [node.peerId, m.peerId] as const)];
    if (isOffline) {
      network.cut(offline, true);
      const epochs = Math.min(2 * random.nextFloat(), Math.max(0, world.plan.quietEpoch - to));
      world.at(to + epochs, () => network.cut(offline, false));
    }
    await node.start();
  });
}

/** A clock that jumps to and fro, or runs away a little at a time, and is put right at the end. */
function disturbClock(world: World, { kind, from, to, target }: Fault, random: Prng): void {
  const { epochMs } = world.swarm.run.manifest.schedule;
  const node = world.node(target);
  const direction = pick(random, [-1, 1]);
  for (let epoch = from, i = 1; epoch < to; epoch += 1 / CLOCK_STEPS, i++) {
    const strobe = Math.round((2 * random.nextFloat() - 1) * STROBE_EPOCHS * epochMs);
    const drift = Math.round((direction * i * epochMs) / 8);
    const offsetMs = kind === 'clock-strobe' ? strobe : drift;
    world.at(epoch, () => node.setClock(offsetMs));
  }
  world.at(to, () => node.setClock(0));
}

/** Ends whatever is still wrong: from now on nothing but the hostile members' answers is; `held`: see quieten(). */
export async function endAll(world: World, held: ReadonlySet<string>): Promise<void> {
  for (const member of world.hostile) member.quieten(held);
  const { network, nodes } = world.swarm;
  network.heal();
  network.faults = { ...world.plan.settings.faults, loss: 0, reset: 0, duplicate: 0 };
  for (const copy of world.copies) if (copy.peer !== null) copy.crash();
  for (const node of nodes) {
    node.disk.isFull = false;
    node.setClock(0);
    node.rest(false);
    if (node.peer === null) await node.start();
  }
}
