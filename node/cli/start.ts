/** murmurate start: founds a run, or resumes the one in the data directory. */
import { checkBaseModel, type BaseModel } from '../base-model.js';
import { checkData, openTrainer, type TrainerRun } from '../compose-trainer.js';
import type { Origin } from '../config/sources.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { loraModules } from '../model/lora.js';
import { openModelDirectory } from '../model/model-directory.js';
import type { TrainerHost } from '../train/host.js';
import type { PrivacySettings } from '../train/privacy-budget.js';
import { EPOCH_MS_MIN } from '../../protocol/limits.js';
import { encodeManifest } from '../../protocol/manifest-codec.js';
import { InvalidManifestError } from '../../protocol/errors.js';
import type { Manifest, Run } from '../../protocol/manifest.js';
import { columnsOf } from './data-options.js';
import { checkResume, manifestFromOptions } from './found-run.js';
import { writeInitial } from '../initial-adapter.js';
import { checkFrom, importAdapter, sharedWith } from './initial-adapter.js';
import { live, rememberSettings, type LiveInit } from './live.js';
import { fromMembers, listForRun, openSharedModel } from './model-sharing.js';
import { checkDelta, checkLedger, openPrivacyBudget, privacyOf } from './privacy-options.js';
import { loraAlpha, type RunOptions } from './run-options.js';
import {
  DEFAULT_TOKENS,
  planOf,
  sequenceLengthOf,
  type AutoLengthRequest,
  type PlanOptions,
} from './sequence-length.js';
import { withSession, type Session } from './session.js';
import { LOADING, sayIfSlow, sayPacking, sayPlan, sayReading } from './slow.js';
import { startOptions, type StartOptions } from './start-options.js';
import { defineVerb } from './verb.js';

/** --epoch-seconds auto: this many times the steps of one epoch, for slower machines and evaluation. */
const EPOCH_SLACK = 2;
/** Bounds of auto, in ms: gossip needs a moment, and people want to see progress. */
const AUTO_EPOCH_MS_MIN = 5_000;
const AUTO_EPOCH_MS_MAX = 900_000;

/** Of a manifest before its run begins. */
const UNDECIDED = { startMs: 0, epochMs: EPOCH_MS_MIN };

export const startVerb = defineVerb({
  name: 'start',
  summary: 'Found a run and train; the same command again resumes it.',
  stays: true,
  isPeer: true,
  args: [],
  options: startOptions,
  example: `
$ murmurate start --data clinic.jsonl --name offices
run      offices 3f1c9a0b2d44e6...
peer     12D3KooWQp6h...
address  /ip4/192.0.2.7/tcp/40961/p2p/12D3KooWQp6h...
status   http://127.0.0.1:40123
device   cpu (2 threads); cuda was not taken: no NVIDIA card found; webgpu was not taken: no graphics card found
open to the network: whoever reaches these addresses can connect (--listen /ip4/127.0.0.1/tcp/0 keeps to this machine)
epoch 1/30 training: step 10, loss 3.912, held-out 3.871 (base 4.588), 1 update, 0 peers

Elsewhere: murmurate join /ip4/192.0.2.7/tcp/40961/p2p/12D3KooWQp6h... --data law.jsonl`,
  run: ({ options, origins, io }) =>
    withSession(options, options.bootstrap, io, async (session) =>
      live(await prepareStart(session, options, origins)),
    ),
});

/** Founds the run, or takes the one in the directory, and opens what trains. Throws UserError and what that throws. */
export async function prepareStart(
  session: Session,
  options: StartOptions,
  origins: ReadonlyMap<string, Origin>,
): Promise<LiveInit> {
  const { home, logger, host, page, progress, io, lost } = session;
  const contacts = { contacts: options.bootstrap, members: [], admission: null, timeout: null };
  const base = await session.openBase(home.run, fromMembers(session, contacts));
  const settings = privacyOf(options, new Set(origins.keys()), batchSizeOf(session, options));
  await checkLedger(home.directory, home.run, settings);
  const { trainer, run } = await openRun({ ...session, base }, options, origins, settings);
  const sharedModel = sharedWith(run, await openSharedModel(session, run, base.dir));
  const privacy = await openPrivacyBudget(home.directory, trainer, settings);
  await rememberSettings(home.directory, base.dir, options);
  logger.info({ ...trainer.stats }, 'private data read');
  return {
    ...{ home, run, host, trainer, privacy, logger, page, progress, options, io, lost },
    contacts: options.bootstrap,
    members: [],
    sharedModel,
    relay: options.relay,
    mdns: !options.noMdns,
  };
}

/** Of the run in the directory, else of the one that is founded. */
function batchSizeOf({ home }: Session, options: RunOptions): number {
  return home.run?.manifest.training.batchSize ?? options.batchSize;
}

async function openRun(
  session: Session & { base: BaseModel },
  options: StartOptions,
  origins: ReadonlyMap<string, Origin>,
  privacy: PrivacySettings | null,
): Promise<{ trainer: TrainerHost; run: Run }> {
  const { home, base } = session;
  const { peerId } = home.identity;
  const { from } = options;
  const initial =
    from === null || home.run !== null ? null : await importAdapter(from, base.config, origins);
  const modules = initial?.modules ?? loraModules(base.config, options.targetModules);
  const targetModules = initial?.targetModules ?? [
    ...new Set(modules.map(({ name }) => name.slice(name.lastIndexOf('.') + 1))),
  ];
  const open = (run: TrainerRun): Promise<TrainerHost> => openFor(session, run, privacy);
  if (home.run !== null) {
    const { run } = home;
    if (run.manifest.founder !== peerId) {
      throw new UserError(
        `${session.options.dir} holds the run "${run.manifest.name}", which another peer founded; ` +
          'go on with murmurate join, or found a run of your own in another --dir',
        EXIT_USAGE,
      );
    }
    checkResume(options, origins, targetModules, run.manifest, session.options.dir);
    await checkFrom(from, run, session.options.dir);
    checkBaseModel(run, base);
    return { run, trainer: await open(run.manifest) };
  }
  const context = {
    founder: peerId,
    fingerprint: base.fingerprint,
    hiddenSize: base.config.hiddenSize,
    files: await listForRun(session, base.dir),
    targetModules,
    modules,
    initial,
  };
  const draftOf = (sequenceLength: number): Manifest =>
    manifestFromOptions({ ...options, sequenceLength }, { ...context, ...UNDECIDED });
  const { sequenceLength: asked } = options;
  // A first look, so that a value out of bounds is told before data and model are read.
  found(draftOf(asked === 'auto' ? DEFAULT_TOKENS : asked));
  const { rank, alpha } = initial ?? { rank: options.rank, alpha: loraAlpha(options) };
  const draft = draftOf(await decideLength(session, options, { rank, alpha, modules }));
  found(draft);
  const trainer = await open(draft);
  const epochMs = await chooseEpochMs(options, trainer, session);
  const startMs = Date.now() + Math.round(options.startIn * 1000);
  const run = found({ ...draft, schedule: { ...draft.schedule, startMs, epochMs } });
  // Before the manifest, which would name what is not there.
  if (initial !== null) await writeInitial(home.directory.path, initial.theta0);
  await home.directory.writeManifest(run.bytes);
  return { run, trainer };
}

/** Opens what trains in `run`, to be closed with the session. */
async function openFor(
  session: Session & { base: BaseModel },
  run: TrainerRun,
  privacy: PrivacySettings | null,
): Promise<TrainerHost> {
  const { base, home, logger, io, options, progress } = session;
  const { log } = progress;
  const own = {
    ...{ ...options, columns: columnsOf(options), privacy },
    ...{ onPlan: sayPlan(log), onReading: sayReading(log), onPacking: sayPacking(log) },
  };
  const opening = openTrainer(base, run, own, home.identity.peerId, logger, io.signal);
  const trainer = await sayIfSlow(log, LOADING, opening);
  session.atEnd(() => trainer.close());
  checkDelta(privacy, trainer.stats);
  return trainer;
}

/** Tokens of a sequence: what was asked for, or what the data, the model and this machine make of auto. */
async function decideLength(
  { base, io }: Session & { base: BaseModel },
  options: StartOptions,
  adapter: Pick<PlanOptions, 'rank' | 'alpha' | 'modules'>,
): Promise<number> {
  const { batchSize, steps, data } = options;
  checkData(data);
  const request = async (): Promise<AutoLengthRequest> => ({
    plan: planOf(await openModelDirectory(base.dir), { ...adapter, batchSize, steps, options }),
    ...{ data, columns: columnsOf(options) },
  });
  return sequenceLengthOf(options.sequenceLength, request, io.stderr, io.signal);
}

/** Bounds across fields, like the gain of the compression, are the user's to mend. */
function found(manifest: Manifest): Run {
  try {
    return encodeManifest(manifest);
  } catch (cause) {
    if (!(cause instanceof InvalidManifestError)) throw cause;
    throw new UserError(`no such run can be founded: ${cause.message}`, EXIT_USAGE, { cause });
  }
}

async function chooseEpochMs(
  options: RunOptions,
  trainer: TrainerHost,
  { io, progress }: Session,
): Promise<number> {
  if (options.epochSeconds !== 'auto') return Math.round(options.epochSeconds * 1000);
  const measuring = trainer.measureStepMs(io.signal);
  const stepMs = await sayIfSlow(progress.log, 'measuring how long a step takes', measuring);
  const wantedMs = Math.ceil((EPOCH_SLACK * options.steps * stepMs) / 1000) * 1000;
  const epochMs = Math.min(AUTO_EPOCH_MS_MAX, Math.max(AUTO_EPOCH_MS_MIN, wantedMs));
  io.stderr.write(
    `a step takes ${Math.round(stepMs)} ms here, so an epoch of ${options.steps} steps lasts ` +
      `${epochMs / 1000} s (--epoch-seconds)\n`,
  );
  return epochMs;
}
