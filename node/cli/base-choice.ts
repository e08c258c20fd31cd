/** Which base model --model means: a directory, a name on the hub, or whatever the run has. */
import { stat } from 'node:fs/promises';
import { openBaseModel, type BaseModel } from '../base-model.js';
import { option, text } from '../config.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { hubNameOfDirectory, isCommit, parseHubName, type HubName } from '../model/hub-name.js';
import { isModelDirectory } from '../model/model-directory.js';
import type { Settings } from '../store/settings.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../version.js';
import type { Run } from '../../protocol/manifest.js';
import { createBar, sayIfSlow } from './slow.js';
import type { VerbIo } from './verb.js';

/** --model of every verb that takes one. */
export const modelOption = {
  model: option(
    text('DIR|NAME', 'a directory, or a name on the hub like OWNER/NAME'),
    null,
    'the base model: a directory; OWNER/NAME[@REVISION] on the hub, which is fetched into the cache; or auto, the one that the run names',
    'the embedded tiny-base, or that of the run where it is here',
  ),
} as const;

/** Where is said what was chosen, and what ends it. */
type Io = Pick<VerbIo, 'stderr' | 'terminal' | 'signal'>;

/** --model auto: the model that the run names, fetched where it is not here. */
const AUTO = 'auto';
const BYTES_PER_MB = 1e6;

/** Whether the run, which a newcomer has yet to ask for, decides which model that is. */
export function isLeftToRun(given: string | null): boolean {
  return given === null || given === AUTO;
}

/** What a peer was last started with, as far as it chose the model; null before its first start. */
type Before = Pick<Settings, 'model' | 'modelDir'> | null;

/** The name on a hub that `given` means; null where it means a directory, which wins when one of that name is here. */
export async function hubNameMeant(given: string): Promise<HubName | null> {
  return (await isThere(given)) ? null : parseHubName(given);
}

/**
 * The directory of the model that `given` means, where no run has a say; of null, what the peer had `before`, or the embedded
 * model. What looks like a name on a hub is fetched, or taken from the cache. Which of them it was is said on stderr.
 * Throws UserError.
 */
export async function modelDirectory(
  given: string | null,
  before: Before,
  io: Io,
): Promise<string> {
  if (given === null) return before?.modelDir ?? EMBEDDED_MODEL_DIRECTORY;
  const wanted = await hubNameMeant(given);
  if (wanted === null) {
    if (parseHubName(given) !== null) {
      io.stderr.write(
        `--model ${given} is the directory of that name here, not a model on the hub\n`,
      );
    }
    return given;
  }
  if (given === AUTO) {
    throw new UserError(
      '--model auto takes the model of a run, and there is none yet; name a model',
      EXIT_USAGE,
    );
  }
  return fetchByName(wanted, io, { pinned: pinnedBy(before, given) });
}

/**
 * The base model of a peer of `run`, which may be another one than the run's if --model says so; with null
 * the run is yet to be founded. What is not here is fetched only where `given` says so. Throws UserError.
 * `cacheFile`: see fingerprintModel.
 */
export async function openBase(
  given: string | null,
  run: Run | null,
  before: Before,
  cacheFile: string,
  io: Io,
): Promise<BaseModel> {
  const read = (dir: string): Promise<BaseModel> =>
    sayIfSlow(io.stderr, `reading the model ${dir}`, openBaseModel(dir, cacheFile));
  if (run === null || !isLeftToRun(given)) {
    const dir = given === null ? EMBEDDED_MODEL_DIRECTORY : await modelDirectory(given, before, io);
    return read(dir);
  }
  const { model } = run.manifest;
  const embedded = await openBaseModel(EMBEDDED_MODEL_DIRECTORY, cacheFile);
  if (embedded.fingerprint.weightsSha256 === model.weightsSha256) return embedded;
  const usual = before !== null && (before.model ?? null) === given ? before.modelDir : null;
  if (usual !== null && (await isModelDirectory(usual))) return read(usual);
  const { findCached } = await import('../hub/fetch-model.js');
  const cached = await findCached(model.weightsSha256, process.env);
  if (cached !== null) {
    io.stderr.write(`model ${model.name}: it is in the cache, in ${cached}\n`);
    return read(cached);
  }
  const wanted = parseHubName(model.name);
  if (given === null || wanted?.revision == null || !isCommit(wanted.revision)) throw notHere(run);
  const dir = await fetchByName(wanted, io, { weightsSha256: model.weightsSha256 });
  return read(dir);
}

function notHere({ manifest: { name: run, model } }: Run): UserError {
  const wanted = parseHubName(model.name);
  const isOnHub = wanted?.revision != null && isCommit(wanted.revision);
  return new UserError(
    `the run "${run}" needs the base model ${model.name} (${model.architecture}), which is not here: ` +
      (isOnHub
        ? `the same command with --model ${model.name} fetches it from the hub`
        : 'get its files from the founder, and give their directory with --model DIR'),
  );
}

async function fetchByName(
  wanted: HubName,
  io: Io,
  known: { pinned?: string | null; weightsSha256?: string },
): Promise<string> {
  // The client of the hub takes a tenth of a second to load, and most commands do without.
  const { fetchModel } = await import('../hub/fetch-model.js');
  const bar = createBar(io, `fetching ${wanted.name}, MB`);
  try {
    const { dir, commit } = await fetchModel(wanted, {
      env: process.env,
      signal: io.signal,
      say: (sentence) => void io.stderr.write(`${sentence}\n`),
      onProgress: (done, total) => bar.update(inMb(done), inMb(total)),
      ...known,
    });
    bar.stop();
    io.stderr.write(`model ${wanted.name} at commit ${commit}, in ${dir}\n`);
    return dir;
  } finally {
    bar.stop();
  }
}

/** The commit in use: with the same words a restart takes the same model, whatever the hub has by then. */
function pinnedBy(before: Before, given: string): string | null {
  if (before === null || before.model !== given) return null;
  return hubNameOfDirectory(before.modelDir)?.commit ?? null;
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

function inMb(bytes: number): number {
  return Math.round(bytes / BYTES_PER_MB);
}
