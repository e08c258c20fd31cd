/** What start and join have in common: from a known run to a peer that trains until it is told to stop. */
import { setTimeout as delay } from 'node:timers/promises';
import { resolve } from 'node:path';
import type { OptionValues } from '../config.js';
import { RunningPeer, type RunningPeerInit } from '../compose.js';
import { startHttpServer, type HttpServer } from '../http/server.js';
import type { StatusReport } from '../status.js';
import type { DataDirectory } from '../store/directory.js';
import { readSettings, writeSettings } from '../store/settings.js';
import type { TrainerHost } from '../train/host.js';
import type { peerOptions } from './peer-options.js';
import { privacyLine } from './privacy-options.js';
import type { Progress } from './progress.js';
import { reachNote } from './reach.js';
import { answerRequests } from './requests.js';
import type { VerbIo } from './verb.js';

/** How often progress is read, in ms. */
const POLL_MS = 500;

/** After the last epoch nothing new may come for so many epochs before --exit-when-finished exits. */
const QUIET_EPOCHS = 2;

export type PeerOptions = OptionValues<typeof peerOptions>;

/** The status server, which answers 503 until `show` is called. */
export interface StatusPage {
  /** Null with --http off. */
  server: HttpServer | null;
  show(status: () => StatusReport): void;
}

/** Throws UserError when the port cannot be had. */
export async function openStatusPage(http: PeerOptions['http']): Promise<StatusPage> {
  let status: (() => StatusReport) | null = null;
  const show = (source: () => StatusReport): void => {
    status = source;
  };
  if (http === 'off') return { server: null, show };
  const server = await startHttpServer({ port: http, status: () => status?.() ?? null });
  return { server, show };
}

export interface LiveInit extends Omit<RunningPeerInit, 'isResting'> {
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
  const { io, options, home, page, progress, lost, logger } = init;
  const { isResting = false } = (await readSettings(home.directory)) ?? {};
  const peer = new RunningPeer({ ...init, isResting });
  const over = new AbortController();
  const stop = AbortSignal.any([io.signal, lost, over.signal]);
  let answering = Promise.resolve();
  try {
    await peer.start();
    page.show(() => peer.status());
    if (page.server !== null) await home.directory.writeLines('http', [page.server.url]);
    announce(peer.status(), page.server?.url ?? null, init);
    const controls = {
      rest: (resting: boolean): void => peer.rest(resting),
      extend: (epochsMax: number): Promise<string | null> => peer.extend(epochsMax),
      invite: (epochs: number): string => peer.invite(epochs),
      leave: io.interrupt,
    };
    answering = answerRequests(home.directory, controls, logger, stop);
    const watching = watch(peer, progress, options, stop);
    // `done` rejects when training cannot go on; it does not settle before that by itself.
    await Promise.race([watching, peer.done]);
  } finally {
    over.abort();
    progress.stop();
    await home.directory.remove('http').catch(() => undefined);
    await Promise.all([peer.stop(), answering]);
  }
  lost.throwIfAborted();
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
  peer: RunningPeer,
  progress: Progress,
  options: PeerOptions,
  stop: AbortSignal,
): Promise<void> {
  let seen = '';
  let seenMs = performance.now();
  let isOver = false;
  while (!stop.aborted) {
    const report = peer.status();
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
  { model, data, heldOut }: PeerOptions,
): Promise<void> {
  const dataFiles = data.map((file) => resolve(file));
  const { isResting = false } = (await readSettings(directory)) ?? {};
  await writeSettings(directory, { model, modelDir, dataFiles, heldOutShare: heldOut, isResting });
}
