/** A bootstrap node and peers, each on a machine of its own at one switch, that can fall in two. */
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CommandLine, until } from '../net/command-line.js';
import { Network, runCommand, type Machine } from '../netns/namespaces.js';
import { Attendant } from './attendant-client.js';
import type { Line } from './attendant.js';
import { LyingProcess } from './lying-process.js';
import type { Place } from './plan.js';
import { Site } from './site.js';

/** All machines have addresses in 10.77.0.0/16 and listen on this port. */
const PORT = 4001;
const BOOTSTRAP_IP = '10.77.0.250';
const LIAR_IP = '10.77.0.251';
const ipOf = (index: number): string => `10.77.0.${index + 1}`;
/** A far peer's own proxy connects from a second address: what comes from the first one goes to the proxy. */
const proxyIpOf = (index: number): string => `10.77.1.${index + 1}`;
/** Where the proxy of a far peer listens: for what comes in, and from the next on for each other machine. */
const PROXY_PORT = 5000;

/** Of the data directory that can be filled: room for the log of any run here. */
const DISK_MIB = 16;

/** Bytes that a link sends at once, and how long its queue may be. */
const LINK_QUEUE = 'burst 64kb latency 400ms';

/**
 * Epochs after which updates become a checkpoint: so few that the longest partition, between clocks that differ
 * most, reaches to its edge, and that also a short run makes some.
 */
const SEAL_EVERY = 12;

/** Tiny steps: 8 peers fit on two cores. The network is on trial here, not the training. */
const RUN = [
  ...['--name', 'chaos', '--rank', '2', '--target-modules', 'q_proj', 'v_proj', '--steps', '2'],
  ...['--sequence-length', '16', '--batch-size', '2', '--start-in', '5'],
  ...['--seal-every', String(SEAL_EVERY)],
];

export interface SwarmInit {
  /** How the names of the namespaces begin. */
  label: string;
  /** Directory for everything on disk. */
  scratch: string;
  places: readonly Place[];
  /** This peer's data directory is a file system of its own. */
  diskPeer: number;
  epochs: number;
  epochSeconds: number;
}

export class Swarm {
  readonly #init: SwarmInit;
  readonly #network: Network;
  readonly sites: Site[] = [];
  #hub: Machine | null = null;
  #bootstrap: CommandLine | null = null;
  #bootstrapAddress = '';
  #liar: LyingProcess | null = null;

  constructor(init: SwarmInit) {
    this.#init = init;
    this.#network = new Network(init.label);
  }

  /** Builds the network and starts the bootstrap node and the founder of the run. */
  async found(): Promise<void> {
    const { places, epochs, epochSeconds, scratch } = this.#init;
    this.#hub = await this.#network.switch('hub');
    // The other half of the switch, for a partition.
    await this.#hub.run('ip', 'link', 'add', 'bridge2', 'type', 'bridge');
    await this.#hub.run('ip', 'link', 'set', 'bridge2', 'up');
    const machine = await this.#network.machine('bootstrap');
    await this.#network.plug(machine, this.#hub, `${BOOTSTRAP_IP}/16`);
    const dir = join(scratch, 'bootstrap');
    const listen = `/ip4/${BOOTSTRAP_IP}/tcp/${PORT}`;
    const bootstrap = machine.launch('bootstrap', '--dir', dir, '--listen', listen);
    this.#bootstrap = bootstrap;
    for (const [index, place] of places.entries()) {
      this.sites.push(await this.#site(index, place, this.#hub));
    }
    this.#bootstrapAddress = await until(
      'the address of the bootstrap node',
      () => /^address +(\S+)$/m.exec(bootstrap.stdout)?.[1] ?? null,
      () => bootstrap.output(),
    );
    const schedule = ['--epochs', String(epochs), '--epoch-seconds', String(epochSeconds)];
    const founder = this.site(0);
    await founder.prepare(['start', '--bootstrap', this.#bootstrapAddress, ...RUN, ...schedule]);
    founder.launch();
    await this.isUp(founder);
  }

  /** Starts a peer for the first time, by the address of the bootstrap node, or of a peer that is up now. */
  async join(index: number, through: 'bootstrap' | 'peer'): Promise<void> {
    const running = this.sites.find(
      ({ state, address }) => state === 'running' && address !== null,
    );
    const address = through === 'peer' ? (running?.address ?? null) : this.#bootstrapAddress;
    if (address === null) throw new Error(`peer ${index} has nobody to join: all are down`);
    const site = this.site(index);
    await site.prepare(['join', address]);
    site.launch();
  }

  /** Resolves when the peer's status server answers. */
  async isUp(site: Site): Promise<void> {
    await until(
      `peer ${site.index} to be up`,
      () => {
        const command = site.commands().at(-1);
        assert.equal(command?.exit, null, command?.output());
        return site.status();
      },
      () => site.commands().at(-1)?.output() ?? '',
    );
  }

  site(index: number): Site {
    const site = this.sites[index];
    if (site === undefined) throw new RangeError(`no peer ${index}`);
    return site;
  }

  /** Those on one side and all others do not reach each other; a bootstrap node is with the others. */
  async partition(side: readonly number[]): Promise<void> {
    for (const index of side) await this.#plugInto(this.site(index), 'bridge2');
  }

  async heal(): Promise<void> {
    for (const site of this.sites) await this.#plugInto(site, 'bridge');
  }

  /** The first of two peers does not hear the second, wherever that connects from. */
  async deafen([index = 0, silenced = 0]: readonly number[]): Promise<void> {
    await this.site(index).deafen([ipOf(silenced), proxyIpOf(silenced)]);
  }

  /** A member that lies joins by the address of a peer that is up. */
  async startLiar(): Promise<void> {
    const running = this.sites.find(
      ({ state, address }) => state === 'running' && address !== null,
    );
    if (running?.address == null || this.#hub === null) throw new Error('the liar has no address');
    const machine = await this.#network.machine('liar');
    await this.#network.plug(machine, this.#hub, `${LIAR_IP}/16`);
    this.#liar = await LyingProcess.start(machine.prefix, running.address);
  }

  async stopLiar(): Promise<void> {
    await this.#liar?.stop();
  }

  async killBootstrap(): Promise<void> {
    this.#bootstrap?.kill('SIGKILL');
    await this.#bootstrap?.ended();
  }

  /** All commands that ran, with a word on whose they were. */
  commands(): { who: string; command: CommandLine }[] {
    const own = this.sites.flatMap((site) =>
      site.commands().map((command) => ({ who: `peer ${site.index}`, command })),
    );
    return this.#bootstrap === null
      ? own
      : [{ who: 'bootstrap', command: this.#bootstrap }, ...own];
  }

  async #plugInto({ link }: Site, bridge: string): Promise<void> {
    await this.#hub?.run('ip', 'link', 'set', link.port, 'master', bridge);
  }

  async #site(index: number, place: Place, hub: Machine): Promise<Site> {
    const { scratch, diskPeer } = this.#init;
    const machine = await this.#network.machine(`peer${index}`);
    const link = await this.#network.plug(machine, hub, `${ipOf(index)}/16`);
    const shape = `root tbf rate ${place.rateMbit}mbit ${LINK_QUEUE}`.split(' ');
    await machine.run('tc', 'qdisc', 'add', 'dev', link.name, ...shape);
    await hub.run('tc', 'qdisc', 'add', 'dev', link.port, ...shape);
    const line = place.delayMs > 0 ? await this.#farLine(index, place.delayMs, machine) : NEAR;
    const dir = join(scratch, `peer${index}`);
    await mkdir(dir);
    if (index === diskPeer) {
      await runCommand('mount', '-t', 'tmpfs', '-o', `size=${DISK_MIB}m`, 'tmpfs', dir);
    }
    return new Site({
      ...{ index, machine, link, dir, offsetMs: place.offsetMs },
      listen: `/ip4/${ipOf(index)}/tcp/${PORT}`,
      attendant: await Attendant.start(machine.prefix, line),
    });
  }

  /** Leads everything between a peer and the others through its proxy. */
  async #farLine(index: number, delayMs: number, machine: Machine): Promise<Line> {
    const [own, from] = [ipOf(index), proxyIpOf(index)];
    await machine.run('ip', 'address', 'add', `${from}/16`, 'dev', 'eth0');
    const peers = this.#init.places.map((_, i) => ipOf(i));
    const others = [...peers.filter((ip) => ip !== own), BOOTSTRAP_IP];
    const routes = [own, ...others].map((host, i) => ({
      ...{ listenPort: PROXY_PORT + i, host, port: PORT, from },
    }));
    const lines = [
      'add table ip line',
      'add chain ip line in { type nat hook prerouting priority dstnat; }',
      'add chain ip line out { type nat hook output priority -100; }',
      `add rule ip line in ip daddr ${own} tcp dport ${PORT} redirect to :${PROXY_PORT}`,
      ...routes
        .slice(1)
        .map(
          ({ host, listenPort }) =>
            `add rule ip line out ip saddr ${own} ip daddr ${host} tcp dport ${PORT} redirect to :${listenPort}`,
        ),
    ];
    await machine.run('nft', lines.join('; '));
    return { delayMs, routes };
  }
}

const NEAR: Line = { delayMs: 0, routes: [] };
