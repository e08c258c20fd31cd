/** A peer whose connections all come from one network of hostile members still hears the honest ones. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { DEGREE } from '../../node/net/dial-rule.js';
import { until, type CommandLine } from '../net/command-line.js';
import { setUp } from './set-up.js';

const BOOTSTRAP = '45.0.0.1';
const FOUNDER = '46.0.0.1';
const VICTIM = '47.0.0.1';
const PORT = 4001;
const EPOCHS = 8;

/** Twice what a peer looks for: with no limit on who chooses, none of its own choice would be left. */
const HOSTILE = Array.from({ length: 2 * DEGREE }, (_, i) => `44.0.0.${i + 1}`);

const { network, place, launch } = setUp('ecl');
let hostile: ChildProcess | null = null;
after(() => hostile?.kill('SIGTERM'));

const listen = (address: string): string[] => ['--listen', `/ip4/${address}/tcp/${PORT}`];

async function address(command: CommandLine): Promise<string> {
  return until(
    'an address',
    () => /^address +(\S+)$/m.exec(command.stdout)?.[1] ?? null,
    () => command.output(),
  );
}

describe('a peer in the company of hostile members from one network', () => {
  it('is told of the others, dials some of them itself, and ends with their adapter', async () => {
    const data = join(place, 'data.txt');
    await writeFile(data, Array.from({ length: 40 }, (_, i) => `Shelf ${i}: ${i * 7}.`).join('\n'));
    const internet = await network.switch('internet');
    const machine = async (name: string, ...addresses: string[]) => {
      const made = await network.machine(name);
      for (const each of addresses) await network.plug(made, internet, `${each}/4`);
      return made;
    };
    const own = ['--data', data, '--threads', '1', '--no-mdns'];
    const bootstrap = launch(await machine('b', BOOTSTRAP), 'b', 'bootstrap', ...listen(BOOTSTRAP));
    const contact = await address(bootstrap);
    const founder = launch(
      await machine('f', FOUNDER),
      'f',
      ...['start', '--bootstrap', contact, ...listen(FOUNDER), ...own, '--rank', '2'],
      ...['--epochs', String(EPOCHS), '--epoch-seconds', '5', '--start-in', '30'],
      ...['--steps', '1', '--sequence-length', '16', '--batch-size', '2'],
    );
    await founder.facts();

    const lair = await machine('h', HOSTILE[0]!);
    for (const each of HOSTILE.slice(1))
      await lair.run('ip', 'address', 'add', `${each}/4`, 'dev', 'eth0');
    const script = fileURLToPath(new URL('deaf-members.js', import.meta.url));
    const [program, ...rest] = [...lair.prefix, process.execPath, script, contact];
    hostile = spawn(program, [...rest, ...HOSTILE.map((each) => listen(each)[1]!)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let names = '';
    hostile.stdout?.setEncoding('utf8').on('data', (text: string) => (names += text));
    await until('hostile members', () => names.split('\n').length > HOSTILE.length || null);

    const victim = launch(
      await machine('v', VICTIM),
      'v',
      ...['join', contact, ...listen(VICTIM), ...own],
    );
    const isHostile = ({ address: at }: { address: string | null }): boolean =>
      at?.startsWith('/ip4/44.') ?? false;
    const besieged = await victim.status(
      'more hostile members than a peer looks for',
      ({ peers }) => peers.filter(isHostile).length >= DEGREE,
    );
    assert.ok(besieged.peers.length >= DEGREE);
    const ends = await Promise.all(
      [founder, victim].map((peer) =>
        peer.status('the end of the run', ({ run }) => run.state === 'finished'),
      ),
    );
    assert.deepEqual(
      await until('one adapter', async () => {
        const [one, other] = await Promise.all(
          [founder, victim].map((peer) => peer.status('a status', () => true)),
        );
        return one!.adapter.sha256 === other!.adapter.sha256 ? other!.adapter.sha256 : null;
      }),
      (await founder.status('a status', () => true)).adapter.sha256,
    );
    assert.ok(ends[1]!.adapter.updates > EPOCHS, 'updates of both');
    hostile.kill('SIGTERM');
    await once(hostile, 'exit');
  });
});
