/** murmurate compare: what taking part brought, as held-out loss of base, alone, swarm and the personal mixture by domain. */
import Table from 'cli-table3';
import { manyOption, matching } from '../config.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { readStoredRun, type StoredRun } from '../stored-run.js';
import type { DomainLosses } from '../train/compare.js';
import { directoryOption, jsonOption } from './peer-options.js';
import { reportTenths } from './slow.js';
import { openStoredTrainer, ownSteps, readStoredPeer, trainerOptions } from './stored-trainer.js';
import { defineVerb } from './verb.js';

export const compareVerb = defineVerb({
  name: 'compare',
  summary:
    'Compare the base model, training alone on this peer’s data, the swarm, and the mixture of --personal.',
  args: [],
  options: {
    ...directoryOption,
    on: manyOption(
      matching(
        'NAME=FILE',
        /^[^=]+=.+$/,
        'a name, "=" and a data file; the same name again adds a file',
      ),
      [],
      'texts whose held-out share is measured',
    ),
    ...trainerOptions,
    ...jsonOption,
  },
  example: `
$ murmurate compare --on clinic=clinic.jsonl law=law.jsonl
┌────────┬───────┬───────┬───────┬──────────┐
│ domain │ base  │ alone │ swarm │ personal │
├────────┼───────┼───────┼───────┼──────────┤
│ clinic │ 4.250 │ 3.657 │ 3.760 │ 3.621    │
│ law    │ 4.431 │ 4.324 │ 3.812 │ 3.834    │
└────────┴───────┴───────┴───────┴──────────┘
nats per held-out token; alone: 300 steps on this peer's own data; personal: both mixed, and what
went on from the swarm's adapter on own data`,
  run: async ({ options, io }) => {
    const domains = domainsOf(options.on);
    const stored = await readStoredRun(options.dir);
    const peer = await readStoredPeer(options.dir, stored);
    const { peerId } = peer;
    const trainer = await openStoredTrainer(stored, peer, options, io);
    try {
      const stepsByEpoch = ownSteps(stored, peerId);
      if (!stepsByEpoch.some((count) => count > 0)) {
        throw new UserError(
          'this peer has not finished an epoch of the run yet, so there is nothing to compare; let it train first',
        );
      }
      const report = {
        personal: reportTenths(io.stderr, 'going on from the swarm’s adapter'),
        alone: reportTenths(io.stderr, 'training alone'),
        'held-out': reportTenths(io.stderr, 'measuring'),
      };
      const params = { theta: stored.theta, domains, stepsByEpoch };
      const losses = await trainer.compare(
        params,
        ({ stage, done, total }) => report[stage](done, total),
        io.signal,
      );
      io.stdout.write(
        options.json ? jsonReport(stored, peerId, losses) : tableReport(losses, stepsByEpoch),
      );
    } finally {
      await trainer.close();
    }
  },
});

/** ["a=x", "b=y", "a=z"] -> a: x and z, b: y. */
function domainsOf(on: readonly string[]): { name: string; files: string[] }[] {
  if (on.length === 0) {
    throw new UserError('nothing to compare on; give texts with --on NAME=FILE...', EXIT_USAGE);
  }
  const byName = new Map<string, string[]>();
  for (const entry of on) {
    const split = entry.indexOf('=');
    const name = entry.slice(0, split);
    byName.set(name, [...(byName.get(name) ?? []), entry.slice(split + 1)]);
  }
  return [...byName].map(([name, files]) => ({ name, files }));
}

function jsonReport(
  { run, sha256 }: StoredRun,
  peerId: string,
  losses: readonly DomainLosses[],
): string {
  const heldOutLoss = Object.fromEntries(
    losses.map(({ domain, ...adapters }) => [domain, adapters]),
  );
  return `${JSON.stringify({ runId: run.id, peerId, adapterSha256: sha256, heldOutLoss })}\n`;
}

function tableReport(losses: readonly DomainLosses[], stepsByEpoch: readonly number[]): string {
  const table = new Table({
    head: ['domain', 'base', 'alone', 'swarm', 'personal'],
    style: { head: [], border: [], compact: true },
  });
  const text = (loss: number | null): string => (loss === null ? '-' : loss.toFixed(3));
  for (const { domain, base, alone, swarm, personal } of losses) {
    table.push([domain, text(base), text(alone), text(swarm), text(personal)]);
  }
  const steps = stepsByEpoch.reduce((sum, count) => sum + count, 0);
  return (
    `${table.toString()}\nnats per held-out token; alone: ${steps} steps on this peer's own data; personal: both mixed, and what\n` +
    `went on from the swarm's adapter on own data\n`
  );
}
