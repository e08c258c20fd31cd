/** Members on one network without a way out: they find each other although every address they know is wrong. */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { until, type CommandLine } from '../net/command-line.js';
import type { Machine } from './namespaces.js';
import { setUp } from './set-up.js';

const { network, place, launch: launchOn } = setUp('lan');
const machines: Machine[] = [];

before(async () => {
  const lines = Array.from({ length: 40 }, (_, i) =>
    JSON.stringify({ text: `Shelf ${i}: ${7 * i}.` }),
  );
  await writeFile(join(place, 'data.jsonl'), lines.join('\n'));
  const lan = await network.switch('office');
  for (const host of [2, 3]) {
    const machine = await network.machine(`desk-${host}`);
    // Nobody is at the gateway; without a default route the system sends no multicast.
    await network.plug(machine, lan, `192.168.7.${host}/24`, '192.168.7.1');
    machines.push(machine);
  }
});

/** Starts a verb on one of the two machines, at a free port. */
function launch(desk: number, ...args: string[]): CommandLine {
  const data = ['--data', join(place, 'data.jsonl'), '--threads', '1'];
  return launchOn(machines[desk]!, String(desk), ...args, ...data);
}

const RUN = [
  ...['--rank', '2', '--target-modules', 'q_proj', '--steps', '1', '--epochs', '100'],
  ...['--epoch-seconds', '2', '--sequence-length', '16', '--batch-size', '2'],
];

describe('members on one network', () => {
  it('find each other by multicast, and know how far they can be reached', async () => {
    const founder = launch(0, 'start', ...RUN);
    await founder.facts();
    const address = await until(
      'its address',
      () => /^address +(\S+192\.168\S+)$/m.exec(founder.stdout)?.[1] ?? null,
    );
    const joiner = launch(1, 'join', address);
    const met = (peer: CommandLine): Promise<unknown> =>
      peer.status('the other', ({ peers }) => peers.some((each) => each.address !== null));
    await met(joiner);
    for (const peer of [founder, joiner]) {
      peer.kill('SIGINT');
      await peer.ended();
    }
    // Everything that each knows of the other is gone or wrong.
    for (const desk of ['0', '1']) {
      await rm(join(place, desk, 'known-peers.json'), { force: true });
      await rm(join(place, desk, 'port'), { force: true });
    }
    const [a, b] = [launch(0, 'start'), launch(1, 'join', address)];
    await Promise.all([met(a), met(b)]);
    const verdicts = await Promise.all(
      [a, b].map((peer) =>
        peer.status('a verdict', ({ reachability }) => reachability.state !== 'unknown'),
      ),
    );
    for (const { reachability } of verdicts) {
      assert.equal(reachability.state, 'local');
      assert.match(reachability.evidence, /^12D3\w+ dialled \/ip4\/192\.168\.7\.[23]\/tcp\/\d+$/);
    }
  });
});
