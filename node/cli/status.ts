/** murmurate status: what a running peer says of itself. */
import Table from 'cli-table3';
import { text } from '../config.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { statusReportSchema, type StatusReport } from '../status.js';
import { DataDirectory } from '../store/directory.js';
import { directoryOption, jsonOption } from './peer-options.js';
import { defineVerb } from './verb.js';

/** A local server answers in milliseconds; a peer that is folding a long log may take a second. */
const TIMEOUT_MS = 5_000;

/** For verbs that ask a running peer; `storedUrl` where it is not given. */
export const statusUrlArgument = {
  name: text('URL').placeholder,
  help: 'status URL that start or join printed (default: the one in --dir)',
  required: false,
};

export const statusVerb = defineVerb({
  name: 'status',
  summary: 'Print what a running peer says of itself.',
  args: [statusUrlArgument],
  options: { ...directoryOption, ...jsonOption },
  example: `
$ murmurate status
run       offices 3f1c9a0b2d44, epoch 12 of 30, training
peer      12D3KooWQp6h..., up 4 min 10 s
address   /ip4/192.0.2.7/tcp/40961/p2p/12D3KooWQp6h...
reached   public: 12D3KooWRm4t... dialled /ip4/192.0.2.7/tcp/40961
training  step 118, loss 2.871, 1210 tokens/s on cpu (2 threads)
adapter   9b41f0c7a2de after epoch 11, 33 updates
held-out  loss 3.012 (base 4.250, personal 2.964)
traffic   in 1.9 MB, out 0.7 MB
...`,
  run: async ({ args: [url], options, io }) => {
    const report = await fetchStatus(url ?? (await storedUrl(options.dir)));
    io.stdout.write(options.json ? `${JSON.stringify(report)}\n` : formatStatus(report));
  },
});

/** The status URL of the peer that runs in `dir`. Throws UserError when none does. */
export async function storedUrl(dir: string): Promise<string> {
  const [url] = await new DataDirectory(dir).readLines('http');
  if (url !== undefined) return url;
  throw new UserError(
    `no peer with a status server runs in ${dir}; start one, or give its status URL or its --dir`,
  );
}

/** Throws UserError when nothing, or something else than a peer, answers at `base`. */
export async function fetchStatus(base: string): Promise<StatusReport> {
  let url: URL;
  try {
    url = new URL('/status', base);
  } catch {
    throw new UserError(
      `"${base}" is not a URL; it must be like http://127.0.0.1:40123`,
      EXIT_USAGE,
    );
  }
  let body: unknown;
  let isStarting: boolean;
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    isStarting = response.status === 503;
    body = await response.json();
  } catch (cause) {
    throw new UserError(
      `no peer answers at ${base}; start it again, or give the URL that it printed`,
      undefined,
      { cause },
    );
  }
  if (isStarting) throw new UserError(`the peer at ${base} is starting; ask again in a moment`);
  const parsed = statusReportSchema.safeParse(body);
  if (parsed.success) return parsed.data;
  throw new UserError(`what answers at ${base} is not a Murmurate peer of this version`);
}

function privacyLines({ privacy }: StatusReport): string[] {
  if (privacy === null) return [];
  const { epsilon, epsilonMax, delta, noise, sampleRate, steps, stepsLeft } = privacy;
  return [
    `privacy   epsilon ${epsilon.toFixed(3)} of ${epsilonMax} at delta ${delta}, ${steps} steps with noise ${noise} ` +
      `and rate ${sampleRate.toPrecision(3)}, ${stepsLeft} left`,
  ];
}

function dataLines({ data }: StatusReport): string[] {
  if (data === null) return [];
  const { records, heldOutRecords, cutRecords, droppedTokens, leftOut, sequenceLength } = data;
  const cut = `${cutRecords} longer than ${sequenceLength} tokens and cut`;
  const dropped = droppedTokens === 0 ? '' : `, ${droppedTokens} tokens of prompts dropped`;
  const left = leftOut === 0 ? '' : `, ${leftOut} entries of folders left out`;
  return [`data      ${records} records, ${heldOutRecords} held out, ${cut}${dropped}${left}`];
}

/** Updates that are named one by one. */
const FILTERED_LINES = 3;

/** What the filter left out: a fact about updates, of which a member with other text may have some too. */
function filterLines({ filtered }: StatusReport): string[] {
  const lines = filtered
    .slice(0, FILTERED_LINES)
    .map(
      ({ epoch, peerId, agreement }) =>
        `filter    the update of ...${peerId.slice(-8)} for epoch ${epoch} does not count: it points against most others ` +
        `(median cosine ${agreement.toFixed(2)})`,
    );
  const more = filtered.length - lines.length;
  return more > 0 ? [...lines, `filter    ${more} earlier ones`] : lines;
}

/** The report for people: a line a topic, a table of the peers, the sentences that want attention. */
export function formatStatus(report: StatusReport): string {
  const { run, training, adapter, heldOutLoss, traffic } = report;
  const speed = training.tokensPerSecond;
  const lines = [
    `run       ${run.name} ${run.id.slice(0, 12)}, ${epochText(run)}, ${run.state}`,
    ...cohortLines(run),
    `peer      ${report.peerId}, up ${duration(report.uptimeSeconds)}`,
    ...report.addresses.map((address) => `address   ${address}`),
    `reached   ${reachText(report.reachability)}`,
    `training  step ${training.step}, loss ${loss(training.loss)}, ` +
      `${speed === null ? '-' : Math.round(speed)} tokens/s on ${training.device}`,
    ...dataLines(report),
    ...privacyLines(report),
    `adapter   ${adapter.sha256.slice(0, 12)} after epoch ${adapter.epoch}, ${adapter.updates} updates` +
      // The first seal covers epoch 0 at least.
      (adapter.sealedEpoch > 0 ? `, agreed up to epoch ${adapter.sealedEpoch - 1}` : ''),
    `held-out  loss ${loss(heldOutLoss.now)} (base ${loss(heldOutLoss.base)}, personal ${loss(heldOutLoss.personal)})`,
    `traffic   in ${megabytes(traffic.bytesIn.total)}, out ${megabytes(traffic.bytesOut.total)}`,
    ...filterLines(report),
    ...report.attention.map((sentence) => `attention ${sentence}`),
  ];
  const table = new Table({
    head: ['peer', 'address', 'latency', 'updates', 'last epoch', 'rejected'],
    style: { head: [], border: [] },
  });
  for (const peer of report.peers) {
    table.push([
      `...${peer.peerId.slice(-8)}`,
      peer.address ?? 'not connected',
      peer.latencyMs === null ? '-' : `${peer.latencyMs.toFixed(1)} ms`,
      peer.updatesAccepted,
      peer.lastUpdateEpoch ?? '-',
      Object.entries(peer.rejected)
        .map(([code, times]) => `${code} ${times}`)
        .join(', '),
    ]);
  }
  return `${lines.join('\n')}\n${report.peers.length === 0 ? '' : `${table.toString()}\n`}`;
}

/** E.g. "private-relayed through 12D3...: 12D3... could not dial ...; to mend it, forward TCP port 4001 ...". */
function reachText({ state, evidence, relays, fix }: StatusReport['reachability']): string {
  const through = relays.length === 0 ? '' : ` through ${relays.join(' and ')}`;
  return `${state}${through}: ${evidence}${fix === null ? '' : `; to be dialled, ${fix}`}`;
}

function epochText({ epoch, epochsMax }: StatusReport['run']): string {
  if (epoch < 0) return `not begun (${epochsMax} epochs)`;
  return `epoch ${Math.min(epoch + 1, epochsMax)} of ${epochsMax}`;
}

/** Nothing where everybody publishes in each epoch. Epochs are counted from 1, as in the line above. */
function cohortLines({ cohorts, nextUpdateEpoch }: StatusReport['run']): string[] {
  if (cohorts === 1) return [];
  const next =
    nextUpdateEpoch === null
      ? 'none left for this peer'
      : `this peer next in epoch ${nextUpdateEpoch + 1}`;
  return [`cohorts   ${cohorts}: each member publishes in every ${cohorts}th epoch, ${next}`];
}

function loss(value: number | null): string {
  return value === null ? '-' : value.toFixed(3);
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
