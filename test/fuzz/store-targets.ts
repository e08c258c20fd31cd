/** Decoders of the data directory: a disk may damage a file, and another program may write one. */
import { createHash } from 'node:crypto';
import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { rememberedSha256 } from '../../node/model/hash-cache.js';
import {
  StoreUnavailableError,
  type OptimiserState,
  type PeerState,
  type StoredSeal,
} from '../../node/interfaces.js';
import { DamagedStateError } from '../../node/store/array-file.js';
import { makeNote, readNote } from '../../node/store/control-file.js';
import { DataDirectory } from '../../node/store/directory.js';
import { LogFile } from '../../node/store/log-file.js';
import { ForeignLogError, scanLog, type LogScan } from '../../node/store/log-scan.js';
import { DirectoryInUseError, lockDirectory } from '../../node/store/lock.js';
import { LOSSES_MAX, readLosses, writeLosses } from '../../node/store/losses-file.js';
import { readSettings } from '../../node/store/settings.js';
import {
  checkMoments,
  encodeMoments,
  readMoments,
  type ByteSource,
} from '../../node/store/moments-file.js';
import { HeldMoments } from '../../node/moments.js';
import * as codec from '../../node/store/state-codec.js';
import { gatherMoments } from '../support/moments.js';
import { adapterSize, testRun } from '../support/runs.js';
import { fileOf, scratch } from './files.js';
import { framesOf, inFrames } from './frames.js';
import type { FuzzTarget, FuzzTargets } from './oracle.js';

const run = testRun();
const size = adapterSize(run);
const directory = new DataDirectory(scratch);

/** As the fuzzer changes everything but the checksum at the end, which is made to agree: damage that it misses. */
function sealed(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([bytes, createHash('sha256').update(bytes).digest()]);
}

function unsealed(parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts.slice(0, -1));
}

const bareState = {
  epoch: 3,
  residual: new Float32Array(size).fill(0.5),
  update: null,
  settledSeal: null,
  waitingSteps: 8,
  steps: 24,
  tokens: 6144,
  heldOutBase: null,
  heldOutHistory: [{ epoch: 1, loss: 3.5 }],
};
const fullState = { ...bareState, settledSeal: 'ab'.repeat(32), update: new Uint8Array(40) };
const optimiser = { step: 24, m: new Float32Array(size), v: new Float32Array(size) };

/** What is decoded comes back from its encoding, and `check` holds for it. */
function arrayFile<T>(
  values: readonly T[],
  encode: (value: T) => Uint8Array[],
  decode: (bytes: Uint8Array) => T,
  check: (value: T) => void,
): FuzzTarget {
  return {
    seeds: values.map((value) => unsealed(encode(value))),
    refusals: [DamagedStateError],
    run: (bytes) => {
      const decoded = decode(sealed(bytes));
      check(decoded);
      assert.deepEqual(decode(Buffer.concat(encode(decoded))), decoded);
    },
  };
}

const state = arrayFile<PeerState>(
  [bareState, fullState],
  (one) => codec.encodeState(run.id, one),
  (bytes) => codec.decodeState(run.id, bytes),
  ({ residual }) => assert.ok(residual.every(Number.isFinite)),
);

const moments: FuzzTarget = {
  seeds: [unsealed(await momentsFile(optimiser))],
  refusals: [DamagedStateError],
  run: async (bytes) => {
    const source = sourceOf(sealed(bytes));
    const file = await checkMoments(source, run.id);
    const held = { ...file, isThere: true, pieces: () => readMoments(source, file) };
    const decoded = await gatherMoments(held);
    assert.ok(decoded.m.every(Number.isFinite) && decoded.v.every((one) => one >= 0));
    const again = sourceOf(Buffer.concat(await momentsFile(decoded)));
    const { step, size: coordinates } = await checkMoments(again, run.id);
    assert.deepEqual([step, coordinates], [file.step, file.size]);
  },
};

async function momentsFile(state: OptimiserState): Promise<Uint8Array[]> {
  const parts: Uint8Array[] = [];
  // The next part may lie where this one did.
  for await (const part of encodeMoments(run.id, new HeldMoments(state))) parts.push(part.slice());
  return parts;
}

function sourceOf(bytes: Uint8Array): ByteSource {
  return {
    length: bytes.length,
    read: async (start, end) => Uint8Array.from(bytes.subarray(start, end)),
  };
}

const seal = arrayFile<StoredSeal>(
  [0, 8].map((previousEpoch) => ({
    ...{ epoch: 12, previousEpoch, logStart: previousEpoch },
    ...{ certificate: new Uint8Array(40).fill(1), contents: new Uint8Array(30).fill(2) },
  })),
  (one) => codec.encodeStoredSeal(run.id, one),
  (bytes) => codec.decodeStoredSeal(run.id, bytes),
  ({ epoch }) => assert.ok(epoch >= 0),
);

const sum = arrayFile<Float64Array>(
  [new Float64Array(size).fill(3)],
  (one) => codec.encodeSum(run.id, 12, one),
  (bytes) => codec.decodeSum(run.id, bytes),
  ({ length }) => assert.ok(length * 8 < 2 ** 31),
);

const HEADER = Buffer.concat([Buffer.from('murmlog1'), Buffer.from(run.id, 'hex')]);

/** Records with checksums that agree, and in between the same without. */
function logOf(records: readonly Uint8Array[]): Uint8Array {
  const parts = records.flatMap((record, i) => {
    const head = Buffer.alloc(12);
    head.writeUInt32LE(record.length);
    if (i % 3 !== 2) createHash('sha256').update(record).digest().copy(head, 4, 0, 8);
    return [head, record];
  });
  return Buffer.concat([HEADER, ...parts]);
}

const log: FuzzTarget = {
  seeds: [inFrames([1, 2, 3, 4].map((n) => new Uint8Array(20 + (n % 2)).fill(n)))],
  refusals: [],
  run: async (bytes) => {
    const path = fileOf('log.bin', logOf(framesOf(bytes)));
    const { scan } = await scanned(path);
    assert.ok(scan !== null && scan.end + scan.tailBytes >= HEADER.length);
  },
};

/** Any bytes at all after the header of a log, opened as a peer does that starts. */
const damagedLog: FuzzTarget = {
  seeds: [logOf([1, 2, 3, 4].map((n) => new Uint8Array(20).fill(n))).subarray(HEADER.length)],
  refusals: [ForeignLogError, StoreUnavailableError],
  run: async (bytes) => {
    const path = fileOf('opened.bin', Buffer.concat([HEADER, bytes]));
    const opened: [string, number][] = [];
    const file = await LogFile.open(
      path,
      run.id,
      () => undefined,
      (record, place) => opened.push([toHex(record), place]),
    );
    for (const [record, place] of opened) assert.equal(toHex(file.read(place)), record);
    const { scan, records } = await scanned(path);
    assert.deepEqual(records, opened);
    assert.equal(scan?.tailBytes, 0);
  },
};

/** A scan with its records and their places. */
async function scanned(
  path: string,
): Promise<{ scan: LogScan | null; records: [string, number][] }> {
  const records: [string, number][] = [];
  const scan = await scanLog(path, run.id, (record, place) => records.push([toHex(record), place]));
  return { scan, records };
}

function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** The small files in JSON: damaged ones are as good as none. */
const settings: FuzzTarget = {
  seeds: [
    Buffer.from(
      JSON.stringify({ modelDir: '/m', dataFiles: ['/d.txt'], heldOutShare: 0.1, isResting: true }),
    ),
  ],
  refusals: [StoreUnavailableError],
  run: async (bytes) => {
    fileOf('settings.json', bytes);
    const read = await readSettings(directory);
    assert.ok(read === null || read.heldOutShare <= 0.5);
  },
};

const control: FuzzTarget = {
  seeds: [
    Buffer.from(JSON.stringify(makeNote({ verb: 'extend', epochs: 9 }, 1))),
    Buffer.from(
      JSON.stringify({
        ...makeNote({ verb: 'pause', epochs: null }, 1),
        reply: { isDone: true, sentence: 'It pauses.' },
      }),
    ),
  ],
  refusals: [StoreUnavailableError],
  run: async (bytes) => {
    fileOf('control.json', bytes);
    const note = await readNote(directory);
    assert.ok(note !== null);
    if (note !== 'unreadable') assert.ok(note.request.verb.length <= 32);
  },
};

const modelHashes: FuzzTarget = {
  seeds: [
    Buffer.from(JSON.stringify({ '/m': { size: '1', mtimeNs: '2', sha256: 'a'.repeat(64) } })),
  ],
  refusals: [],
  run: async (bytes) => {
    const sha256 = await rememberedSha256('/m', fileOf('model-hashes.json', bytes));
    assert.ok(sha256 === null || typeof sha256 === 'string');
    assert.ok((await rememberedSha256('__proto__', fileOf('model-hashes.json', bytes))) === null);
  },
};

/** Who holds a directory: a file that says nothing leaves the question to the lock beside it. */
const owner: FuzzTarget = {
  seeds: [
    { pid: 2 ** 22, host: hostname(), processToken: 'a' },
    { pid: 1, host: 'elsewhere', processToken: null },
  ].map((one) => Buffer.from(JSON.stringify(one))),
  refusals: [DirectoryInUseError],
  run: async (bytes) => {
    fileOf('owner.json', bytes);
    await (await lockDirectory(scratch)).release();
  },
};

const MEASURE = 'ab'.repeat(32);

const losses: FuzzTarget = {
  seeds: [
    { measure: MEASURE, losses: [{ sha256: 'cd'.repeat(32), loss: 3.25 }] },
    { measure: MEASURE, losses: [{ sha256: 'ef'.repeat(32), loss: null }] },
  ].map((one) => Buffer.from(JSON.stringify(one))),
  refusals: [StoreUnavailableError],
  run: async (bytes) => {
    fileOf('held-out-losses.json', bytes);
    const found = await readLosses(directory, MEASURE);
    assert.ok(found.size <= LOSSES_MAX);
    for (const loss of found.values()) assert.ok(loss === null || Number.isFinite(loss));
    await writeLosses(directory, MEASURE, found);
    assert.deepEqual(await readLosses(directory, MEASURE), found);
  },
};

export const storeTargets: FuzzTargets = {
  state,
  moments,
  'stored-seal': seal,
  'stored-sum': sum,
  log,
  'damaged-log': damagedLog,
  settings,
  control,
  'model-hashes': modelHashes,
  owner,
  losses,
};
