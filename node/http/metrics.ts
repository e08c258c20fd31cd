/**
 * The state of a peer as Prometheus metrics. Labels are words of this program, never names, ids or addresses: a peer
 * has the same series whoever it meets.
 */
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import { statusReportSchema, type StatusReport } from '../status.js';

type Labels = Readonly<Record<string, string>>;
type Value = number | null;

interface Metric {
  name: string;
  help: string;
  /** Only ever rises, but for a restart. */
  isCounter?: true;
  labels?: readonly string[];
  /** Null: there is no value to tell. */
  values: (report: StatusReport) => Value | readonly (readonly [at: Labels, value: Value])[];
}

const STATES = statusReportSchema.shape.run.shape.state.options;
const REACH_STATES = statusReportSchema.shape.reachability.shape.state.options;

/** One series for each word, 1 for the one that holds. */
function oneHot(label: string, words: readonly string[], word: string): [Labels, number][] {
  return words.map((one) => [{ [label]: one }, one === word ? 1 : 0]);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function rejections({ peers }: StatusReport): [Labels, number][] {
  const codes = new Set(peers.flatMap(({ rejected }) => Object.keys(rejected)));
  return [...codes].map((code) => [{ code }, sum(peers.map((one) => one.rejected[code] ?? 0))]);
}

function connections({ peers }: StatusReport): [Labels, number][] {
  const of = (is: (address: string | null) => boolean): number =>
    peers.filter(({ address }) => is(address)).length;
  const isRelayed = (address: string): boolean => address.includes('/p2p-circuit');
  return [
    [{ connection: 'direct' }, of((address) => address !== null && !isRelayed(address))],
    [{ connection: 'relayed' }, of((address) => address !== null && isRelayed(address))],
    [{ connection: 'none' }, of((address) => address === null)],
  ];
}

function traffic({ traffic: { bytesIn, bytesOut } }: StatusReport): [Labels, number][] {
  const of = (direction: string, bytes: Record<string, number>): [Labels, number][] =>
    Object.entries(bytes)
      .filter(([purpose]) => purpose !== 'total')
      .map(([purpose, count]) => [{ direction, purpose }, count]);
  return [...of('in', bytesIn), ...of('out', bytesOut)];
}

/** What is told, in the order of docs/DASHBOARD.md. */
export const METRICS: readonly Metric[] = [
  {
    name: 'murmurate_info',
    help: 'Always 1; the version of the program as a label.',
    labels: ['version'],
    values: ({ version }) => [[{ version }, 1]],
  },
  {
    name: 'murmurate_uptime_seconds',
    help: 'Time since this peer started.',
    values: ({ uptimeSeconds }) => uptimeSeconds,
  },
  {
    name: 'murmurate_state',
    help: '1 for the state that the peer is in, 0 for the others.',
    labels: ['state'],
    values: ({ run }) => oneHot('state', STATES, run.state),
  },
  {
    name: 'murmurate_attention_sentences',
    help: 'Things that are wrong or awaited; /status has them in words.',
    values: ({ attention }) => attention.length,
  },
  {
    name: 'murmurate_epoch',
    help: 'Epoch of the clock, from 0; below 0 before the start.',
    values: ({ run }) => run.epoch,
  },
  {
    name: 'murmurate_epochs',
    help: 'Epochs of the run.',
    values: ({ run }) => run.epochsMax,
  },
  {
    name: 'murmurate_epoch_duration_seconds',
    help: 'Length of an epoch.',
    values: ({ run }) => run.epochSeconds,
  },
  {
    name: 'murmurate_cohorts',
    help: 'A member publishes in every so many-th epoch.',
    values: ({ run }) => run.cohorts,
  },
  {
    name: 'murmurate_training_steps_total',
    help: 'Optimiser steps over the life of this peer in the run.',
    isCounter: true,
    values: ({ training }) => training.step,
  },
  {
    name: 'murmurate_training_tokens_total',
    help: 'Tokens trained on over the life of this peer in the run.',
    isCounter: true,
    values: ({ training }) => training.tokens,
  },
  {
    name: 'murmurate_training_skipped_steps_total',
    help: 'Steps since the start whose loss or gradient was not finite.',
    isCounter: true,
    values: ({ training }) => training.skippedSteps,
  },
  {
    name: 'murmurate_training_loss_nats',
    help: 'Loss of the last step, after an epoch the mean of its steps, a token.',
    values: ({ training }) => training.loss,
  },
  {
    name: 'murmurate_training_tokens_per_second',
    help: 'Speed of training in the last epoch.',
    values: ({ training }) => training.tokensPerSecond,
  },
  {
    name: 'murmurate_data_records',
    help: 'Records of the private data, by what they are for.',
    labels: ['use'],
    values: ({ data }) => [
      [{ use: 'training' }, data?.records ?? null],
      [{ use: 'held_out' }, data?.heldOutRecords ?? null],
    ],
  },
  {
    name: 'murmurate_data_cut_records',
    help: 'Records that are longer than a sequence, and cut.',
    values: ({ data }) => data?.cutRecords ?? null,
  },
  {
    name: 'murmurate_data_tokens',
    help: 'Tokens of the records that are trained on, by what becomes of them: trained, read, or dropped when a record is cut.',
    labels: ['use'],
    values: ({ data }) =>
      data === null
        ? null
        : [
            [{ use: 'trained' }, data.trainedTokens],
            [{ use: 'read' }, Math.max(0, data.tokens - data.trainedTokens - data.droppedTokens)],
            [{ use: 'dropped' }, data.droppedTokens],
          ],
  },
  {
    name: 'murmurate_data_left_out_files',
    help: 'Entries of the folders in --data that are not read.',
    values: ({ data }) => data?.leftOut ?? null,
  },
  {
    name: 'murmurate_held_out_loss_nats',
    help:
      "Loss a token on this peer's held-out text: of the base model, with the swarm's adapter, and with that " +
      'after own steps of an epoch (personal).',
    labels: ['model'],
    values: ({ heldOutLoss }) => [
      [{ model: 'base' }, heldOutLoss.base],
      [{ model: 'swarm' }, heldOutLoss.now],
      [{ model: 'personal' }, heldOutLoss.personal],
    ],
  },
  {
    name: 'murmurate_adapter_epoch',
    help: 'Newest epoch with an update in the adapter; -1 before the first.',
    values: ({ adapter }) => adapter.epoch,
  },
  {
    name: 'murmurate_adapter_updates',
    help: 'Updates folded into the adapter.',
    values: ({ adapter }) => adapter.updates,
  },
  {
    name: 'murmurate_updates_published_total',
    help: 'Own updates that went out since the start.',
    isCounter: true,
    values: ({ updates }) => updates.published,
  },
  {
    name: 'murmurate_updates_received_total',
    help: 'Updates of others that came in since the start and were new.',
    isCounter: true,
    values: ({ updates }) => updates.received,
  },
  {
    name: 'murmurate_updates_rejected_total',
    help: 'Updates and messages that were not used, by reason.',
    isCounter: true,
    labels: ['code'],
    values: rejections,
  },
  {
    name: 'murmurate_update_dense_bytes',
    help: 'What one update would take as float32 without compression.',
    values: ({ updates }) => updates.denseBytes,
  },
  {
    name: 'murmurate_traffic_bytes_total',
    help: 'Bytes on the wire since the start, by direction and purpose.',
    isCounter: true,
    labels: ['direction', 'purpose'],
    values: traffic,
  },
  {
    name: 'murmurate_model_given_bytes_total',
    help: 'Bytes of the base model given to members since the start; only with --share-model.',
    isCounter: true,
    values: ({ modelBytesGiven }) => modelBytesGiven,
  },
  {
    name: 'murmurate_members',
    help: 'Other members, by how they are connected to this peer.',
    labels: ['connection'],
    values: connections,
  },
  {
    name: 'murmurate_members_admitted',
    help: 'Members that came by invitation.',
    values: ({ membership }) => membership.admitted,
  },
  {
    name: 'murmurate_strangers_refused_total',
    help: 'Requests of peers that are no members, since the start.',
    isCounter: true,
    values: ({ membership }) => membership.refused,
  },
  {
    name: 'murmurate_update_recipients',
    help: 'Members that the last update was handed to.',
    values: ({ lastRecipients }) => lastRecipients,
  },
  {
    name: 'murmurate_clock_offset_max_seconds',
    help: 'Largest difference between the clock of a member and this one.',
    values: ({ peers }) =>
      Math.max(0, ...peers.map(({ clockOffsetMs }) => Math.abs(clockOffsetMs ?? 0))) / 1000,
  },
  {
    name: 'murmurate_reachability',
    help: '1 for how others reach this peer, 0 for the other ways.',
    labels: ['state'],
    values: ({ reachability }) => oneHot('state', REACH_STATES, reachability.state),
  },
  {
    name: 'murmurate_residual_norm',
    help: 'L2 norm of what compression holds back.',
    values: ({ residualNorm }) => residualNorm,
  },
  {
    name: 'murmurate_privacy_epsilon',
    help: 'Privacy spent, at the delta of the run; absent without noise.',
    values: ({ privacy }) => privacy?.epsilon ?? null,
  },
  {
    name: 'murmurate_privacy_epsilon_max',
    help: 'Privacy that may be spent; absent without noise.',
    values: ({ privacy }) => privacy?.epsilonMax ?? null,
  },
  {
    name: 'murmurate_privacy_steps_left',
    help: 'Steps that the privacy budget leaves; absent without noise.',
    values: ({ privacy }) => privacy?.stepsLeft ?? null,
  },
];

/** Those metrics of `report` that have a value. */
export function statusMetrics(report: StatusReport): Registry {
  const registry = new Registry();
  for (const { name, help, isCounter = false, labels = [], values } of METRICS) {
    const given = values(report);
    const series = typeof given === 'number' || given === null ? [[{}, given] as const] : given;
    const present = series.flatMap(([at, value]) => (value === null ? [] : [{ at, value }]));
    if (present.length === 0) continue;
    const config = { name, help, labelNames: labels, registers: [registry] };
    const metric = isCounter ? new Counter(config) : new Gauge(config);
    for (const { at, value } of present) metric.inc(at, value);
  }
  return registry;
}

let ofProcess: Registry | null = null;

/** What Node tells of this process: CPU, memory, event loop. One for all, as it listens to the garbage collector. */
export function processMetrics(): Registry {
  if (ofProcess === null) {
    ofProcess = new Registry();
    collectDefaultMetrics({ register: ofProcess });
  }
  return ofProcess;
}
