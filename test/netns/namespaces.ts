/**
 * Networks made of Linux network namespaces, for tests: machines, switches, links that can be cut, routers that
 * translate addresses, and our command line inside of them. Needs root, iproute2 and nftables.
 */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { CommandLine } from '../net/command-line.js';

const execute = promisify(execFile);

/** No command here takes longer than this, in ms, unless it hangs. */
const COMMAND_MS_MAX = 20_000;

/** How a router chooses the outer port of a connection that goes out. */
export type Mapping =
  /** The inner port where it is free, whatever the destination: most routers at home. */
  | 'endpoint-independent'
  /** Another random port for each destination: "symmetric", as in many companies and mobile networks. */
  | 'endpoint-dependent';

/** One end of a wire between a machine and a switch. */
export interface Link {
  /** The machine's interface, e.g. "eth0". */
  readonly name: string;
  /** The switch's interface at the other end. */
  readonly port: string;
  /** Pulls the plug, without a word to either side. */
  cut(): Promise<void>;
  mend(): Promise<void>;
}

/** A namespace: a machine, a switch or a router. */
export class Machine {
  /** Of the namespace, as `ip netns` knows it. */
  readonly name: string;
  #interfaces = 0;

  /** Use Network. */
  constructor(name: string) {
    this.name = name;
  }

  /** What to put before a command so that it runs in here. */
  get prefix(): string[] {
    return ['ip', 'netns', 'exec', this.name];
  }

  /** A name that no interface in here has yet. */
  nextInterface(): string {
    return `eth${this.#interfaces++}`;
  }

  /** Runs a program in here to its end; resolves with its stdout, rejects when it fails. */
  async run(...command: string[]): Promise<string> {
    return runCommand(...this.prefix, ...command);
  }

  /** Ids of the processes in here. */
  async processes(): Promise<number[]> {
    const pids = await runCommand('ip', 'netns', 'pids', this.name);
    return pids.split('\n').filter(Boolean).map(Number);
  }

  /** Starts `murmurate` with `args` in here. */
  launch(...args: string[]): CommandLine {
    return new CommandLine(args, { prefix: this.prefix });
  }
}

/** Owns all its namespaces: close() ends what runs in them and deletes them. */
export class Network {
  readonly #label: string;
  readonly #machines: Machine[] = [];

  /** `label` begins the names of all namespaces, which are unique by this process's id. */
  constructor(label: string) {
    this.#label = label;
  }

  /** A machine with nothing but its loopback interface. */
  async machine(name: string): Promise<Machine> {
    const machine = new Machine(`${this.#label}-${process.pid}-${name}`);
    await runCommand('ip', 'netns', 'add', machine.name);
    this.#machines.push(machine);
    await machine.run('ip', 'link', 'set', 'lo', 'up');
    return machine;
  }

  /** A switch: whoever is plugged in reaches all others. */
  async switch(name: string): Promise<Machine> {
    const machine = await this.machine(name);
    await machine.run('ip', 'link', 'add', 'bridge', 'type', 'bridge');
    await machine.run('ip', 'link', 'set', 'bridge', 'up');
    return machine;
  }

  /** Plugs `machine` into `lan` with `cidr`, e.g. "192.168.1.2/24"; what is not local goes to `gateway`. */
  async plug(machine: Machine, lan: Machine, cidr: string, gateway?: string): Promise<Link> {
    const name = machine.nextInterface();
    const port = lan.nextInterface();
    const [here, there] = [`netns ${machine.name}`, `netns ${lan.name}`];
    await runCommand(
      ...`ip link add ${name} ${here} type veth peer name ${port} ${there}`.split(' '),
    );
    await lan.run('ip', 'link', 'set', port, 'master', 'bridge', 'up');
    await machine.run('ip', 'address', 'add', cidr, 'dev', name);
    await machine.run('ip', 'link', 'set', name, 'up');
    if (gateway !== undefined) await machine.run('ip', 'route', 'add', 'default', 'via', gateway);
    const set = async (state: 'up' | 'down'): Promise<void> => {
      await lan.run('ip', 'link', 'set', port, state);
    };
    const mend = async (): Promise<void> => {
      await set('up');
      // Else what looked for a neighbour over the cut wire fails whoever asks for it in the next second.
      await machine.run('ip', 'neighbor', 'flush', 'dev', name);
    };
    return { name, port, cut: () => set('down'), mend };
  }

  /**
   * A router that hides `inside` behind one address of `outside`. What nobody inside asked for is dropped
   * without an answer.
   */
  async router(
    name: string,
    outside: { lan: Machine; cidr: string },
    inside: { lan: Machine; cidr: string },
    mapping: Mapping,
  ): Promise<Machine> {
    const router = await this.machine(name);
    const { name: outer } = await this.plug(router, outside.lan, outside.cidr);
    const { name: inner } = await this.plug(router, inside.lan, inside.cidr);
    await router.run('sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward');
    const random = mapping === 'endpoint-dependent' ? ' fully-random' : '';
    await nft(router, [
      'add table ip router',
      'add chain ip router back { type nat hook postrouting priority srcnat; }',
      'add chain ip router there { type nat hook prerouting priority dstnat; }',
      `add rule ip router back oifname ${outer} masquerade${random}`,
      ...['input', 'forward'].flatMap((hook) => [
        `add chain ip router ${hook} { type filter hook ${hook} priority filter; policy drop; }`,
        `add rule ip router ${hook} ct state established,related accept`,
        `add rule ip router ${hook} ct status dnat accept`,
        `add rule ip router ${hook} iifname ${inner} accept`,
      ]),
    ]);
    return router;
  }

  /** Has `router` pass on what comes in at TCP `port` from outside to the same port of `address`. */
  async forwardPort(router: Machine, port: number, address: string): Promise<void> {
    await nft(router, [
      `add rule ip router there iifname eth0 tcp dport ${port} dnat to ${address}:${port}`,
    ]);
  }

  /**
   * Has `router` forward ports that machines inside ask for (UPnP, by miniupnpd), as `outside`, its own address
   * there. Writes its configuration to `file`.
   */
  async answerUpnp(router: Machine, outside: string, file: string): Promise<void> {
    await nft(router, [
      'add table inet filter',
      'add chain inet filter miniupnpd',
      'add chain inet filter prerouting { type nat hook prerouting priority dstnat; }',
      'add chain inet filter postrouting { type nat hook postrouting priority srcnat; }',
      'add chain inet filter prerouting_miniupnpd',
      'add chain inet filter postrouting_miniupnpd',
      'add rule inet filter prerouting jump prerouting_miniupnpd',
      'add rule inet filter postrouting jump postrouting_miniupnpd',
    ]);
    const settings = {
      ext_ifname: 'eth0',
      ext_ip: outside,
      listening_ip: 'eth1',
      secure_mode: 'yes',
      upnp_table_name: 'filter',
      upnp_nat_table_name: 'filter',
      upnp_forward_chain: 'miniupnpd',
      upnp_nat_chain: 'prerouting_miniupnpd',
      upnp_nat_postrouting_chain: 'postrouting_miniupnpd',
      uuid: randomUUID(),
      allow: '1024-65535 192.168.1.0/24 1024-65535',
    };
    const lines = Object.entries(settings).map(([name, value]) =>
      name === 'allow' ? `${name} ${value}` : `${name}=${value}`,
    );
    await writeFile(file, `${lines.join('\n')}\n`);
    await router.run('miniupnpd', '-f', file, '-P', `${file}.pid`);
  }

  /** Ends every process inside and deletes all namespaces; for the end of a test, whatever became of it. */
  async close(): Promise<void> {
    for (const machine of this.#machines.splice(0).reverse()) {
      for (const pid of await machine.processes()) killIfThere(pid);
      await runCommand('ip', 'netns', 'delete', machine.name);
    }
  }
}

async function nft(machine: Machine, lines: readonly string[]): Promise<void> {
  await machine.run('nft', lines.join('; '));
}

export async function runCommand(...[program = '', ...args]: string[]): Promise<string> {
  const { stdout } = await execute(program, args, { timeout: COMMAND_MS_MAX });
  return stdout;
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has just ended by itself.
  }
}
