/** murmurate history: the swarm's adapter epoch by epoch, as far back as it can be made again, and which was best here. */
import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import Table from 'cli-table3';
import { adapterSha256, initialAdapter } from '../../protocol/adapter.js';
import { switchOption } from '../config.js';
import { UserError } from '../errors.js';
import { fileSha256 } from '../files.js';
import { countPast, goneReason, pastAdapters, type PastAdapter } from '../past-adapters.js';
import { WEIGHT_FORMATS, type WeightFormat } from '../model/weight-format.js';
import { readStoredRun, type StoredRun } from '../stored-run.js';
import { DataDirectory } from '../store/directory.js';
import { readLosses, writeLosses } from '../store/losses-file.js';
import type { TrainerHost } from '../train/host.js';
import type { WeightChoice } from '../train/weight-formats.js';
import { directoryOption, jsonOption } from './peer-options.js';
import { createBar } from './slow.js';
import {
  openStoredTrainer,
  readStoredPeer,
  trainerOptions,
  type StoredPeer,
  type TrainerVerbOptions,
} from './stored-trainer.js';
import { defineVerb, type VerbIo } from './verb.js';

/** One line of the history. */
export interface Entry extends Omit<PastAdapter, 'theta'> {
  /** On this peer's held-out text, nats per token; null where it was not measured or is not finite. */
  heldOutLoss: number | null;
}

export const historyVerb = defineVerb({
  name: 'history',
  summary: "List the swarm's adapters of past epochs that this peer can still give you.",
  args: [],
  options: {
    ...directoryOption,
    eval: switchOption(
      'measure each on this peer’s held-out text; what was measured is remembered',
    ),
    ...trainerOptions,
    ...jsonOption,
  },
  example: `
$ murmurate history --eval
┌───────┬──────────────┬─────────┬─────────┬──────────┐
│ epoch │ adapter      │ updates │ authors │ held-out │
├───────┼──────────────┼─────────┼─────────┼──────────┤
│  base │ 41d0e5bb9c1f │       0 │       - │    4.250 │
│     0 │ 9b41f0c7a2de │       3 │       3 │    3.912 │
│     1 │ 77ac10de0f2b │       6 │       3 │    3.755 │
└───────┴──────────────┴─────────┴─────────┴──────────┘
best here: epoch 1; murmurate export --epoch 1 ADAPTER_DIR writes it`,
  run: async ({ options, io }) => {
    const stored = await readStoredRun(options.dir);
    const measurer = options.eval ? await openMeasurer(stored, options, io) : null;
    try {
      const entries: Entry[] = [];
      const theta0 = initialAdapter(stored.run.manifest.adapter);
      const base = (await measurer?.measure(theta0, adapterSha256(theta0))) ?? null;
      for (const { theta, ...adapter } of pastAdapters(stored)) {
        io.signal.throwIfAborted();
        const heldOutLoss = (await measurer?.measure(theta, adapter.sha256)) ?? null;
        entries.push({ ...adapter, heldOutLoss });
        // A long fold must not keep Ctrl-C from being heard.
        await setImmediate();
      }
      const history = { stored, base, entries, isMeasured: options.eval };
      io.stdout.write(options.json ? jsonReport(history) : tableReport(history));
    } finally {
      await measurer?.close();
    }
  },
});

interface Measurer {
  /** Nats per held-out token; null where it is not finite. */
  measure(theta: Float32Array, sha256: string): Promise<number | null>;
  close(): Promise<void>;
}

/**
 * Opens the model for the first adapter that was not measured before; sooner where the format of its weights is left
 * open and what was measured does not say which it was, for losses of two formats are not compared. Throws as
 * readStoredPeer does.
 */
async function openMeasurer(
  stored: StoredRun,
  options: TrainerVerbOptions,
  io: VerbIo,
): Promise<Measurer> {
  const directory = new DataDirectory(options.dir);
  const peer = await readStoredPeer(options.dir, stored);
  const total = 1 + countPast(stored);
  const nameOf = await namesOfMeasures(stored, peer);
  const open = (weights: WeightChoice): Promise<TrainerHost> =>
    openStoredTrainer(stored, peer, { ...options, weights }, io);
  let trainer: TrainerHost | null = null;
  let format = options.weights === 'auto' ? null : options.weights;
  format ??= await measuredFormat(directory, nameOf, total);
  if (format === null) {
    trainer = await open('auto');
    format = trainer.weights;
  }
  const measure = nameOf(format);
  const weights = format;
  const losses = await readLosses(directory, measure);
  const bar = createBar(io, 'measuring adapter');
  let done = 0;
  return {
    measure: async (theta, sha256) => {
      const known = losses.get(sha256);
      let loss = known ?? null;
      if (known === undefined) {
        trainer ??= await open(weights);
        const measured = await trainer.evaluate(theta, io.signal);
        if (measured === null) throw nothingHeldOut(options.dir);
        loss = Number.isFinite(measured) ? measured : null;
        losses.set(sha256, loss);
        await writeLosses(directory, measure, losses);
      }
      bar.update(++done, total);
      return loss;
    },
    close: async () => {
      bar.stop();
      await trainer?.close();
    },
  };
}

/** The format with which all of `total` adapters were measured before; null for none. */
async function measuredFormat(
  directory: DataDirectory,
  nameOf: (format: WeightFormat) => string,
  total: number,
): Promise<WeightFormat | null> {
  for (const format of WEIGHT_FORMATS) {
    if ((await readLosses(directory, nameOf(format))).size >= total) return format;
  }
  return null;
}

function nothingHeldOut(dir: string): UserError {
  return new UserError(
    `the peer in ${dir} has held nothing out to measure on; start or join with it once more with a larger --held-out`,
  );
}

/** 64 hex digits for each format: equal only where text, model and arithmetic are the same. */
async function namesOfMeasures(
  { run }: StoredRun,
  { peerId, settings, base }: StoredPeer,
): Promise<(format: WeightFormat) => string> {
  const files: string[] = [];
  for (const file of settings.dataFiles) {
    // A file that is gone is told of when it is to be read.
    files.push(await fileSha256(file).catch(() => `no ${file}`));
  }
  const { sequenceLength, batchSize } = run.manifest.training;
  const { heldOutShare } = settings;
  const { fingerprint } = base;
  const parts = { files, heldOutShare, peerId, fingerprint, sequenceLength, batchSize };
  return (weights) =>
    createHash('sha256')
      .update(JSON.stringify({ ...parts, weights }))
      .digest('hex');
}

interface History {
  stored: StoredRun;
  /** Loss of the untouched base. */
  base: number | null;
  entries: readonly Entry[];
  isMeasured: boolean;
}

/** The epoch with the lowest loss, the earliest of equals; null where nothing was measured. */
export function bestEpoch(entries: readonly Entry[]): number | null {
  let best: { epoch: number; loss: number } | null = null;
  for (const { epoch, heldOutLoss: loss } of entries) {
    if (loss !== null && (best === null || loss < best.loss)) best = { epoch, loss };
  }
  return best?.epoch ?? null;
}

function jsonReport({ stored, base, entries }: History): string {
  const reason = goneReason(stored);
  const { run, dropped } = stored;
  const toEpoch = (dropped?.epoch ?? 0) - 2;
  const gone = reason === null ? null : { fromEpoch: 0, toEpoch, reason };
  const best = bestEpoch(entries);
  return `${JSON.stringify({ runId: run.id, base: { heldOutLoss: base }, gone, epochs: entries, best })}\n`;
}

/** For people: a line an epoch, and what is gone and best in words. */
export function tableReport({ stored, base, entries, isMeasured }: History): string {
  const loss = (value: number | null): string => (value === null ? '-' : value.toFixed(3));
  const theta0 = stored.run.manifest.adapter.initialSha256;
  const table = new Table({
    head: ['epoch', 'adapter', 'updates', 'authors', ...(isMeasured ? ['held-out'] : [])],
    colAligns: ['right', 'left', 'right', 'right', 'right'],
    style: { head: [], border: [], compact: true },
  });
  table.push(['base', theta0.slice(0, 12), 0, '-', ...(isMeasured ? [loss(base)] : [])]);
  for (const { epoch, sha256, updates, authors, heldOutLoss } of entries) {
    const cells = [epoch, sha256.slice(0, 12), updates, authors?.length ?? '-'];
    table.push([...cells, ...(isMeasured ? [loss(heldOutLoss)] : [])]);
  }
  const gone = goneReason(stored);
  const best = bestEpoch(entries);
  const lines = [
    table.toString(),
    ...(gone === null ? [] : [`epochs 0 to ${(stored.dropped?.epoch ?? 0) - 2} are gone: ${gone}`]),
    ...(best === null
      ? []
      : [`best here: epoch ${best}; murmurate export --epoch ${best} ADAPTER_DIR writes it`]),
  ];
  return `${lines.join('\n')}\n`;
}
