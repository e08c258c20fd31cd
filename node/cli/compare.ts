/** murmurate compare: what taking part brought, as held-out loss of base, alone and swarm by domain. */
import Table from 'cli-table3';
import { checkBaseModel, openBaseModel } from '../base-model.js';
import { openTrainer } from '../compose-trainer.js';
import { manyOption, matching } from '../config.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { createLogger } from '../log.js';
import { loadOrCreateIdentity } from '../net/identity.js';
import { readStoredRun, type StoredRun } from '../stored-run.js';
import { DataDirectory } from '../store/directory.js';
import { readSettings } from '../store/settings.js';
import type { DomainLosses } from '../train/compare.js';
import {
  deviceOption,
  directoryOption,
  jsonOption,
  logOptions,
  memoryOption,
  microBatchOption,
  precisionOption,
  threadsOption,
} from './peer-options.js';
import { reportTenths } from './slow.js';
import { defineVerb } from './verb.js';

export const compareVerb = defineVerb({
  name: 'compare',
  summary: 'Compare the base model, training alone on this peer’s data, and the swarm.',
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
    ...threadsOption,
    ...deviceOption,
    ...precisionOption,
    ...microBatchOption,
    ...memoryOption,
    ...jsonOption,
    ...logOptions,
  },
  example: `
$ murmurate compare --on clinic=clinic.jsonl law=law.jsonl
┌────────┬───────┬───────┬───────┐
│ domain │ base  │ alone │ swarm │
├────────┼───────┼───────┼───────┤
│ clinic │ 4.250 │ 3.657 │ 3.760 │
│ law    │ 4.431 │ 4.324 │ 3.812 │
└────────┴───────┴───────┴───────┘
nats per held-out token; alone: 300 steps on this peer's own data`,
  run: async ({ options, io }) => {
    const domains = domainsOf(options.on);
    const stored = await readStoredRun(options.dir);
    const directory = new DataDirectory(options.dir);
    const settings = await readSettings(directory);
    if (settings === null) {
      throw new UserError(
        `${options.dir} does not say which model and data its peer used; start or join with it once more`,
      );
    }
    const base = await openBaseModel(settings.modelDir, directory.pathOf('modelHashes'));
    checkBaseModel(stored.run, base);
    const { peerId } = await loadOrCreateIdentity(directory.pathOf('identity'));
    const logger = createLogger({
      level: options.logLevel,
      format: options.logFormat,
      out: io.stderr,
    });
    const trainer = await openTrainer(
      base,
      stored.run.manifest,
      {
        ...options,
        data: settings.dataFiles,
        ...(settings.columns && { columns: settings.columns }),
        heldOut: settings.heldOutShare,
      },
      peerId,
      logger,
      io.signal,
    );
    try {
      io.stderr.write(`device: ${trainer.deviceLine}\n`);
      const stepsByEpoch = ownSteps(stored, peerId);
      const report = {
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

/** Steps of this peer by epoch, 0 where it sent nothing: what it gets when it trains alone as well. */
function ownSteps({ log, epochsMax }: StoredRun, peerId: string): number[] {
  const steps = Array.from({ length: epochsMax }, (_, epoch) => log.get(peerId, epoch)?.steps ?? 0);
  if (steps.some((count) => count > 0)) return steps;
  throw new UserError(
    'this peer has not finished an epoch of the run yet, so there is nothing to compare; let it train first',
  );
}

function jsonReport(
  { run, sha256 }: StoredRun,
  peerId: string,
  losses: readonly DomainLosses[],
): string {
  const heldOutLoss = Object.fromEntries(
    losses.map(({ domain, base, alone, swarm }) => [domain, { base, alone, swarm }]),
  );
  return `${JSON.stringify({ runId: run.id, peerId, adapterSha256: sha256, heldOutLoss })}\n`;
}

function tableReport(losses: readonly DomainLosses[], stepsByEpoch: readonly number[]): string {
  const table = new Table({
    head: ['domain', 'base', 'alone', 'swarm'],
    style: { head: [], border: [], compact: true },
  });
  const text = (loss: number | null): string => (loss === null ? '-' : loss.toFixed(3));
  for (const { domain, base, alone, swarm } of losses) {
    table.push([domain, text(base), text(alone), text(swarm)]);
  }
  const steps = stepsByEpoch.reduce((sum, count) => sum + count, 0);
  return `${table.toString()}\nnats per held-out token; alone: ${steps} steps on this peer's own data\n`;
}
