/** Which base model --model means: a directory, a name on the hub, or whatever the run has. */
import { stat } from 'node:fs/promises';
import { openBaseModel, type BaseModel } from '../base-model.js';
import { option, text } from '../config.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { hubNameOfDirectory, isCommit, parseHubName, type HubName } from '../model/hub-name.js';
import { isModelDirectory } from '../model/model-directory.js';
import type { Settings } from '../store/settings.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../version.js';
import type { BlobName } from '../../protocol/blob.js';
import type { Run } from '../../protocol/manifest.js';
import { createBar, inMb, sayIfSlow } from './slow.js';
import type { VerbIo } from './verb.js';

/** --model of every verb that takes one. */
export const modelOption = {
  model: option(
    text('DIR|NAME', 'a directory, or a name on the hub like OWNER/NAME'),
    null,
    'the base model: a directory; OWNER/NAME[@REVISION] on the hub, which is fetched into the cache; auto, the one that the run names, from the hub or else from members that share it; or peers, the same from members alone',
    'the embedded tiny-base, or that of the run where it is here',
  ),
} as const;

/** Where is said what was chosen, and what ends it. */
type Io = Pick<VerbIo, 'stderr' | 'terminal' | 'signal'>;

/** --model auto: the model that the run names, fetched where it is not here; peers: the same, from members alone. */
const AUTO = 'auto';
const PEERS = 'peers';

/** Whether the run, which a newcomer has yet to ask for, decides which model that is. */
export function isLeftToRun(given: string | null): boolean {
  return given === null || mayFetchFromMembers(given);
}

/** Whether members of the run may be asked for its model, which takes a network. */
export function mayFetchFromMembers(given: string | null): boolean {
  return given === AUTO || given === PEERS;
}

/** Fetches the model of a run from its members, by the catalogue that the run names; returns its directory. */
export type FromMembers = (run: Run, files: BlobName) => Promise<string>;

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
  if (mayFetchFromMembers(given)) {
    throw new UserError(
      `--model ${given} takes the model of a run, and there is none yet; name a model`,
      EXIT_USAGE,
    );
  }
  return fetchByName(wanted, io, { pinned: pinnedBy(before, given) });
}

/**
 * The base model of a peer of `run`, which may be another one than the run's if --model says so; with null
 * the run is yet to be founded. What is not here is fetched only where `given` says so. Throws UserError.
 * `cacheFile`: see fingerprintModel. `fromMembers`: null where there is no network to ask them by.
 */
export async function openBase(
  given: string | null,
  run: Run | null,
  before: Before,
  cacheFile: string,
  io: Io,
  fromMembers: FromMembers | null = null,
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
  const cached = await findCached(model, process.env, cacheFile);
  if (cached !== null) {
    io.stderr.write(`model ${model.name}: it is in the cache, in ${cached}\n`);
    return read(cached);
  }
  if (given === null) throw notHere(run);
  const onHub = given === AUTO ? hubNameOf(run) : null;
  const hasMembers = model.files !== null && fromMembers !== null;
  if (onHub !== null) {
    try {
      return await read(await fetchByName(onHub, io, { weightsSha256: model.weightsSha256 }));
    } catch (error) {
      if (!hasMembers || !(await isOfHub(error))) throw error;
      io.stderr.write(`${(error as UserError).message}; asking the members of the run instead\n`);
    }
  }
  if (model.files === null || fromMembers === null) throw notHere(run);
  const dir = await fromMembers(run, model.files);
  io.stderr.write(`model ${model.name}: fetched from members, in ${dir}\n`);
  return read(dir);
}

/** The name of the run's model on a hub, at one commit; null where it has none. */
function hubNameOf({ manifest: { model } }: Run): HubName | null {
  const wanted = parseHubName(model.name);
  return wanted?.revision != null && isCommit(wanted.revision) ? wanted : null;
}

/** Whether the hub would not give the model, or could not be asked, which somebody else may make up for. */
async function isOfHub(error: unknown): Promise<boolean> {
  if (!(error instanceof UserError)) return false;
  const { HubRefusal, HubUnreachableError } = await import('../hub/client.js');
  const { endpointOf } = await import('../hub/endpoint.js');
  const { cause } = error;
  const isRefused = cause instanceof HubRefusal || cause instanceof HubUnreachableError;
  return isRefused || endpointOf(process.env).isOffline;
}

function notHere(run: Run): UserError {
  const { name, model } = run.manifest;
  const isOnHub = hubNameOf(run) !== null;
  const places = [
    ...(isOnHub ? ['from the hub'] : []),
    ...(model.files !== null ? ['from members that share it (--share-model)'] : []),
  ];
  const word = model.files === null ? model.name : AUTO;
  return new UserError(
    `the run "${name}" needs the base model ${model.name} (${model.architecture}), which is not here: ` +
      (places.length > 0
        ? `the same command with --model ${word} fetches it ${places.join(', or ')}`
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
