/** Options that several verbs share: where a peer keeps its things, how it is reached, how it logs. */
import {
  choice,
  integer,
  manyOption,
  option,
  orWord,
  real,
  switchOption,
  text,
} from '../config.js';
import { DATA_FILE_KINDS } from '../data/sources.js';
import { DEVICES } from '../engine/devices.js';
import { LOG_FORMATS, LOG_LEVELS } from '../log.js';
import { MEMORY_MODES } from '../model/memory-mode.js';
import { WEIGHT_FORMATS } from '../model/weight-format.js';
import { EPOCHS_MAX } from '../../protocol/limits.js';
import { modelOption } from './base-choice.js';
import { columnOptions } from './data-options.js';
import { privacyOptions } from './privacy-options.js';

/** Largest TCP port. */
const PORT_MAX = 65_535;
/** More threads than any machine that trains on its CPU has. */
const THREADS_MAX = 1024;

/** As many as a step can have: see --batch-size. */
const MICRO_BATCH_MAX = 4096;

const multiaddr = text('MULTIADDR', 'an address like /ip4/192.0.2.1/tcp/4001');

export const directoryOption = {
  dir: option(text('DIR'), './murmurate-peer', "this peer's data directory"),
} as const;

export const logOptions = {
  logLevel: option(choice(LOG_LEVELS), 'warn', 'least severe messages to log'),
  logFormat: option(choice(LOG_FORMATS), 'text', 'lines for people, or one JSON object a line'),
} as const;

export const jsonOption = {
  json: switchOption('print one JSON object on stdout'),
} as const;

export const epochOption = {
  epoch: option(
    integer('N', 0, EPOCHS_MAX),
    null,
    'the swarm’s adapter as it was after epoch N: murmurate history lists them',
    'the newest',
  ),
} as const;

export const threadsOption = {
  threads: option(
    integer('N', 1, THREADS_MAX),
    null,
    'CPU threads to compute with',
    'one a CPU core',
  ),
} as const;

export const microBatchOption = {
  microBatch: option(
    orWord('auto', integer('N', 1, MICRO_BATCH_MAX)),
    'auto',
    "the most of a step's sequences that go through the model at once: less is slower and takes less " +
      'memory; auto is what is fastest and fits',
  ),
} as const;

export const memoryOption = {
  memory: option(
    choice(['auto', ...MEMORY_MODES]),
    'auto',
    'fast is about a tenth faster for twice the memory of the weights, low takes far less and a third longer; ' +
      'auto: fast where all of it takes at most a fifth of what is free, low where not one sequence fits else',
  ),
} as const;

export const deviceOption = {
  device: option(
    choice(['auto', ...DEVICES]),
    'auto',
    'what computes; auto takes a GPU that proves right and faster than the CPU',
  ),
} as const;

export const weightsOption = {
  weights: option(
    choice(['auto', ...WEIGHT_FORMATS]),
    'auto',
    'format of the frozen weights in memory: bf16 takes half of what fp32 takes, int8 a quarter, int4 an ' +
      'eighth and is the least exact; auto is the most exact that fits',
  ),
} as const;

/** More than any GPU has. */
const GPU_GB_MAX = 10_000;

export const gpuMemoryOption = {
  gpuMemory: option(
    real('GB', 0.001, GPU_GB_MAX),
    null,
    'GB of the GPU’s memory to use; without it what the driver says is free, and 8 where nothing says it',
    'what is free',
  ),
} as const;

export const listenOption = {
  listen: manyOption(
    multiaddr,
    ['/ip4/0.0.0.0/tcp/0'],
    'addresses to listen on; port 0 is any free one, kept over restarts',
  ),
} as const;

export const swarmKeyOption = {
  swarmKey: option(
    text('FILE'),
    null,
    'key of a private network: only peers that have it can connect (murmurate swarm-key makes one)',
  ),
} as const;

/** Private to a peer and no part of the run: two peers of one run may differ in each of these. */
export const peerOptions = {
  ...directoryOption,
  ...modelOption,
  data: manyOption(
    text('FILE'),
    [],
    `private text to train on: ${DATA_FILE_KINDS}; it never leaves this machine`,
  ),
  ...columnOptions,
  heldOut: option(
    real('SHARE', 0, 0.5),
    0.1,
    'share of the examples kept aside to measure the loss on',
  ),
  ...listenOption,
  http: option(
    orWord('off', integer('PORT', 0, PORT_MAX)),
    0,
    'port of the local page and status on 127.0.0.1; 0 is any free one, kept over restarts',
  ),
  bootstrap: manyOption(multiaddr, [], 'bootstrap nodes or peers to dial as well'),
  ...swarmKeyOption,
  logDisk: option(
    orWord('all', { ...real('GB', 0.001, 1e6), expected: 'a number of GB from 0.001 to 1000000' }),
    'all',
    'GB of disk for the updates of the run; near the bound those on which the members have agreed are dropped; all keeps all',
  ),
  shareModel: switchOption(
    'give the files of the base model to members who lack them (join --model auto or peers)',
  ),
  relay: switchOption('pass on what members send to each other that cannot be dialled'),
  noMdns: switchOption('do not look for members on the own network, nor answer those who do'),
  upnp: switchOption('ask the router to forward the port, so that this peer can be dialled'),
  ...threadsOption,
  ...deviceOption,
  ...weightsOption,
  ...gpuMemoryOption,
  ...microBatchOption,
  ...memoryOption,
  ...privacyOptions,
  noPersonal: switchOption(
    'do not measure in between what the own steps of an epoch make of the adapter',
  ),
  exitWhenFinished: switchOption('exit once the run is over and nothing new came for two epochs'),
  ...jsonOption,
  ...logOptions,
} as const;
