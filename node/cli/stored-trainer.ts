/** The trainer of a peer from what its data directory remembers: for verbs that measure or train apart from the run. */
import { checkBaseModel, openBaseModel, type BaseModel } from '../base-model.js';
import { openTrainer } from '../compose-trainer.js';
import type { OptionValues } from '../config.js';
import { UserError } from '../errors.js';
import { createLogger } from '../log.js';
import { loadOrCreateIdentity } from '../net/identity.js';
import type { StoredRun } from '../stored-run.js';
import { DataDirectory } from '../store/directory.js';
import { readSettings, type Settings } from '../store/settings.js';
import type { TrainerHost } from '../train/host.js';
import {
  deviceOption,
  logOptions,
  memoryOption,
  microBatchOption,
  threadsOption,
  weightsOption,
} from './peer-options.js';
import type { VerbIo } from './verb.js';
import { rawOutput } from './output.js';

/** How a verb computes that trains or measures on the peer's own data. */
export const trainerOptions = {
  ...threadsOption,
  ...deviceOption,
  ...weightsOption,
  ...microBatchOption,
  ...memoryOption,
  ...logOptions,
} as const;

export type TrainerVerbOptions = OptionValues<typeof trainerOptions> & { dir: string };

/** Whose data, on which model. */
export interface StoredPeer {
  peerId: string;
  settings: Settings;
  base: BaseModel;
}

/** Throws UserError: a directory whose peer was never started, or another model than the run's. */
export async function readStoredPeer(dir: string, { run }: StoredRun): Promise<StoredPeer> {
  const directory = new DataDirectory(dir);
  const settings = await readSettings(directory);
  if (settings === null) {
    throw new UserError(
      `${dir} does not say which model and data its peer used; start or join with it once more`,
    );
  }
  const base = await openBaseModel(settings.modelDir, directory.pathOf('modelHashes'));
  checkBaseModel(run, base);
  const { peerId } = await loadOrCreateIdentity(directory.pathOf('identity'));
  return { peerId, settings, base };
}

/** Without noise, whatever the peer's own is. Says on stderr what computes. The caller closes it. Throws as openTrainer does. */
export async function openStoredTrainer(
  { run }: StoredRun,
  { peerId, settings, base }: StoredPeer,
  options: TrainerVerbOptions,
  io: VerbIo,
): Promise<TrainerHost> {
  const { logLevel: level, logFormat: format } = options;
  const trainer = await openTrainer(
    base,
    run.manifest,
    {
      ...options,
      data: settings.dataFiles,
      ...(settings.columns && { columns: settings.columns }),
      heldOut: settings.heldOutShare,
    },
    peerId,
    createLogger({ level, format, out: rawOutput(io.stderr) }),
    io.signal,
  );
  io.stderr.write(`device: ${trainer.deviceLine}\n`);
  return trainer;
}

/**
 * Steps of this peer by epoch, 0 where it sent nothing: what it gets when it trains alone as well. Of epochs whose
 * updates were dropped nobody knows it any more: there it gets all that an epoch has.
 */
export function ownSteps({ run, log, dropped, epochsMax }: StoredRun, peerId: string): number[] {
  const { stepsRef } = run.manifest.schedule;
  return Array.from({ length: epochsMax }, (_, epoch) =>
    epoch < (dropped?.epoch ?? 0) ? stepsRef : (log.get(peerId, epoch)?.steps ?? 0),
  );
}
