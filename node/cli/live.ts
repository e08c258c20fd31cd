/** What start and join have in common: from a known run to a peer that trains until it is told to stop. */
import { setTimeout as delay } from 'node:timers/promises';
import { resolve } from 'node:path';
import type { OptionValues } from '../config.js';
import type { RunningPeer, RunningPeerInit } from '../compose.js';
import { openHistory, type OpenHistory } from '../open-history.js';
import type { StatusReport } from '../status.js';
import type { DataDirectory } from '../store/directory.js';
import { readSettings, writeSettings } from '../store/settings.js';
import type { TrainerHost } from '../train/host.js';
import { columnsOf } from './data-options.js';
import type { peerOptions } from './peer-options.js';
import { privacyLine } from './privacy-options.js';
import type { Progress } from './progress.js';
import { reachNote } from './reach.js';
import { answerRequests } from './requests.js';
import type { StatusPage } from './status-page.js';
import type { VerbIo } from './verb.js';

/** How often the status is looked at, in ms: once for history and progress alike. */
const POLL_MS = 500;

/** After the last epoch nothing new may come for so many epochs before --exit-when-finished exits. */
const QUIET_EPOCHS = 2;

export type PeerOptions = OptionValues<typeof peerOptions>;

export interface LiveInit
  extends Omit<RunningPeerInit, 'isResting' | 'measuresPersonal' | 'logBytesMax'> {
  trainer: TrainerHost;
  page: StatusPage;
  options: PeerOptions;
  io: VerbIo;
  progress: Progress;
  /** Aborted, with a UserError as reason, when another process has taken the data directory. */
  lost: AbortSignal;
}

/** Runs the peer until Ctrl-C, a fault that it cannot mend, or the end with --exit-when-finished. */
export async function live(init: LiveInit): Promise<void> {
  const { options, page, progress } = init;
  const whileUp = ({ lastStatus }: UpPeer, stop: AbortSignal): Promise<void> => {
    announce(lastStatus(), page.server?.url ?? null, init);
    return watch(lastStatus, progress, options, stop);
  };
  const running = { ...init, ...ownOptions(options) };
  await keepRunning(running, whileUp).finally(() => progress.stop());
}

/** What a peer runs with beside its parts. */
export type RunningInit = Omit<LiveInit, 'options' | 'progress'> &
  Pick<RunningPeerInit, 'measuresPersonal' | 'logBytesMax'>;

/** What a peer's own options say of how it lives. */
export function ownOptions(
  options: Pick<PeerOptions, 'noPersonal' | 'logDisk'>,
): Pick<RunningPeerInit, 'measuresPersonal' | 'logBytesMax'> {
  const logBytesMax = options.logDisk === 'all' ? Infinity : options.logDisk * 1e9;
  return { measuresPersonal: !options.noPersonal, logBytesMax };
}

/** A peer that is on the network. */
export interface UpPeer {
  peer: RunningPeer;
  /** What `GET /status` said when it was looked at last, at most POLL_MS ago. */
  lastStatus: () => StatusReport;
}

/**
 * Runs the peer until `whileUp`, which is called once it is on the network, has settled, `io.signal` aborts or the peer
 * cannot go on; then closes it. Throws what `whileUp` throws, why the peer cannot go on, `lost.reason`.
 */
export async function keepRunning(
  init: RunningInit,
  whileUp: (up: UpPeer, stop: AbortSignal) => Promise<void>,
): Promise<void> {
  const { io, home, host, page, lost, logger } = init;
  const { isResting = false } = (await readSettings(home.directory)) ?? {};
  const { RunningPeer } = await import('../compose.js');
  const peer = new RunningPeer({ ...init, isResting });
  const over = new AbortController();
  const stop = AbortSignal.any([io.signal, lost, over.signal]);
  const ending: Promise<void>[] = [];
  let history: OpenHistory | null = null;
  try {
    const opened = await openHistory(home.directory);
    history = opened;
    await peer.start();
    const status = (): StatusReport => opened.withProblem(peer.status());
    page.show({ status, history: () => opened.rows(), registries: () => [host.registry] });
    if (page.server !== null) await home.directory.writeLines('http', [page.server.url]);
    const controls = {
      rest: (resting: boolean): void => peer.rest(resting),
      extend: (epochsMax: number): Promise<string | null> => peer.extend(epochsMax),
      invite: (epochs: number): string => peer.invite(epochs),
      leave: io.interrupt,
    };
    ending.push(answerRequests(home.directory, controls, logger, stop));
    let last = status();
    const look = (): void => opened.observe((last = status()));
    ending.push(every(POLL_MS, look, stop));
    // `done` rejects when training cannot go on; it does not settle before that by itself.
    await Promise.race([whileUp({ peer, lastStatus: () => last }, stop), peer.done]);
  } finally {
    over.abort();
    await home.directory.remove('http').catch(() => undefined);
    await Promise.all([peer.stop(), ...ending]);
    await history?.close();
  }
  lost.throwIfAborted();
}

/** Calls `look` now and every `ms` until `stop` aborts. */
async function every(ms: number, look: () => void, stop: AbortSignal): Promise<void> {
  while (!stop.aborted) {
    look();
    await delay(ms, undefined, { signal: stop }).catch(() => undefined);
  }
}

/** What a person hands on, on stdout. */
function announce(
  report: StatusReport,
  statusUrl: string | null,
  { options, io, trainer, run: { manifest } }: LiveInit,
): void {
  const { run, peerId, addresses, privacy } = report;
  const device = trainer.deviceLine;
  io.stderr.write(reachNote(addresses));
  if (options.json) {
    const { id, name } = run;
    const facts = { run: { id, name }, peerId, addresses, statusUrl, device, privacy };
    io.stdout.write(`${JSON.stringify(facts)}\n`);
    return;
  }
  const lines = [
    `run      ${run.name} ${run.id}`,
    `peer     ${peerId}`,
    ...addresses.map((address) => `address  ${address}`),
    `status   ${statusUrl ?? 'off'}`,
    `device   ${device}`,
    ...(privacy === null ? [] : [`privacy  ${privacyLine(privacy, trainer.stats, manifest)}`]),
  ];
  io.stdout.write(`${lines.join('\n')}\n`);
}

/** Shows progress until `stop` aborts, or until the end of the run when that is asked for. */
async function watch(
  lastStatus: () => StatusReport,
  progress: Progress,
  options: PeerOptions,
  stop: AbortSignal,
): Promise<void> {
  let seen = '';
  let seenMs = performance.now();
  let isOver = false;
  while (!stop.aborted) {
    const report = lastStatus();
    progress.update(report);
    const { run, adapter } = report;
    const now = `${run.state} ${adapter.sha256} ${adapter.updates}`;
    if (now !== seen) {
      seen = now;
      seenMs = performance.now();
    }
    const wasOver = isOver;
    isOver = run.state === 'finished';
    if (isOver && !wasOver) {
      progress.log.write(
        `the run is over; write the adapter with murmurate export ADAPTER_DIR --dir ${options.dir}` +
          `${options.exitWhenFinished ? '' : ' (still serving the others: Ctrl-C ends it)'}\n`,
      );
    }
    const isQuiet = performance.now() - seenMs >= QUIET_EPOCHS * run.epochSeconds * 1000;
    if (options.exitWhenFinished && run.state === 'finished' && isQuiet) return;
    await delay(POLL_MS, undefined, { signal: stop }).catch(() => undefined);
  }
}

/** What a peer was started with, for generate, compare and export on its directory. */
export async function rememberSettings(
  directory: DataDirectory,
  modelDir: string,
  options: PeerOptions,
): Promise<void> {
  const dataFiles = options.data.map((file) => resolve(file));
  const { isResting = false } = (await readSettings(directory)) ?? {};
  await writeSettings(directory, {
    model: options.model,
    modelDir,
    dataFiles,
    heldOutShare: options.heldOut,
    isResting,
    columns: columnsOf(options),
  });
}
