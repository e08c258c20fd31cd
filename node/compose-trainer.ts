/** The training process of a peer: the base model, the run's settings and this peer's private data. */
import { createHash } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import type { BaseModel } from './base-model.js';
import type { ColumnNames } from './data/columns.js';
import { EXIT_USAGE, UserError } from './errors.js';
import { cacheDirectoryOf } from './hub/endpoint.js';
import type { Logger } from './interfaces.js';
import type { MemoryMode } from './model/memory-mode.js';
import type { DeviceChoice } from './train/choose-device.js';
import { gpuBytes } from './train/gpu-memory.js';
import { TrainerHost } from './train/host.js';
import type { MemoryPlan } from './train/memory-plan.js';
import type { DataProgress, PackingProgress } from './train/messages.js';
import type { PrivacySettings } from './train/privacy-budget.js';
import type { WeightChoice } from './train/weight-formats.js';
import type { AdapterSpec } from '../protocol/adapter.js';
import type { Schedule, Training } from '../protocol/manifest.js';

/** What a peer decides for itself. */
export interface TrainerOptions {
  data: readonly string[];
  /** Names of the data's columns; absent: the usual ones. */
  columns?: ColumnNames;
  heldOut: number;
  /** Null leaves it to availableParallelism(). */
  threads: number | null;
  device: DeviceChoice;
  /** Format of the frozen weights; "auto": the most exact that fits. */
  weights: WeightChoice;
  /** GB of a GPU's memory that may be used; null or absent: what is free. */
  gpuMemory?: number | null;
  /** The most sequences that go through the model at once; "auto": as many of a step as fit into memory. */
  microBatch: number | 'auto';
  /** Whether to save memory at the price of time; "auto": where it is needed. */
  memory: MemoryMode | 'auto';
  /** Absent: without noise. */
  privacy?: Pick<PrivacySettings, 'noise' | 'clip' | 'batchSize'> | null;
  /** Told what training will take, before the model is loaded. */
  onPlan?: (plan: MemoryPlan) => void;
  /** Told now and then how far reading the data is. */
  onReading?: (progress: DataProgress) => void;
  /** Told now and then how far the packed copy of the weights is, where one is made. */
  onPacking?: (progress: PackingProgress) => void;
}

/** What the run decides. */
export interface TrainerRun {
  adapter: AdapterSpec;
  training: Training;
  schedule: Pick<Schedule, 'epochsMax' | 'stepsRef'>;
}

/** Throws UserError (bad model, bad data, no data file), TrainerDiedError, `signal.reason`. */
export async function openTrainer(
  base: Pick<BaseModel, 'dir'>,
  run: TrainerRun,
  options: TrainerOptions,
  peerId: string,
  logger: Logger,
  signal: AbortSignal,
): Promise<TrainerHost> {
  checkData(options.data);
  const { rank, alpha, seed, targetModules, modules, theta0 } = run.adapter;
  const { privacy } = options;
  const { epochsMax, stepsRef } = run.schedule;
  return TrainerHost.open(
    {
      modelDir: base.dir,
      cacheDir: cacheDirectoryOf(process.env),
      dataFiles: options.data.map((file) => resolve(file)),
      ...(options.columns && { columns: options.columns }),
      adapter: {
        ...{ rank, alpha, seed, targetModules: [...targetModules], modules: [...modules] },
        ...(theta0 && { theta0 }),
      },
      training: run.training,
      run: { epochsMax, stepsRef },
      threads: options.threads ?? availableParallelism(),
      device: options.device,
      weights: options.weights,
      gpuMemory: gpuBytes(options.gpuMemory ?? null),
      microBatch: options.microBatch,
      memory: options.memory,
      heldOutShare: options.heldOut,
      dataSeed: dataSeed(peerId),
      ...(privacy && { privacy: { ...privacy, sampleRate: null } }),
      logger,
      ...(options.onPlan && { onPlan: options.onPlan }),
      ...(options.onReading && { onReading: options.onReading }),
      ...(options.onPacking && { onPacking: options.onPacking }),
    },
    signal,
  );
}

/** Throws UserError (wrong usage) when there is no data file. */
export function checkData(data: readonly string[]): void {
  if (data.length > 0) return;
  throw new UserError(
    'no data to train on; name this peer’s text files with --data FILE...',
    EXIT_USAGE,
  );
}

/** 32 bytes: the order of this peer's examples, the same after a restart, another at every peer. */
function dataSeed(peerId: string): Uint8Array {
  return new Uint8Array(createHash('sha256').update('murmurate/data/1\n').update(peerId).digest());
}
