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
import { DataDirectory } from '../../../node/store/directory.js';
import { decodeCheckpoint, encodeCheckpoint } from '../../../node/store/checkpoint-codec.js';
import { FileStore } from '../../../node/store/file-store.js';
import { readLog } from '../../../node/store/log-file.js';
import { describeTheta } from '../../../protocol/checkpoint.js';
import { sampleCheckpoint, sampleState, storeCompliance } from '../../compliance/store.js';
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
  await store.loadLog();
  for (const value of values) await store.appendLog(new Uint8Array(20).fill(value));
  return directory;
}

async function values(store: FileStore): Promise<number[]> {
  return (await store.loadLog()).map((record) => record[0] ?? -1);
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

  it('leaves out a damaged record in the middle, keeps those after it and the old file', async () => {
    const directory = await withLog([1, 2, 3]);
    const bytes = await readFile(directory.pathOf('log'));
    bytes[HEADER + RECORD + 15] = 99;
    await writeFile(directory.pathOf('log'), bytes);
    const store = new FileStore(directory, RUN_ID);
    assert.deepEqual(await values(store), [1, 3]);
    assert.match(store.warnings.join(), /1 damaged record was left out/);
    assert.deepEqual(await readFile(`${directory.pathOf('log')}.damaged`), bytes);
    const again = new FileStore(directory, RUN_ID);
    assert.deepEqual(await values(again), [1, 3]);
    assert.deepEqual(again.warnings, []);
  });

  it('loses no record but the damaged one, whichever byte of it is damaged and however', async () => {
    for (let at = 0; at < RECORD; at++) {
      for (const mask of [0x01, 0x80]) {
        const directory = await withLog([1, 2, 3, 4]);
        const bytes = await readFile(directory.pathOf('log'));
        bytes[HEADER + RECORD + at]! ^= mask;
        await writeFile(directory.pathOf('log'), bytes);
        const scan = await readLog(directory.pathOf('log'), RUN_ID);
        assert.deepEqual(
          scan?.records.map(([first]) => first),
          [1, 3, 4],
          `byte ${at} ^ ${mask}`,
        );
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
      const scan = await readLog(path, RUN_ID);
      const whole = Math.floor((length - HEADER) / RECORD);
      assert.equal(scan?.records.length, whole, `${length} bytes`);
      assert.deepEqual([scan.damaged, scan.tailBytes], [0, (length - HEADER) % RECORD]);
    }
  });

  it('is read by readLog without being changed', async () => {
    const directory = await withLog([1, 2]);
    await truncate(directory.pathOf('log'), HEADER + 2 * RECORD - 3);
    const scan = await readLog(directory.pathOf('log'), RUN_ID);
    assert.equal(scan?.records.length, 1);
    assert.equal(scan.tailBytes, RECORD - 3);
    assert.equal((await stat(directory.pathOf('log'))).size, HEADER + 2 * RECORD - 3);
    assert.equal(await readLog(directory.pathOf('manifest'), RUN_ID), null);
  });

  it('refuses the log of another run', async () => {
    const directory = await withLog([1]);
    await assert.rejects(
      new FileStore(directory, 'cd'.repeat(32)).loadLog(),
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
    await store.loadLog();
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
    await store.loadLog();
    await truncate(directory.pathOf('log'), HEADER + RECORD);
    await assert.rejects(store.appendLog(Uint8Array.of(3)), /72 bytes instead of 104/);
  });
});

describe('state.bin', () => {
  it('is put aside when a byte of it changed, and the peer begins with none', async () => {
    const directory = await newDirectory();
    await new FileStore(directory, RUN_ID).saveState(sampleState(2));
    const path = directory.pathOf('state');
    const whole = await readFile(path);
    for (const position of [0, 9, 13, 40, whole.length - 60, whole.length - 1]) {
      const damaged = Buffer.from(whole);
      damaged[position] = (damaged[position] ?? 0) ^ 0x40;
      await writeFile(path, damaged);
      const store = new FileStore(directory, RUN_ID);
      assert.equal(await store.loadState(), null, `byte ${position}`);
      assert.match(
        store.warnings.join(),
        /is damaged .*kept as state\.bin\.damaged.*empty residual/,
      );
      assert.deepEqual(await readFile(`${path}.damaged`), damaged);
      assert.equal(existsSync(path), false);
    }
  });

  it('is put aside when it is cut off, empty or of another run', async () => {
    const directory = await newDirectory();
    const store = new FileStore(directory, RUN_ID);
    await store.saveState(sampleState(2));
    const whole = await readFile(directory.pathOf('state'));
    for (const length of [0, 5, 47, whole.length - 1]) {
      await writeFile(directory.pathOf('state'), whole.subarray(0, length));
      assert.equal(await store.loadState(), null, `length ${length}`);
    }
    await writeFile(directory.pathOf('state'), whole);
    const other = new FileStore(directory, 'cd'.repeat(32));
    assert.equal(await other.loadState(), null);
    assert.match(other.warnings.join(), /belongs to run abab/);
  });

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

describe('checkpoint.bin', () => {
  it('is put aside with its log when a byte of it changed, it is cut off or of another run', async () => {
    const directory = await withLog([1, 2]);
    const [path, log] = [directory.pathOf('checkpoint'), directory.pathOf('log')];
    await new FileStore(directory, RUN_ID).saveCheckpoint(sampleCheckpoint(3));
    const [whole, records] = [await readFile(path), await readFile(log)];
    const spoiled = [0, 9, 13, 40, whole.length - 60, whole.length - 1].map((position) => {
      const damaged = Buffer.from(whole);
      damaged[position] = (damaged[position] ?? 0) ^ 0x40;
      return damaged;
    });
    for (const length of [0, 5, 47, whole.length - 1]) spoiled.push(whole.subarray(0, length));
    for (const damaged of spoiled) {
      await writeFile(path, damaged);
      await writeFile(log, records);
      const store = new FileStore(directory, RUN_ID);
      assert.equal(await store.loadCheckpoint(), null);
      assert.deepEqual(await store.loadLog(), [], 'updates without what they go on from');
      assert.match(
        store.warnings.join(),
        /is damaged .*kept as checkpoint\.bin\.damaged .*come back from other peers/,
      );
      assert.deepEqual(await readFile(`${path}.damaged`), damaged);
      assert.deepEqual(await readFile(`${log}.damaged`), records);
    }
    await writeFile(path, whole);
    const stranger = new FileStore(directory, 'cd'.repeat(32));
    assert.equal(await stranger.loadCheckpoint(), null);
    assert.match(stranger.warnings.join(), /belongs to run abab/);
  });
});

describe('a checkpoint with NaN or infinity', () => {
  it('is damaged, though all of its hashes match', () => {
    for (const broken of [NaN, Infinity, -Infinity]) {
      const theta = Float64Array.of(1, broken, 2);
      const { checkpoint, own } = sampleCheckpoint(2);
      const spoilt = { ...checkpoint, ...describeTheta(theta) };
      const sound = { ...checkpoint, ...describeTheta(Float64Array.of(1, 2, 3)) };
      for (const stored of [
        { checkpoint: spoilt, own, debt: null },
        { checkpoint: sound, own, debt: { name: 'a', vector: theta } },
      ]) {
        const bytes = Buffer.concat(encodeCheckpoint(RUN_ID, stored));
        assert.throws(() => decodeCheckpoint(RUN_ID, bytes), /holds NaN or infinity/);
      }
    }
  });
});

describe('a disk that refuses', () => {
  const linux = process.platform === 'linux';

  it('full: says so, keeps the old state and the log', async () => {
    const directory = await withLog([1]);
    const store = new FileStore(directory, RUN_ID);
    await store.loadLog();
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
      await store.loadLog();
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
