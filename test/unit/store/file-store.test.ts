import assert from 'node:assert/strict';
import {
  appendFile,
  mkdtemp,
  readFile,
  readdir,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { StoreUnavailableError } from '../../../node/interfaces.js';
import { HeldMoments } from '../../../node/moments.js';
import { DataDirectory } from '../../../node/store/directory.js';
import { FileStore } from '../../../node/store/file-store.js';
import { scanLog, type LogScan } from '../../../node/store/log-scan.js';
import {
  firstBytes,
  recordsOf,
  sampleMoments,
  sampleSeal,
  sampleState,
  sampleSum,
  storeCompliance,
} from '../../compliance/store.js';
import { RecordingDisk } from '../../support/recording-disk.js';

const RUN_ID = 'ab'.repeat(32);
const made: string[] = [];

async function newDirectory(): Promise<DataDirectory> {
  const path = await mkdtemp(join(tmpdir(), 'murmurate-store-'));
  made.push(path);
  return new DataDirectory(path);
}

after(async () => {
  for (const path of made) await rm(path, { recursive: true, force: true });
});

let current = new DataDirectory('');
storeCompliance('files', {
  create: async () => {
    current = await newDirectory();
    return new FileStore(current, RUN_ID);
  },
  reopen: async () => new FileStore(current, RUN_ID),
});

async function withLog(values: number[]): Promise<DataDirectory> {
  const directory = await newDirectory();
  const store = new FileStore(directory, RUN_ID);
  await recordsOf(store);
  for (const value of values) await store.appendLog(new Uint8Array(20).fill(value));
  return directory;
}

const values = firstBytes;

/** What a scan of a log finds, with the first byte of each record. */
async function scanned(path: string): Promise<(LogScan & { records: number[] }) | null> {
  const records: number[] = [];
  const scan = await scanLog(path, RUN_ID, ([first]) => records.push(first ?? -1));
  return scan && { ...scan, records };
}

/** Bytes before the first record, and of one record of 20 bytes with its frame. */
const HEADER = 40;
const RECORD = 12 + 20;

describe('log.bin', () => {
  it('drops a torn end of any length, says so, and appends after the last whole record', async () => {
    for (const cut of [1, 11, 12, 13, RECORD - 1]) {
      const directory = await withLog([1, 2]);
      await truncate(directory.pathOf('log'), HEADER + 2 * RECORD - cut);
      const store = new FileStore(directory, RUN_ID);
      assert.deepEqual(await values(store), [1], `cut ${cut}`);
      assert.match(
        store.warnings.join(),
        new RegExp(`${RECORD - cut} bytes of an unfinished append`),
      );
      await store.appendLog(new Uint8Array(20).fill(7));
      assert.deepEqual(await values(new FileStore(directory, RUN_ID)), [1, 7]);
    }
  });

  it('drops garbage after the last record', async () => {
    const directory = await withLog([1]);
    await appendFile(directory.pathOf('log'), new Uint8Array(100).fill(0xff));
    const store = new FileStore(directory, RUN_ID);
    assert.deepEqual(await values(store), [1]);
    assert.equal((await stat(directory.pathOf('log'))).size, HEADER + RECORD);
  });

  it('passes over a damaged record in the middle, keeps those after it and the file as it is', async () => {
    const directory = await withLog([1, 2, 3]);
    const bytes = await readFile(directory.pathOf('log'));
    bytes[HEADER + RECORD + 15] = 99;
    await writeFile(directory.pathOf('log'), bytes);
    const store = new FileStore(directory, RUN_ID);
    assert.deepEqual(await values(store), [1, 3]);
    assert.match(store.warnings.join(), /1 damaged record was passed over/);
    await store.appendLog(new Uint8Array(20).fill(4));
    const after = await readFile(directory.pathOf('log'));
    assert.deepEqual(after.subarray(0, bytes.length), bytes);
    assert.deepEqual(await values(new FileStore(directory, RUN_ID)), [1, 3, 4]);
  });

  it('loses no record but the damaged one, whichever byte of it is damaged and however', async () => {
    for (let at = 0; at < RECORD; at++) {
      for (const mask of [0x01, 0x80]) {
        const directory = await withLog([1, 2, 3, 4]);
        const bytes = await readFile(directory.pathOf('log'));
        bytes[HEADER + RECORD + at]! ^= mask;
        await writeFile(directory.pathOf('log'), bytes);
        const scan = await scanned(directory.pathOf('log'));
        assert.deepEqual(scan?.records, [1, 3, 4], `byte ${at} ^ ${mask}`);
        assert.deepEqual([scan.damaged, scan.tailBytes], [1, 0]);
      }
    }
  });

  it('keeps every whole record when it is cut off at any byte', async () => {
    const directory = await withLog([1, 2, 3]);
    const path = directory.pathOf('log');
    const bytes = await readFile(path);
    for (let length = HEADER; length <= bytes.length; length++) {
      await writeFile(path, bytes.subarray(0, length));
      const scan = await scanned(path);
      const whole = Math.floor((length - HEADER) / RECORD);
      assert.equal(scan?.records.length, whole, `${length} bytes`);
      assert.deepEqual([scan.damaged, scan.tailBytes], [0, (length - HEADER) % RECORD]);
    }
  });

  it('is scanned without being changed', async () => {
    const directory = await withLog([1, 2]);
    await truncate(directory.pathOf('log'), HEADER + 2 * RECORD - 3);
    const scan = await scanned(directory.pathOf('log'));
    assert.equal(scan?.records.length, 1);
    assert.equal(scan.tailBytes, RECORD - 3);
    assert.equal((await stat(directory.pathOf('log'))).size, HEADER + 2 * RECORD - 3);
    assert.equal(await scanned(directory.pathOf('manifest')), null);
  });

  it('refuses the log of another run', async () => {
    const directory = await withLog([1]);
    await assert.rejects(
      recordsOf(new FileStore(directory, 'cd'.repeat(32))),
      /not the log of run cdcd/,
    );
  });

  it('starts anew when a crash cut the file off inside its header', async () => {
    const directory = await withLog([1]);
    await truncate(directory.pathOf('log'), 17);
    assert.deepEqual(await values(new FileStore(directory, RUN_ID)), []);
  });

  it('says that the directory is gone, and goes on when it is back', async () => {
    const directory = await withLog([1]);
    const store = new FileStore(directory, RUN_ID);
    await recordsOf(store);
    await rename(directory.path, `${directory.path}-away`);
    const lost =
      /^cannot append to .*log\.bin: it is not there any more; put .* back .*\(ENOENT\)$/;
    await assert.rejects(store.appendLog(Uint8Array.of(2)), (error) => {
      assert.ok(error instanceof StoreUnavailableError);
      assert.match(error.message, lost);
      return true;
    });
    await rename(`${directory.path}-away`, directory.path);
    await store.appendLog(Uint8Array.of(3));
    assert.deepEqual(await values(new FileStore(directory, RUN_ID)), [1, 3]);
  });

  it('refuses to append when another program has shortened the file', async () => {
    const directory = await withLog([1, 2]);
    const store = new FileStore(directory, RUN_ID);
    await recordsOf(store);
    await truncate(directory.pathOf('log'), HEADER + RECORD);
    await assert.rejects(store.appendLog(Uint8Array.of(3)), /72 bytes instead of 104/);
  });
});

describe('state.bin', () => {
  it('survives a crash that left a half-written temporary file', async () => {
    const directory = await newDirectory();
    const store = new FileStore(directory, RUN_ID);
    await store.saveState(sampleState(2));
    await writeFile(`${directory.pathOf('state')}.tmp`, 'half');
    assert.deepEqual(await store.loadState(), sampleState(2));
    await store.saveState(sampleState(3));
    assert.deepEqual(await store.loadState(), sampleState(3));
    assert.deepEqual(await readdir(directory.path), ['state.bin']);
  });
});

/** Files beside the log: what is saved, how it is found again, and what is said when it is lost. */
const ARRAY_FILES = [
  {
    name: 'state.bin',
    path: (directory: DataDirectory) => directory.pathOf('state'),
    save: (store: FileStore) => store.saveState(sampleState(2)),
    load: (store: FileStore): Promise<unknown> => store.loadState(),
    loss: /empty residual/,
  },
  {
    name: 'moments.bin',
    path: (directory: DataDirectory) => directory.pathOf('moments'),
    save: (store: FileStore) => store.saveMoments(new HeldMoments(sampleMoments(2))),
    load: (store: FileStore): Promise<unknown> => store.loadMoments(),
    loss: /zero moments/,
  },
  {
    name: 'seal.bin',
    path: (directory: DataDirectory) => directory.pathOf('seal'),
    save: (store: FileStore) => store.saveSeal(sampleSeal(12)),
    load: (store: FileStore): Promise<unknown> => store.loadSeal(),
    loss: /comes back from other peers/,
  },
  {
    name: 'sum-12.bin',
    path: (directory: DataDirectory) => directory.sumPath(12),
    save: (store: FileStore) => store.saveSum(12, sampleSum(12)),
    load: (store: FileStore): Promise<unknown> => store.loadSum(12),
    loss: /made again, or comes back from other peers/,
  },
];

for (const { name, path: pathOf, save, load, loss } of ARRAY_FILES) {
  describe(name, () => {
    it('is put aside when any byte of it changed or it was cut off, and the peer goes on without', async () => {
      const directory = await newDirectory();
      const path = pathOf(directory);
      await save(new FileStore(directory, RUN_ID));
      const whole = await readFile(path);
      const spoiled = [...whole.keys()].map((position) => {
        const damaged = Buffer.from(whole);
        damaged[position] = (damaged[position] ?? 0) ^ 0x40;
        return damaged;
      });
      for (const length of [0, 5, 47, whole.length - 1]) spoiled.push(whole.subarray(0, length));
      spoiled.push(Buffer.concat([whole, Uint8Array.of(0)]));
      for (const [i, damaged] of spoiled.entries()) {
        await writeFile(path, damaged);
        const store = new FileStore(directory, RUN_ID);
        assert.equal(await load(store), null, `case ${i}`);
        assert.match(store.warnings.join(), new RegExp(`is damaged .*kept as .*${name}.damaged`));
        assert.match(store.warnings.join(), loss);
        assert.deepEqual(await readFile(`${path}.damaged`), damaged);
        assert.equal(existsSync(path), false);
      }
    });

    it('of another run is put aside', async () => {
      const directory = await newDirectory();
      await save(new FileStore(directory, RUN_ID));
      const other = new FileStore(directory, 'cd'.repeat(32));
      assert.equal(await load(other), null);
      assert.match(other.warnings.join(), /belongs to run abab/);
    });
  });
}

describe('a sum that is served', () => {
  it('is read in parts without being loaded, and rejects when it became shorter', async () => {
    const directory = await newDirectory();
    const store = new FileStore(directory, RUN_ID);
    await store.saveSum(12, sampleSum(12, 1000));
    const path = directory.sumPath(12);
    const { size } = await stat(path);
    await truncate(path, size - 32 - 8);
    await store.readSum(12, 0, 7992);
    await assert.rejects(store.readSum(12, 0, 8000), StoreUnavailableError);
  });
});

describe('a log larger than what is read at one time', () => {
  it('gives every record, whatever its length and where it lies', async () => {
    const directory = await newDirectory();
    const store = new FileStore(directory, RUN_ID);
    await recordsOf(store);
    // 4 MiB are read at a time: one record is longer, and some lie across the border.
    const lengths = [20, 3_000_000, 1_200_000, 5_000_000, 1, 4_194_304, 4_194_292, 700];
    const places: number[] = [];
    for (const [i, length] of lengths.entries()) {
      places.push(await store.appendLog(new Uint8Array(length).fill(i + 1)));
    }
    const seen: [number, number, number][] = [];
    await new FileStore(directory, RUN_ID).loadLog((record, place) => {
      assert.ok(record.every((byte) => byte === record[0]));
      seen.push([record[0] ?? 0, record.length, place]);
    });
    assert.deepEqual(
      seen,
      lengths.map((length, i) => [i + 1, length, places[i]]),
    );
  });

  it('is found again behind damage of any length', async () => {
    const directory = await newDirectory();
    const store = new FileStore(directory, RUN_ID);
    await recordsOf(store);
    for (let i = 1; i <= 6; i++) await store.appendLog(new Uint8Array(2_000_000).fill(i));
    const path = directory.pathOf('log');
    const bytes = await readFile(path);
    // The frame of the second record, the whole third one, and some of the fourth.
    bytes.fill(0x33, HEADER + 2_000_012, HEADER + 3 * 2_000_012 + 500_000);
    await writeFile(path, bytes);
    const scan = await scanned(path);
    assert.deepEqual(scan?.records, [1, 5, 6]);
    assert.deepEqual([scan.end, scan.tailBytes], [bytes.length, 0]);
  });
});

describe('a disk that refuses', () => {
  const linux = process.platform === 'linux';

  it('full: says so, keeps the old state and the log', async () => {
    const directory = await withLog([1]);
    const store = new FileStore(directory, RUN_ID);
    await recordsOf(store);
    await store.saveState(sampleState(2));
    const full = new RecordingDisk();
    full.faultAt = (_, name) => (name.startsWith('write ') ? { errno: 'ENOSPC' } : null);
    await assert.rejects(store.saveState(sampleState(3)), (error) => {
      assert.ok(error instanceof StoreUnavailableError);
      assert.match(error.message, /^cannot write .*state\.bin: the disk is full; free some space/);
      return true;
    });
    full.close();
    assert.deepEqual(await store.loadState(), sampleState(2));
    await store.saveState(sampleState(4));
    assert.deepEqual(await store.loadState(), sampleState(4));
  });

  it(
    'full while appending: says so and appends once there is space',
    { skip: !linux },
    async () => {
      const directory = await withLog([1]);
      const store = new FileStore(directory, RUN_ID);
      await recordsOf(store);
      await rename(directory.pathOf('log'), `${directory.pathOf('log')}.away`);
      // /dev/full takes no byte: every write gives ENOSPC, as on a full disk.
      await symlink('/dev/full', directory.pathOf('log'));
      await assert.rejects(store.appendLog(Uint8Array.of(2)), /the disk is full/);
      await rm(directory.pathOf('log'));
      await rename(`${directory.pathOf('log')}.away`, directory.pathOf('log'));
      await store.appendLog(Uint8Array.of(3));
      assert.deepEqual(await values(new FileStore(directory, RUN_ID)), [1, 3]);
    },
  );

  it('read-only: says so', { skip: !existsSync('/proc/sys/kernel') }, async () => {
    // Nobody, root included, can make files in /proc.
    const store = new FileStore(new DataDirectory('/proc/sys/kernel'), RUN_ID);
    await assert.rejects(store.saveState(sampleState(1)), (error) => {
      assert.ok(error instanceof StoreUnavailableError);
      assert.match(error.message, /^cannot write \/proc\/sys\/kernel\/state\.bin: /);
      return true;
    });
  });
});
